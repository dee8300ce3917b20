"""The trust list that gateway and agents pin: where the federation's key is given, the list must be signed by it."""

from __future__ import annotations

import json

import pytest

from federation.suites.registry import suite
from federation.trust import sign_list
from gateway import settings as gateway_settings
from gateway.app import pinned
from node_agent import settings as node_settings
from node_agent.documents import trust_list
from tests.fakes.issuing import Archive, trust_json

INTL = suite("intl-1")
FEDERATION, OTHER = (INTL.generate("Ed25519") for _ in range(2))
LISTED = json.loads(trust_json(Archive().entry()))


def gateways(folder, lines):
    (folder / "gateway.toml").write_text(lines, "utf-8")
    return pinned(gateway_settings.load(folder / "gateway.toml"), folder)[1]


def agents(folder, lines):
    (folder / "archive.toml").write_text(
        f'archive = "330483"\nname = "桐乡市档案馆"\n[documents]\ngateway = "https://g.example"\n{lines}',
        "utf-8",
    )
    return trust_list(folder, node_settings.load(folder))


SIDES = pytest.mark.parametrize(
    ("reads", "refused"),
    [(gateways, gateway_settings.SettingsError), (agents, node_settings.SettingsError)],
    ids=["gateway", "agent"],
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "federation.jwk").write_text(json.dumps(INTL.jwk(FEDERATION.public)))
    return tmp_path


def put(folder, tree):
    (folder / "trust.json").write_text(json.dumps(tree), "utf-8")


PINNED = 'trust_list = "trust.json"\ntrust_list_key = "federation.jwk"\n'


@SIDES
def test_a_list_is_taken_by_the_signature_of_the_key_that_is_given(folder, reads, refused):
    put(folder, sign_list(LISTED, FEDERATION))
    assert "330483" in reads(folder, PINNED).parties
    altered = sign_list(LISTED, FEDERATION) | {"epoch": LISTED["epoch"] + 1}
    for tree in (LISTED, sign_list(LISTED, OTHER), altered):
        put(folder, tree)
        with pytest.raises(refused, match="trust_list: "):
            reads(folder, PINNED)
        assert "330483" in reads(folder, 'trust_list = "trust.json"\n').parties, (
            "without a key it is taken as it is"
        )


@SIDES
@pytest.mark.parametrize("key", ["", "{}", "garbage", "{"], ids=["missing", "empty", "no JSON", "cut"])
def test_a_key_that_is_none_is_named_and_no_list_is_taken_without_it(folder, reads, refused, key):
    put(folder, sign_list(LISTED, FEDERATION))
    (folder / "federation.jwk").unlink()
    if key:
        (folder / "federation.jwk").write_text(key)
    with pytest.raises(refused, match="trust_list_key: "):
        reads(folder, PINNED)


@SIDES
def test_a_key_and_no_list_to_be_signed_by_it_is_told(folder, reads, refused):
    with pytest.raises(refused, match=r"trust_list_key: .* there is no trust_list"):
        reads(folder, 'trust_list_key = "federation.jwk"\n')
    assert reads(folder, "") is None
