"""What gateway.toml and the roster may say, and how they are refused."""

import sys

import pytest

from gateway.__main__ import main
from gateway.app import platforms, usable_credentials
from gateway.search.roster import Roster, RosterError
from gateway.settings import GatewaySettings, SettingsError, load

JWK = (
    '{kty = "EC", crv = "P-256", x = "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",'
    ' y = "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}'  # RFC 7517, A.1
)
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


def test_what_is_wrong_is_said_in_both_languages_with_its_key(tmp_path):
    told = refusal(tmp_path, 'port = "x"\nhost = "0.0.0.0"\nports = 1\n')
    assert "port: 应为整数 · must be a whole number" in told
    assert "ports: 不认识的键 · unknown key" in told
    told = refusal(tmp_path, 'host = "0.0.0.0"\n')
    assert "the settings are wrong: 明文" in told
    assert "alue error" not in told
    (tmp_path / "gateway.toml").unlink()
    (tmp_path / "gateway.toml").mkdir()
    with pytest.raises(SettingsError, match=r"there is no settings file .*gateway\.toml"):
        load(tmp_path / "gateway.toml")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[[client]]\nid = "p"\nscop = "search"\njwk = {}\n', r"\[\[client\]\] 1: .* unknown key: scop"),
        ("[[client]]\njwk = {}\n", "id is missing"),
        ('[[client]]\nid = "p"\n', "jwk must be a public P-256 key"),
        ('[[clients]]\nid = "p"\n', "tables only"),
        ("client = [1]\n", "tables only"),
        ('[[client]]\nid = "张三"\n', r"id must be 1 to 64 letters, digits or \. _ -"),
        ('[[client]]\nid = "p"\nscope = "serch"\n', "scope must be of: search cases"),
        ('[[client]]\nid = "p"\nscope = ""\n', "scope must be of: search cases"),
        (2 * f'[[client]]\nid = "p"\njwk = {JWK}\n', "this id stands there twice: p"),
        ("[[client", "not valid TOML"),
    ],
)
def test_a_file_of_platforms_is_refused_with_its_name_and_what_is_wrong_in_it(tmp_path, lines, said):
    (tmp_path / "clients.toml").write_text(lines)
    with pytest.raises(SettingsError, match=rf"^clients: .*clients\.toml: .*{said}"):
        platforms(GatewaySettings(clients="clients.toml"), tmp_path)


def test_certificates_and_keys_are_refused_with_their_setting_and_file(tmp_path, capsys):
    (tmp_path / "garbage.pem").write_text("garbage")
    (tmp_path / "roster.toml").write_text(ROW.format("330400", 'address = "127.0.0.1:1"'), "utf-8")
    config = tmp_path / "gateway.toml"
    for setting, more, said in (
        ("http_key", 'http_certificate = "c.pem"', "missing"),
        ("http_certificate", 'http_certificate = "c.pem"\nhttp_key = "k.pem"', "can not read"),
        ("signing_key", 'signing_key = "garbage.pem"', "no private key"),
        ("webhook_key", 'webhook_key = "garbage.pem"', "no private key"),
        ("stamp_certificate", 'stamp_authority = "http://tsa.example"', "missing"),
        ("trust_list", 'trust_list = "none.json"', "can not read"),
    ):
        config.write_text(f"plaintext_on_loopback = true\n{more}\n")
        assert main(["check", "--config", str(config)]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"lantai-gateway check: {setting}: ")
        assert said in told


def test_what_the_system_refuses_is_told_with_its_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "gateway.toml").write_text('data = "file"\n')
    assert main(["db", "upgrade", "--config", str(tmp_path / "gateway.toml")]) == 1
    assert capsys.readouterr().err == f"lantai-gateway db: {tmp_path / 'file'}: File exists\n"


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch, tmp_path):
    settings = GatewaySettings(store="postgresql+psycopg://store.example/lantai")
    assert settings.store_url(tmp_path) == settings.store
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"^store: .*lantai\[postgres\]"):
        settings.store_url(tmp_path)
    assert GatewaySettings().store_url(tmp_path).startswith("sqlite:///")
