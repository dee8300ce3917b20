"""What gateway.toml and the roster may say, and how they are refused."""

import pytest

from gateway.app import usable_credentials
from gateway.search.roster import Roster, RosterError
from gateway.settings import GatewaySettings, SettingsError, load

ROW = '[[archive]]\ncode = "{}"\nname = "档案馆"\n{}\n'


def refusal(folder, text: str) -> str:
    path = folder / "gateway.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SettingsError) as refused:
        load(path)
    return str(refused.value)


def roster(folder, text: str) -> Roster:
    path = folder / "roster.toml"
    path.write_text(text, "utf-8")
    return Roster.load(path)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1", "127.0.0.1:８０"])
def test_an_address_nothing_could_be_at_is_refused(tmp_path, address):
    told = refusal(tmp_path, f'link_listen = "{address}"\n')
    assert "link_listen: " in told
    assert repr(address) in told
    with pytest.raises(RosterError, match=r"roster\.toml: \[\[archive\]\] 1: address: "):
        roster(tmp_path, ROW.format("330400", f'address = "{address}"'))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('epoch = "x"\n' + ROW.format("330400", "dials_in = true"), "epoch 应为整数"),
        (ROW.format("330400", 'dials_in = true\nauthority = "x"'), "1: authority 应为整数"),
        (2 * ROW.format("330400", "dials_in = true"), "twice: 330400"),
    ],
)
def test_a_roster_is_refused_with_its_file_and_what_is_wrong_in_it(tmp_path, text, said):
    with pytest.raises(RosterError) as refused:
        roster(tmp_path, text)
    assert str(refused.value).startswith(f"{tmp_path / 'roster.toml'}: ")
    assert said in str(refused.value)


def test_archives_that_dial_in_need_somewhere_to_dial(tmp_path):
    members = roster(tmp_path, ROW.format("330400", "dials_in = true"))
    with pytest.raises(SettingsError, match=r"^link_listen: .* 330400"):
        usable_credentials(GatewaySettings(plaintext_on_loopback=True), tmp_path, members)
    heard = GatewaySettings(plaintext_on_loopback=True, link_listen="127.0.0.1:0")
    assert usable_credentials(heard, tmp_path, members).is_plaintext
