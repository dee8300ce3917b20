"""`lantai-gateway platform`: the file of platforms changed by command. Private keys do not come in, secrets do not go out."""

import base64
import itertools
import json
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from federation.suites.encoding import thumbprint
from gateway.__main__ import main
from gateway.adapters.hooks import read_targets
from gateway.edge.tokens import Clients

KEY = ec.generate_private_key(ec.SECP256R1())
JWK = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
OTHER = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
SECRETS = [f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2)]
HOOK = "https://portal.example:8443/hook?token=hush"
TABLE = ", ".join(f'{part} = "{value}"' for part, value in (OTHER | {"kid": "2024"}).items())
CLIENTS = f"""\
# who called us, and when: see the ledger
[[client]]
id = "city"  # of 2024
scope = "search cases"
jwk = {{{TABLE}}}
webhook = "https://city.example/in/hush"
webhook_secret = "{SECRETS[1]}"
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "gateway.toml").write_text('clients = "clients.toml"\n')
    (tmp_path / "clients.toml").write_text(CLIENTS)
    (tmp_path / "key.json").write_text(json.dumps(JWK))
    for number, secret in enumerate(SECRETS):
        (tmp_path / f"secret-{number}").write_text(secret + "\n")
    return tmp_path


def platform(folder, action, *arguments):
    return main(["platform", action, *arguments, "--config", str(folder / "gateway.toml")])


def text(folder):
    return (folder / "clients.toml").read_text("utf-8")


def pem(key, *, private=False):
    encoding = serialization.Encoding.PEM
    if private:
        return key.private_bytes(
            encoding, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    return key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def clients(folder):
    return Clients.load(folder / "clients.toml")._keys


@pytest.mark.parametrize(
    "given",
    [
        json.dumps(JWK).encode(),
        json.dumps({"keys": [JWK | {"kid": "a", "use": "sig", "alg": "ES256"}]}).encode(),
        pem(KEY),
    ],
)
def test_a_platform_is_added_by_its_public_key(folder, capsys, given):
    (folder / "key.json").write_bytes(given)
    assert platform(folder, "add", "portal", "--key", str(folder / "key.json"), "--scope", "cases") == 0
    key, scope = clients(folder)["portal"]
    assert (key.public.public_numbers(), scope) == (KEY.public_key().public_numbers(), "cases")
    assert text(folder).startswith(CLIENTS)
    told = capsys.readouterr().out
    assert '+ portal\n    id = "portal"\n    scope = "cases"\n' in told
    assert thumbprint({part: JWK[part] for part in ("kty", "crv", "x", "y")}) in told
    assert "running gateways read it at their next start" in told


def test_a_dry_run_tells_the_same_and_changes_nothing(folder, capsys):
    assert platform(folder, "add", "portal", "--key", str(folder / "key.json"), "--dry-run") == 0
    told = capsys.readouterr().out
    assert "+ portal\n" in told
    assert "nothing was changed" in told
    assert text(folder) == CLIENTS


def test_where_it_is_called_back_goes_in_and_no_secret_comes_out(folder, capsys):
    arguments = ["--webhook", HOOK, "--webhook-networks", "10.1.0.0/16"]
    for number in (0, 1):
        arguments += ["--webhook-secret", str(folder / f"secret-{number}")]
    assert platform(folder, "add", "portal", "--key", str(folder / "key.json"), *arguments) == 0
    target = read_targets(folder / "clients.toml")["portal"]
    assert target.url == HOOK
    assert list(target.signer.secrets) == [b"\x01" * 32, b"\x02" * 32]
    assert [str(one) for one in target.networks] == ["10.1.0.0/16"]
    assert platform(folder, "change", "city", "--webhook-secret", str(folder / "secret-0")) == 0
    assert platform(folder, "change", "city", "--webhook", "https://city.example/in/other-hush") == 0
    assert platform(folder, "list") == platform(folder, "list", "--json") == 0
    assert platform(folder, "remove", "city") == platform(folder, "remove", "portal") == 0
    told = "".join(capsys.readouterr())
    assert 'webhook = "https://portal.example:8443/…"' in told
    assert "webhook_secret: *** ×1 → *** ×1" in told
    for secret in (*SECRETS, *(one.removeprefix("whsec_") for one in SECRETS), "hush"):
        assert secret not in told


def test_a_platform_is_changed_where_it_says_so_and_nowhere_else(folder):
    assert platform(folder, "change", "city", "--key", str(folder / "key.json"), "--scope", "search") == 0
    inline = ", ".join(f'{part} = "{JWK[part]}"' for part in ("kty", "crv", "x", "y"))
    assert text(folder) == CLIENTS.replace(TABLE, inline).replace('"search cases"', '"search"')
    before = text(folder)
    assert platform(folder, "change", "city", "--without", "webhook_secret") == 0
    assert text(folder) == before.replace(f'webhook_secret = "{SECRETS[1]}"\n', "")


def test_what_would_be_the_same_changes_nothing(folder, capsys):
    (folder / "key.json").write_text(json.dumps(OTHER | {"kid": "new"}))
    assert platform(folder, "change", "city", "--key", str(folder / "key.json")) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert platform(folder, "change", "city") == 2
    assert text(folder) == CLIENTS


def test_the_first_platform_begins_the_file_for_its_owner_alone(folder):
    (folder / "clients.toml").unlink()
    assert platform(folder, "add", "portal", "--key", str(folder / "key.json")) == 0
    assert list(clients(folder)) == ["portal"]
    assert stat.S_IMODE((folder / "clients.toml").stat().st_mode) == 0o600


def test_the_list_is_told_for_people_and_for_programs(folder, capsys):
    assert platform(folder, "list") == 0
    its = thumbprint({part: OTHER[part] for part in ("kty", "crv", "x", "y")})
    assert capsys.readouterr().out == (
        f'city  scope="search cases"  {its}  https://city.example\n1 个平台 · 1 platforms\n'
    )
    assert platform(folder, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "platforms": [
            {"id": "city", "scope": "search cases", "thumbprint": its, "webhook": "https://city.example",
             "webhook_secrets": 1, "webhook_networks": []}
        ]
    }  # fmt: skip


PRIVATE = ECAlgorithm.to_jwk(KEY, as_dict=True)
RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (pem(KEY, private=True), "this is a private key"),
        (pem(RSA, private=True), "this is a private key"),
        (json.dumps(PRIVATE), "this is a private key"),
        (json.dumps({"kty": "oct", "k": "AAAA"}), "this is a private key"),
        (json.dumps({"keys": [PRIVATE]}), "this is a private key"),
        (pem(RSA), "(ES256), not RSA"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "(ES256), not Ed25519"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "(ES256), not E"),
        (RSAAlgorithm.to_jwk(RSA.public_key()), "(ES256), not RSA"),
        (json.dumps(JWK | {"crv": "P-192"}), "(ES256), not EC/P-192"),
        (json.dumps(JWK | {"alg": "none"}), "(ES256), not EC/P-256/none"),
        (json.dumps(JWK | {"use": "enc"}), "(ES256), not EC/P-256/enc"),
        (json.dumps({"kty": "EC", "crv": "P-256", "x": JWK["x"]}), "(ES256), not EC/P-256"),
        (json.dumps(JWK | {"x": JWK["y"]}), "jwk can not be used"),
        (json.dumps({"keys": [JWK, OTHER]}), "it must hold one key"),
        (json.dumps({"keys": []}), "it must hold one key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "the key can not be used"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "PEM that begins with BEGIN PUBLIC KEY",
        ),
        ('{"kty": "EC", "kty": "EC"}', "must be a JWK"),
        (b"\x00\xff", "not text"),
        (b" " * 20_000, "longer than 16384 bytes"),
        (json.dumps(OTHER), "this is the key of the platform city"),
    ],
    ids=itertools.count(),  # keys are other ones in each process, and may not stand in a name
)
def test_what_is_no_public_key_for_our_signatures_is_refused_by_name(folder, capsys, given, said):
    (folder / "key.json").write_bytes(given if isinstance(given, bytes) else given.encode())
    assert platform(folder, "add", "portal", "--key", str(folder / "key.json")) == 1
    told = capsys.readouterr()
    assert told.err.startswith("lantai-gateway platform: ")
    assert said in told.err
    assert PRIVATE["d"] not in told.err
    assert told.out == ""
    assert text(folder) == CLIENTS


@pytest.mark.parametrize(
    ("action", "arguments", "said"),
    [
        ("add", ("city",), "this id stands there twice: city"),
        ("add", ("张三",), "id must be 1 to 64 letters"),
        ("add", ("portal", "--scope", "serch"), "scope must be of: search cases"),
        ("add", ("portal", "--scope", " "), "scope must be of: search cases"),
        ("add", ("portal", "--scope", ""), "--scope: 不得为空"),
        ("change", ("city", "--scope", "search", "--webhook", ""), "--webhook: 不得为空"),
        ("add", ("portal", "--webhook", "http://portal.example/"), "webhook must be https"),
        ("add", ("portal", "--webhook", "https://10.0.0.1/"), "client portal: "),
        ("add", ("portal", "--webhook", HOOK, "--webhook-networks", "10.0.0.1/8"), "client portal: "),
        (
            "add",
            ("portal", "--webhook", HOOK, "--webhook-secret", "key.json"),
            "webhook_secret must be base64",
        ),
        ("add", ("portal", "--webhook-secret", "secret-0"), "there is no address to call"),
        ("change", ("city", "--without", "webhook"), "there is no address to call"),
        (
            "change",
            ("city", "--webhook", HOOK, "--without", "webhook"),
            "--without webhook: 已另给新值 · given a value",
        ),
        ("change", ("portal", "--scope", "cases"), "there is no [[client]] with id = portal"),
        ("remove", ("portal",), "there is no [[client]] with id = portal"),
    ],
)
def test_what_the_gateway_would_not_read_is_not_written(folder, capsys, monkeypatch, action, arguments, said):
    monkeypatch.chdir(folder)
    key = ("--key", "key.json") if action == "add" else ()
    assert platform(folder, action, *arguments, *key) == 1
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""
    assert text(folder) == CLIENTS
    assert not list(folder.glob("*.new"))


def test_settings_without_a_file_of_platforms_are_named(folder, capsys):
    (folder / "gateway.toml").write_text("port = 1\n")
    assert platform(folder, "list") == 1
    assert "the settings name no file of platforms" in capsys.readouterr().err
