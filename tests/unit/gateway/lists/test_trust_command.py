"""`lantai-gateway trust`: from the keys archives hand in to a signed list by which a document verifies, and all that is refused."""

import json
import os
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from federation.credential.certificate import Certificate
from federation.credential.qr import build
from federation.credential.status_list import StatusList, sign_cwt
from federation.suites.registry import suite
from federation.tlog.note import KeyKind, Signer
from federation.trust import TrustList, Use
from federation.verify import __main__ as lantai_verify
from federation.verify.report import rfc3339
from federation.verify.status import StatusReference
from gateway.__main__ import main
from loadtest.authorities.seals import SealAuthority
from node_agent import __main__ as node
from node_agent.certificates import keys as key_files
from tests.fakes.issuing import Archive

INTL = suite("intl-1")
NOW = datetime.now(UTC).replace(microsecond=0)


class Office:
    """The machine the federation's key is on: a folder with key, list and entries, and no gateway."""

    def __init__(self, folder, capsys):
        self.folder, self._capsys = folder, capsys
        self.key, self.list = folder / "federation.pem", folder / "trust.json"
        self.public = folder / "federation.jwk"
        self.public.write_text(self("key", "--create").out)

    def __call__(self, action, *arguments, key=True, status=0):
        """Run one command; what it said."""
        self._capsys.readouterr()
        of = ["--list", self.list] if action not in {"key", "entry"} else []
        if action == "key" or (key and action not in {"list", "entry"}):
            of += ["--key", self.key]
        assert main([str(one) for one in ("trust", action, *arguments, *of)]) == status
        return self._capsys.readouterr()

    def refused(self, action, *arguments, **more):
        """Why it did nothing."""
        before = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}
        said = self(action, *arguments, status=1, **more)
        assert {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()} == before
        assert said.out == ""
        assert said.err.startswith("lantai-gateway trust: ")
        return said.err

    def entry(self, archive, name="", **changes):
        """A file with what an archive hands in."""
        path = self.folder / f"{name or archive.code}.entry"
        path.write_text(json.dumps(archive.entry(**changes)), "utf-8")
        return path

    def begun(self, *archives):
        self("add", *(self.entry(one) for one in archives), "--federation", "lantai")
        return self

    @property
    def tree(self):
        return json.loads(self.list.read_bytes())

    @property
    def trust(self):
        """The list, as whoever pins the federation's key reads it."""
        jwk = json.loads(self.public.read_text())
        return TrustList.load(self.list.read_bytes(), signed_by=INTL.public_key(jwk, "Ed25519"))


@pytest.fixture
def office(tmp_path, capsys):
    folder = tmp_path / "office"
    folder.mkdir()
    return Office(folder, capsys)


HAIYAN = Archive("330424", "海盐县档案馆")
TONGXIANG = Archive()


# the round -------------------------------------------------------------------------------------------------------


def real_archive(folder, capsys):
    """What `lantai-node keys create` and a seal's authority make, and what `keys show` prints of it."""
    common = ["--data", str(folder)]
    told = [
        "--archive",
        "330483",
        "--name",
        "桐乡市档案馆",
        "--listen",
        "127.0.0.1:1",
        "--plaintext-on-loopback",
    ]
    assert node.main(["init", *common, *told]) == 0
    assert node.main(["keys", "create", *common]) == 0
    (folder / "keys" / "seal.key").unlink()
    SealAuthority().issue("桐乡市档案馆").write(folder / "keys", "seal")
    capsys.readouterr()
    assert node.main(["keys", "show", *common]) == 0
    return capsys.readouterr().out


def test_what_an_archive_hands_in_becomes_a_list_by_which_its_documents_verify(office, tmp_path, capsys):
    archive = tmp_path / "330483"
    entry = office.folder / "tongxiang.json"
    entry.write_text(real_archive(archive, capsys), "utf-8")
    said = office("add", entry, "--federation", "lantai").out
    assert office.trust.epoch == 1
    assert sorted(key.use for key in office.trust.parties["330483"].keys.values()) == sorted(
        [Use.CREDENTIAL, Use.STATUS, Use.DELIVERY, Use.LOG, Use.WITNESS, Use.SEAL]
    )
    assert all(key.id in said for key in office.trust.parties["330483"].keys.values())
    assert stat.S_IMODE(office.list.stat().st_mode) == 0o644
    assert stat.S_IMODE(office.key.stat().st_mode) == 0o600

    keys = key_files.load(archive)
    where = StatusReference("https://lantai.example/status/330483/1", 7)
    certificate = Certificate(
        issuer="330483", kind="marriage", number="330483-2026-000123", facts={"name": "錢偉明"},
        issued_at=NOW, expires_at=NOW + timedelta(days=90), digest="ab" * 32,
    )  # fmt: skip
    text = build(certificate, key=keys.credential.key, key_id=keys.credential.id, status=where)
    standing = tmp_path / "330483.statuslist"
    standing.write_bytes(
        sign_cwt(StatusList(1_000), uri=where.uri, key=keys.status.key, key_id=keys.status.id, at=NOW)
    )
    judged = [
        text,
        "--trust",
        str(office.list),
        "--federation-key",
        str(office.public),
        "--status",
        str(standing),
    ]
    assert lantai_verify.main(judged) == 0
    office.list.write_bytes(office.list.read_bytes().replace("桐乡".encode(), "海盐".encode()))
    assert lantai_verify.main(judged) == lantai_verify.CANNOT_TELL  # the signature is over all of it


def test_the_key_of_a_log_begun_anew_stands_beside_the_old_one(office, tmp_path, capsys):
    archive = tmp_path / "330483"
    entry = office.folder / "tongxiang.json"
    entry.write_text(real_archive(archive, capsys), "utf-8")
    office("add", entry, "--federation", "lantai")
    for name in ("log-2", "log-3"):
        old = office.trust.parties["330483"].keys
        new = Signer.generate(f"lantai.lantai/330483/{name}")
        (archive / "keys" / "log.key").write_text(new.secret())
        assert node.main(["keys", "show", "--data", str(archive)]) == 0
        entry.write_text(capsys.readouterr().out, "utf-8")
        office("add", entry)
        listed = office.trust.parties["330483"].keys
        assert {known: listed[known] for known in old} == old
        assert {key_id: key.vkey for key_id, key in listed.items() if key_id not in old} == {
            name: str(new.key)
        }
        assert "nothing was changed" in office("add", entry).out


def test_a_gateway_prints_its_own_entry(office, capsys):
    (office.folder / "gateway.toml").write_text("")
    said = office("entry", "--config", office.folder / "gateway.toml").out
    (office.folder / "gateway.json").write_text(said)
    assert "PRIVATE" not in said
    office.begun(HAIYAN)
    office("add", office.folder / "gateway.json", "--role", "gateway")
    key = office.trust.parties["gateway"].keys["log"]
    signer = Signer.parse((office.folder / "data" / "log.key").read_text().strip())
    assert key.vkey == str(signer.key)
    assert key.not_before < NOW < key.not_after


# editions --------------------------------------------------------------------------------------------------------


def test_every_change_is_a_new_edition_and_a_dry_run_none(office):
    office.begun(HAIYAN)
    before = office.list.read_bytes()
    dry = office("add", office.entry(TONGXIANG), "--dry-run").out
    assert office.list.read_bytes() == before
    said = office("add", office.entry(TONGXIANG)).out
    assert [line for line in dry.splitlines() if line in said] == dry.splitlines()[:-1]
    assert (
        "+ 330483\n    role = archive\n    name = 桐乡市档案馆\n    key credential-1 = credential intl-1 ES256 "
        in said
    )
    assert "330424" not in said
    assert "epoch 1 → 2\n" in said
    assert office.trust.epoch == 2
    assert abs(office.trust.issued_at - datetime.now(UTC)) < timedelta(minutes=5)
    office("remove", "330424")
    assert (office.trust.epoch, list(office.trust.parties)) == (3, ["330483"])
    again = office("add", office.entry(TONGXIANG)).out
    assert "nothing was changed" in again
    assert office.trust.epoch == 3


def test_new_keys_join_those_listed_which_stay_as_they_were_decided(office):
    archive = Archive()
    office.begun(archive)
    office("change", "330483", "--key-id", "seal-1", "--not-after", "2027-06-01T08:00:00+08:00")
    archive.keys["seal-2"] = INTL.generate("ES256")
    del archive.keys["status-1"]  # not shown any more, still needed for what was signed
    later = {"not_before": "2026-06-01T00:00:00Z", "not_after": "2030-01-01T00:00:00Z"}
    archive.name = "桐乡市档案局"
    said = office("add", office.entry(archive, seal_1=later, seal_2=later)).out
    listed = office.trust.parties["330483"]
    assert listed.keys.keys() == {"credential-1", "status-1", "delivery-1", "seal-1", "seal-2"}
    assert rfc3339(listed.keys["seal-1"].not_before) == "2026-01-01T00:00:00Z"
    assert rfc3339(listed.keys["seal-1"].not_after) == "2027-06-01T00:00:00Z"
    assert rfc3339(listed.keys["seal-2"].not_after) == "2030-01-01T00:00:00Z"
    assert "name: 桐乡市档案馆 → 桐乡市档案局\n" in said
    assert "key seal-2: – → seal intl-1 ES256 2026-06-01" in said
    assert "seal-1" not in said


def test_a_key_in_wrong_hands_is_marked(office):
    office.begun(HAIYAN)
    said = office("change", "330424", "--key-id", "seal-1", "--compromised-at", "2026-11-01T00:00:00Z").out
    assert "compromised_at 2026-11-01T00:00:00Z" in said
    compromised = office.trust.parties["330424"].keys["seal-1"].compromised_at
    assert compromised == datetime(2026, 11, 1, tzinfo=UTC)
    assert office("change", "330424", "--not-after", "2027-01-01T00:00:00Z", status=2).out == ""
    for nothing in ((), ("--key-id", "seal-1")):
        assert "say what to change" in office("change", "330424", *nothing, status=2).err
    office("change", "330424", "--name", "海盐")
    assert office.trust.name("330424") == "海盐"


def test_second_signatures_are_asked_for_only_when_that_is_said(office):
    archive = Archive("330411", "秀洲区档案馆", second_suite="sm-1")
    office.begun(HAIYAN)
    said = office("add", office.entry(archive))
    assert "which are not asked for" in said.err
    assert office.trust.parties["330411"].second_suite is None
    office("change", "330411", "--second-suite-from", "2026-12-01T00:00:00Z")
    asked = office.trust.parties["330411"].second_suite
    assert (asked.suite, rfc3339(asked.since)) == ("sm-1", "2026-12-01T00:00:00Z")
    office("remove", "330411")
    office("add", office.entry(archive), "--second-suite-from", "2026-12-02T00:00:00Z")
    assert rfc3339(office.trust.parties["330411"].second_suite.since) == "2026-12-02T00:00:00Z"
    assert "no keys of a second suite" in office.refused(
        "change", "330424", "--second-suite-from", "2026-12-01T00:00:00Z"
    )


# drafts ----------------------------------------------------------------------------------------------------------


def test_a_draft_is_made_without_the_key_and_signed_where_that_is(office):
    office.begun(HAIYAN)
    draft = office.folder / "draft.json"
    said = office("add", office.entry(TONGXIANG), "--to", draft, key=False).out
    assert "not signed" in said
    assert list(office.trust.parties) == ["330424"]
    assert "signature" not in json.loads(draft.read_bytes())
    tree = json.loads(draft.read_bytes())
    tree["archives"][0]["name"] = "海盐"  # by hand
    draft.write_text(json.dumps(tree), "utf-8")
    said = office("sign", draft).out
    assert "+ 330483\n" in said
    assert "name: 海盐县档案馆 → 海盐\n" in said
    assert "epoch 1 → 2\n" in said
    assert office.trust.epoch == 2
    assert "nothing was changed" in office("sign", draft).out


def test_a_draft_may_become_the_first_list(office):
    draft = office.folder / "draft.json"
    office("add", office.entry(HAIYAN), "--federation", "lantai", "--to", draft, key=False)
    assert "+ 330424\n" in office("sign", draft).out
    assert office.trust.epoch == 1


def test_a_list_without_a_signature_is_told_whole_before_it_is_signed_and_not_built_upon(office):
    office.begun(HAIYAN)
    tree = office.tree
    del tree["signature"]
    office.list.write_text(json.dumps(tree | {"epoch": 7}), "utf-8")
    assert "bears no signature" in office.refused("add", office.entry(TONGXIANG))
    said = office("sign", office.list).out
    assert "+ 330424\n" in said
    assert "epoch 7 → 7\n" in said
    assert office.trust.epoch == 7


def test_an_unsigned_list_may_stay_one(office):
    office("add", office.entry(HAIYAN), "--federation", "lantai", key=False)
    office("add", office.entry(TONGXIANG), key=False)
    assert (office.tree["epoch"], "signature" in office.tree) == (2, False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epoch": 2}, "edition 2 is not newer than the one in place, 2"),
        ({"epoch": 1}, "edition 1 is not newer than the one in place, 2"),
        ({"epoch": 9, "federation": "other"}, "it is of the federation other, not lantai"),
        ({"epoch": 9, "owner": "x"}, "$.owner"),
        ({"epoch": 9, "archives": [TONGXIANG.entry(), TONGXIANG.entry()]}, "330483 twice"),
    ],
)
def test_a_draft_that_is_not_the_next_edition_is_not_signed(office, changes, said):
    office.begun(HAIYAN)
    office("change", "330424", "--name", "海盐")
    draft = office.folder / "draft.json"
    draft.write_text(json.dumps(office.tree | {"archives": [TONGXIANG.entry()]} | changes), "utf-8")
    assert said in office.refused("sign", draft)


def test_a_list_that_was_altered_or_is_anothers_is_not_built_upon(office):
    office.begun(HAIYAN)
    genuine, draft = office.list.read_bytes(), office.folder / "draft.json"
    draft.write_text(json.dumps(office.tree | {"epoch": 9, "archives": [TONGXIANG.entry()]}), "utf-8")
    office.list.write_text(json.dumps(office.tree | {"epoch": 2}), "utf-8")
    for action, *arguments in (("add", office.entry(TONGXIANG)), ("sign", draft), ("remove", "330424")):
        assert "not signed by this key, or was altered since" in office.refused(action, *arguments)
    office.list.write_bytes(genuine)
    office.key.unlink()
    office("key", "--create")
    assert "not signed by this key" in office.refused("add", office.entry(TONGXIANG))
    assert "signature" in office.refused("list", "--federation-key", _jwk_of(office))


def _jwk_of(office):
    path = office.folder / "new.jwk"
    path.write_text(office("key").out)
    return path


def test_a_signed_list_is_not_left_without_its_signature(office):
    office.begun(HAIYAN)
    assert "the list is signed" in office.refused("add", office.entry(TONGXIANG), key=False)
    (office.folder / "draft.json").write_text("mine")
    there = office.refused("remove", "330424", "--to", office.folder / "draft.json", key=False)
    assert "is there already" in there


def test_there_is_no_list_to_change(office):
    assert "begin one by add with --federation" in office.refused("remove", "330424")
    assert "begin one by add with --federation" in office.refused("add", office.entry(HAIYAN))
    office.begun(HAIYAN)
    assert "the list is of lantai" in office.refused("add", office.entry(TONGXIANG), "--federation", "other")
    for action, more in (("remove", ()), ("change", ("--name", "x"))):
        assert 'there is no "330499" on the list' in office.refused(action, "330499", *more)
    assert 'there is no key "x"' in office.refused(
        "change", "330424", "--key-id", "x", "--not-after", "2027-01-01T00:00:00Z"
    )
    for name in ("", "a\x1b[2J"):
        assert "--name" in office.refused("change", "330424", "--name", name)


# entries ---------------------------------------------------------------------------------------------------------


def noted(name, use="log", kind=KeyKind.LOG, **other):
    signer = Signer.generate(name, kind)
    term = {"not_before": "2026-01-01T00:00:00Z", "not_after": "2028-01-01T00:00:00Z"}
    return {
        "id": use,
        "use": use,
        "suite": "intl-1",
        "alg": "Ed25519",
        "vkey": str(signer.key),
        **term,
        **other,
    }


STOLEN = TONGXIANG.entry()["keys"][0]
LOG = noted("lantai.lantai/330483/log")
SECRET_JWK = {**STOLEN["jwk"], "d": "AAAA"}
SIGNER = Signer.generate("lantai.lantai/330424/log")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ([STOLEN], "330424 credential-1 and 330483 credential-1 are one key"),
        ([STOLEN | {"id": "status-7", "use": "status"}], "are one key"),
        (
            [HAIYAN.entry()["keys"][0], HAIYAN.entry()["keys"][0] | {"id": "b", "use": "status"}],
            "are one key",
        ),
        ([noted("lantai.lantai/330483/log")], "of a log or witness of 330483"),
        ([STOLEN | {"use": "tsa"}], "a party of this role has no such key: tsa"),
        ([STOLEN | {"jwk": SECRET_JWK}], "it holds a private key"),
        ([LOG | {"vkey": SIGNER.secret()}], "it holds a private key"),
        ([STOLEN | {"certificate": "-----BEGIN EC PRIVATE KEY-----"}], "it holds a private key"),
        ([], "it has no keys"),
        ([STOLEN | {"alg": "RS256"}], "$.archives[0].keys[0].alg"),
        ([STOLEN | {"jwk": {"kty": "RSA", "n": "AQAB", "e": "AQAB"}}], "$.archives[0].keys[0]"),
        ([STOLEN | {"use": "root"}], "$.archives[0].keys[0].use"),
        ([STOLEN | {"note": "x"}], "$.archives[0].keys[0].note"),
        ([STOLEN | {"not_after": "2027-01-01"}], "$.archives[0].keys[0].not_after"),
        ([STOLEN | {"id": "a\u202e"}], "control characters"),
        ({"a": 1}, "$.archives[0].keys"),
    ],
)
def test_an_entry_that_may_not_stand_on_the_list_is_refused_by_name(office, keys, said):
    tongxiang = office.folder / "tongxiang.json"
    entry = TONGXIANG.entry()
    tongxiang.write_text(json.dumps(entry | {"keys": [*entry["keys"], LOG]}), "utf-8")
    office("add", tongxiang, "--federation", "lantai")
    path = office.folder / "haiyan.json"
    path.write_text(json.dumps({"code": "330424", "name": "海盐县档案馆", "keys": keys}), "utf-8")
    told = office.refused("add", path)
    assert said in told
    assert SIGNER.secret() not in told


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"code": "33042", "name": "x", "keys": []}), "a six-digit division code"),
        (json.dumps({"name": "x", "keys": []}), "a six-digit division code"),
        (json.dumps({"code": "330424", "keys": [STOLEN]}), "$.archives[0].name"),
        (json.dumps({"code": "330424", "name": "x", "owner": 1, "keys": [STOLEN]}), "$.archives[0].owner"),
        (json.dumps({"kty": "EC", "d": "AAAA"}), "it holds a private key"),
        ('{"code": "330424", "code": "330424"}', "JSON"),
        ("[]", "JSON"),
        (" " * (2 << 20), "longer than 1048576 bytes"),
    ],
)
def test_what_is_no_entry_is_refused_by_name(office, content, said):
    path = office.folder / "entry.json"
    path.write_text(content)
    assert said in office.refused("add", path, "--federation", "lantai")


def test_a_key_id_does_not_come_to_mean_another_key(office):
    office.begun(HAIYAN)
    other = Archive("330424", "海盐县档案馆")
    assert '"credential-1" is another key on the list' in office.refused("add", office.entry(other))


def test_what_stands_there_already_does_not_keep_others_from_being_added(office):
    twins = {"epoch": 1, "federation": "lantai", "version": 1, "issued_at": "2026-01-01T00:00:00Z"}
    twins["archives"] = [TONGXIANG.entry() | {"code": code} for code in ("330400", "330402")]
    twins["archives"][1]["keys"].append(HAIYAN.entry()["keys"][1] | {"id": "tsa", "use": "tsa"})
    twins["archives"][1]["keys"][-1]["jwk"] = INTL.jwk(INTL.generate("ES256").public)
    office.list.write_text(json.dumps(twins), "utf-8")
    office("add", office.entry(HAIYAN), key=False)
    assert "are one key" in office.refused("add", office.entry(TONGXIANG), key=False)
    assert "are one key" in office.refused("sign", office.list)


# the federation's key --------------------------------------------------------------------------------------------


def pem(key, password=None):
    how = (
        serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password)
    )
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pem(rsa.generate_private_key(65537, 2048)), "must be an Ed25519 or P-256 key"),
        (pem(ec.generate_private_key(ec.SECP384R1())), "must be an Ed25519 or P-256 key"),
        (pem(ec.generate_private_key(ec.SECP256R1()), b"hush"), "it has a pass phrase"),
        (b"-----BEGIN PUBLIC KEY-----\n", "no private key in PEM"),
        (b"", "no private key in PEM"),
    ],
)
def test_only_a_key_that_can_sign_a_list_is_taken(office, content, said):
    office.key.write_bytes(content)
    assert said in office.refused("add", office.entry(HAIYAN), "--federation", "lantai")
    assert said in office.refused("key")


def test_a_p256_key_signs_as_well(office):
    office.key.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    office.public.write_text(office("key").out)
    office.begun(HAIYAN)
    jwk = json.loads(office.public.read_text())
    assert TrustList.load(office.list.read_bytes(), signed_by=INTL.public_key(jwk, "ES256")).epoch == 1


def test_a_key_that_is_there_is_not_made_anew(office):
    assert "is there already" in office.refused("key", "--create")
    assert json.loads(office("key").out) == json.loads(office.public.read_text())
    assert "PRIVATE" not in office("key").out


# telling ---------------------------------------------------------------------------------------------------------


def test_the_list_is_told_for_people_and_for_programs(office):
    office.begun(HAIYAN)
    said = office("list").out
    assert said.startswith(
        "330424\n    role = archive\n    name = 海盐县档案馆\n    key credential-1 = credential intl-1 ES256 "
    )
    assert "signature not checked" in said
    assert "signature checked" in office("list", "--federation-key", office.public).out
    told = json.loads(office("list", "--json").out)
    assert (told["epoch"], told["signed"], told["federation"]) == (1, True, "lantai")
    assert told["parties"] == [{"id": "330424", "role": "archive", "name": "海盐县档案馆", "keys": 4}]
    tree = office.tree
    del tree["signature"]
    office.list.write_text(json.dumps(tree), "utf-8")
    assert "not signed" in office("list").out
    assert "signature" in office.refused("list", "--federation-key", office.public)


@pytest.mark.parametrize("time", ["2026-12-01", "2026-12-01T00:00:00", "soon"])
def test_a_time_without_a_zone_is_wrong_use(office, capsys, time):
    with pytest.raises(SystemExit):
        main(["trust", "change", "330424", "--key-id", "x", "--not-after", time])
    assert "must be a time with a zone" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(office):
    missing = office.folder / "missing.json"
    assert f"{missing}: {os.strerror(2)}" in office.refused("add", missing, "--federation", "lantai")
