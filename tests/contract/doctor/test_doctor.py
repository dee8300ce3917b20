"""What `lantai-node doctor` says of an archive in which one thing is not as it should be; all others are well."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
import ssl
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from federation.suites.registry import suite
from loadtest.authorities.seals import SealAuthority
from loadtest.authorities.tls import Authority
from node_agent.desk.store import Store
from node_agent.doctor import commands, files, network
from node_agent.doctor.commands import CHECKS, examined
from node_agent.index.folder import DataFolder
from tests.contract.documents.conftest import Archive
from tests.fakes.documents import need_fonts
from tests.fakes.node_commands import node

GATEWAY = "gateway.gateway.lantai"
NEVER = ("clock",)
"""What this machine's clock is like is not this test's."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An archive with documents and a certificate, of which tests get copies."""
    need_fonts()
    folder = tmp_path_factory.mktemp("whole")
    archive = Archive(folder)
    archive.documents.issuer.issue(archive.order())
    archive.close()
    Store(archive.folder, "330483").close()
    authority = Authority(folder / "tls")
    authority.issue("node", "330483")
    authority.issue("gateway", "gateway")
    text = (archive.folder / "archive.toml").read_text("utf-8").replace("plaintext_on_loopback = true\n", "")
    tls = "".join(
        f'{key} = "{folder}/tls/{name}"\n'
        for key, name in (("ca", "ca.pem"), ("certificate", "node-330483.pem"), ("key", "node-330483.key"))
    )
    (archive.folder / "archive.toml").write_text(tls + text.replace("127.0.0.1:1", "127.0.0.1:0"), "utf-8")
    archive.folder.chmod(0o700)
    return folder


@pytest.fixture
def archive(whole, tmp_path):
    """A data folder like it, and a way to add settings."""
    folder = tmp_path / "330483"
    shutil.copytree(whole / "330483", folder)

    def put(top="", **tables):
        text = (folder / "archive.toml").read_text("utf-8")
        for name, table in tables.items():
            head = f"[{name}]\n"
            text = text.replace(head, head + table) if head in text else f"{text}\n{head}{table}"
        (folder / "archive.toml").write_text(top + text, "utf-8")

    return SimpleNamespace(folder=folder, put=put, tls=whole / "tls", trust=whole / "trust.json")


def looked_at(archive, *, running=False, now=None):
    return list(examined(archive.folder, running=running, now=now or datetime.now(UTC)))


def amiss(archive, **more):
    """check -> (result, what was found) of all that is not well; each says what to do, but where the error itself does."""
    return {
        name: (one.result.value, one.found)
        for name, one in looked_at(archive, **more)
        if one.result is not commands.Result.OK and name not in NEVER
    }


def only(archive, check, result, *words, **more):
    found = amiss(archive, **more)
    assert set(found) == {check}, found
    assert found[check][0] == result
    for word in words:
        assert word in found[check][1]


def state(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def test_of_an_archive_that_is_well_every_check_says_so_and_nothing_is_changed(archive):
    before = state(archive.folder)
    found = looked_at(archive)
    assert [name for name, _one in found if name not in NEVER] == [
        name for name in CHECKS if name not in {*NEVER, "ports"}
    ]
    assert amiss(archive) == {}
    assert state(archive.folder) == before


def test_a_look_at_a_folder_without_settings_says_what_can_not_be_looked_at(tmp_path):
    done = node("doctor", "--data", tmp_path / "none", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["wrong"], told["running"]) == (1, 1, False)
    assert [one["result"] for one in told["checks"]] == ["wrong", *["not_checked"] * (len(CHECKS) - 1)]
    assert not (tmp_path / "none").exists()


def test_settings_are_asked_as_run_asks_them(archive):
    archive.put(release="sensitivity = 9\n")
    only(archive, "settings", "wrong", "[release]", "sensitivity")


def test_tables_of_documents_are_asked_too(archive):
    archive.put(documents='time_authority = "http://127.0.0.1:9/"\n')
    only(archive, "settings", "wrong", "time_authority")


@pytest.mark.parametrize(
    "name", ["index.key", "keys/log.key", "keys/credential.pem", "certificates.sqlite", "documents"]
)
def test_what_others_may_read_is_named(archive, name):
    path = archive.folder / name
    path.chmod(path.stat().st_mode | 0o040)
    only(archive, "modes", "wrong", name)


def test_a_folder_others_may_look_into_is_a_warning(archive):
    archive.folder.chmod(0o755)
    only(archive, "modes", "warning")


@pytest.mark.parametrize(("free", "result"), [(50 << 20, "wrong"), (900 << 20, "warning")])
def test_little_room_is_told(archive, monkeypatch, free, result):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _path: SimpleNamespace(free=free))
    only(archive, "disk", result, f"{free >> 20} MB")


def test_a_database_of_another_version_or_damaged_is_named(archive):
    with contextlib.closing(sqlite3.connect(archive.folder / "desk.sqlite")) as desk:
        desk.execute("pragma user_version = 99")
    only(archive, "databases", "wrong", "desk.sqlite", "another version")
    (archive.folder / "desk.sqlite").write_bytes(b"no database" * 999)
    only(archive, "databases", "wrong", "desk.sqlite", "SQLITE_NOTADB")


def test_an_evidence_log_that_is_none_is_named(archive):
    with contextlib.closing(sqlite3.connect(archive.folder / "evidence.sqlite")) as log:
        log.execute("pragma application_id = 7")
    only(archive, "databases", "wrong", "evidence.sqlite")


def test_a_restored_folder_is_told_until_somebody_has_seen_to_it(archive, tmp_path):
    assert node("backup", "--data", archive.folder, "--to", tmp_path / "copy").returncode == 0
    archive.folder = tmp_path / "copy"
    only(archive, "restored", "warning")
    (tmp_path / "copy" / "backup.json").unlink()
    assert amiss(archive) == {}


def test_an_index_that_can_not_be_used_or_is_old_is_told(archive):
    current = DataFolder(archive.folder).current()
    with contextlib.closing(sqlite3.connect(current)) as index:
        index.execute("update meta set value = value - 400 * 86400 where name = 'imported_at'")
        index.commit()
    only(archive, "index", "warning", "400")
    (archive.folder / "index.key").write_bytes(b"k" * 32)
    only(archive, "index", "wrong", "index.key")
    (archive.folder / "CURRENT").unlink()
    only(archive, "index", "warning", "nothing imported")


WEEK = '[hours.weekly]\nmon = ["08:30-11:30"]\n'


@pytest.mark.parametrize(
    ("table", "at", "result", "word"),
    [
        (WEEK, "2026-06-01", "warning", "2026"),
        (f"public_holidays = [2026]\n{WEEK}", "2026-11-30", None, ""),
        (f"public_holidays = [2026]\n{WEEK}", "2026-12-01", "warning", "2027"),
        (f'public_holidays = [2026]\n{WEEK}[hours.days]\n"2027-01-01" = []\n', "2026-12-01", None, ""),
        ("public_holidays = [2026]\n", "2026-06-01", "wrong", "[hours]"),
        ('[hours.weekly]\nmon = ["8-11"]\n', "2026-06-01", "wrong", "08:30-11:30"),
    ],
)
def test_hours_cover_the_year(archive, table, at, result, word):
    archive.put(hours=table)
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    (found,) = [one for name, one in looked_at(archive, now=now) if name == "hours"]
    assert found.result.value == (result or "ok")
    assert word in found.found


def test_the_certificate_is_asked_for_its_key_its_names_its_dates_and_its_issuer(archive, tmp_path):
    authority = Authority(tmp_path / "tls")
    other = authority.issue("node", "330400")

    def put(**files):
        text = (archive.folder / "archive.toml").read_text("utf-8").splitlines()
        kept = [line for line in text if line.split(" = ")[0] not in files]
        lines = [f'{key} = "{path}"' for key, path in files.items()]
        (archive.folder / "archive.toml").write_text("\n".join(lines + kept) + "\n", "utf-8")

    put(certificate=other.certificate)
    only(archive, "certificate", "wrong", "key: ")
    put(certificate=other.certificate, key=other.key)
    only(archive, "certificate", "wrong", "URI:spiffe://lantai/node/330483")
    own = authority.issue("node", "330483")
    put(certificate=own.certificate, key=own.key)
    only(archive, "certificate", "wrong", "none of the authorities in ca")
    put(ca=own.ca)
    assert amiss(archive) == {}
    ends = ssl_end(own.certificate)
    assert amiss(archive, now=ends - timedelta(hours=2))["certificate"][0] == "warning"
    assert amiss(archive, now=ends + timedelta(seconds=1))["certificate"][0] == "wrong"


def ssl_end(path):
    from cryptography import x509

    return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc


def test_a_seal_that_was_never_certified_is_told(archive):
    (archive.folder / "keys" / "seal.pem").unlink()
    found = amiss(archive)
    assert found["keys"][0] == "wrong"
    assert "seal.csr" in found["keys"][1]


def test_a_missing_key_is_told(archive):
    (archive.folder / "keys" / "delivery.pem").unlink()
    found = amiss(archive)
    assert {name: one[0] for name, one in found.items()} == {"keys": "wrong", "trust_list": "wrong"}
    assert "delivery.pem" in found["keys"][1]


def changed(archive, tmp_path, change):
    """Have the archive's trust list be another."""
    tree = json.loads(archive.trust.read_text("utf-8"))
    change(tree, next(one for one in tree["archives"] if one["code"] == "330483"))
    path = tmp_path / "trust.json"
    path.write_text(json.dumps(tree), "utf-8")
    text = (archive.folder / "archive.toml").read_text("utf-8")
    (archive.folder / "archive.toml").write_text(text.replace(str(archive.trust), str(path)), "utf-8")


@pytest.mark.parametrize("use", ["credential", "status", "delivery", "log", "witness", "seal"])
def test_a_key_that_is_not_on_the_trust_list_is_told(archive, tmp_path, use):
    def drop(_tree, own):
        own["keys"] = [one for one in own["keys"] if one["use"] != use]

    changed(archive, tmp_path, drop)
    only(archive, "trust_list", "wrong", f"({use})")


def test_another_key_under_the_same_id_is_not_this_one(archive, tmp_path):
    def swap(_tree, own):
        (one,) = [one for one in own["keys"] if one["use"] == "status"]
        one["jwk"] = suite("intl-1").jwk(suite("intl-1").generate("ES256").public)

    changed(archive, tmp_path, swap)
    only(archive, "trust_list", "wrong", "(status)")


def test_keys_are_found_on_the_list_by_what_they_are_where_nobody_asks_for_their_id(archive, tmp_path):
    def rename(_tree, own):
        for one in own["keys"]:
            if one["use"] in {"log", "witness", "seal"}:
                one["id"] = f"renamed-{one['use']}"

    changed(archive, tmp_path, rename)
    assert amiss(archive) == {}


def test_an_archive_that_is_not_on_the_list_and_a_list_that_is_none_are_told(archive, tmp_path):
    changed(archive, tmp_path, lambda tree, own: tree["archives"].remove(own))
    only(archive, "trust_list", "wrong", "lacks this archive")
    (tmp_path / "trust.json").write_text("{}")
    only(archive, "trust_list", "wrong", "trust_list")


def test_a_key_whose_time_on_the_list_is_over_or_nearly_is_told(archive):
    def of_status(days):
        now = datetime.now(UTC) + timedelta(days=days)
        return [
            one.result.value
            for name, one in looked_at(archive, now=now)
            if name == "trust_list" and "status" in one.found
        ]

    assert of_status(0) == []
    assert of_status(720) == ["warning"]
    assert of_status(731) == ["wrong"]


def test_revocation_lists_are_told_before_they_run_out(archive):
    (path, *_others) = sorted((archive.folder / "keys").glob("*.crl"))
    now = datetime.now(UTC)
    soon, late = (amiss(archive, now=now + timedelta(days=days))["revocation_lists"] for days in (25, 31))
    assert (soon[0], "the seal" in soon[1]) == ("warning", True)
    assert (late[0], "out of date" in late[1]) == ("wrong", True)
    path.unlink()
    only(archive, "revocation_lists", "wrong", "missing")
    path.write_bytes(b"none")
    found = amiss(archive)
    assert path.name in found["keys"][1]


def test_a_seal_that_has_run_out_is_told(archive):
    authority = SealAuthority(starts=datetime.now(UTC) - timedelta(days=300), days=290)
    authority.issue("桐乡市档案馆").write(archive.folder / "keys", "seal")
    assert amiss(archive)["keys"][0] == "wrong"


def test_a_seal_whose_key_is_another_is_told(archive, tmp_path):
    SealAuthority().issue("桐乡市档案馆").write(tmp_path, "other")
    shutil.copy(tmp_path / "other.key", archive.folder / "keys" / "seal.key")
    only(archive, "keys", "wrong", "does not belong to the seal's certificate")


def test_fonts_that_are_missing_are_told(archive, tmp_path):
    archive.put(documents=f'fonts = "{tmp_path}"\n')
    only(archive, "fonts", "wrong", "NotoSerifCJK-Regular.ttc")


# the network -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def other_program():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_ports_are_free_or_served_by_the_agent(archive, other_program):
    with socket.create_server(("127.0.0.1", 0)) as one:
        free = f"127.0.0.1:{one.getsockname()[1]}"
    archive.put(f'metrics_listen = "{free}"\ndesk_listen = "{other_program}"\n')

    def told(running):
        found = [one for name, one in looked_at(archive, running=running) if name == "ports"]
        assert [one.found.split(": ")[0] for one in found] == [
            f"desk_listen {other_program}",
            f"metrics_listen {free}",
        ]
        return [one.result.value for one in found], found[0].found

    results, found = told(running=False)
    assert (results, "another program" in found) == (["wrong", "ok"], True)
    assert told(running=True)[0] == ["ok", "warning"]


def test_an_address_that_is_not_this_machines_can_not_be_listened_on(archive):
    archive.put('metrics_listen = "192.0.2.1:9"\n')
    only(archive, "ports", "wrong", "metrics_listen")


@contextlib.contextmanager
def gateway(tls, *, name="gateway", ca=None, wants=True, greets=True):
    """A server that shakes hands as a gateway does, once, and says something if it is content."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / f"gateway-{name}.pem", tls / f"gateway-{name}.key")
    if wants:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca or tls / "ca.pem")

    def serve():
        with contextlib.suppress(OSError):
            line, _from = listening.accept()
            with line:
                if not greets:
                    ended.wait(60)
                    return
                with context.wrap_socket(line, server_side=True) as secured:
                    secured.sendall(b"settings")
                    secured.recv(1)

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            ended.set()
            listening.close()
            thread.join(10)


def test_a_gateway_that_proves_its_name_and_takes_ours_is_well(archive):
    with gateway(archive.tls) as address:
        archive.put(f'gateways = ["{address}"]\n')
        assert amiss(archive) == {}


def test_a_gateway_of_another_name_is_told(archive):
    with gateway(archive.tls) as address:
        archive.put(f'gateways = ["{address}"]\ngateway_names = ["other"]\n')
        only(archive, "gateways", "wrong", address, "not believed")


def test_a_gateway_of_another_authority_and_one_that_does_not_take_ours_are_told(archive, tmp_path):
    stranger = Authority(tmp_path / "strange")
    stranger.issue("gateway", "gateway")
    with (
        gateway(tmp_path / "strange") as address,
        gateway(archive.tls, ca=tmp_path / "strange" / "ca.pem") as second,
    ):
        archive.put(f'gateways = ["{address}", "{second}"]\n')
        found = [one for name, one in looked_at(archive) if name == "gateways"]
        assert [one.result.value for one in found] == ["wrong", "wrong"]
        assert "not believed" in found[0].found
        assert second in found[1].found


def test_gateways_that_can_not_be_reached_or_say_nothing_are_told_in_bounded_time(archive, monkeypatch):
    monkeypatch.setattr(network, "CONNECT_WITHIN_S", 0.3)
    monkeypatch.setattr(network, "WAIT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as one:
        nobody = f"127.0.0.1:{one.getsockname()[1]}"
    with gateway(archive.tls, greets=False) as silent:
        archive.put(f'gateways = ["{nobody}", "{silent}"]\n')
        found = [one for name, one in looked_at(archive) if name == "gateways"]
    assert [one.result.value for one in found] == ["wrong", "wrong"]
    assert nobody in found[0].found
    assert "out of time" in found[1].found


def test_a_name_nobody_answers_for_is_given_up(archive, monkeypatch):
    monkeypatch.setattr(network, "WAIT_S", 0.2)
    never = threading.Event()
    monkeypatch.setattr(network, "_tried", lambda _way: never.wait(30))
    archive.put('gateways = ["gateway.example:9443"]\n')
    only(archive, "gateways", "wrong", "gateway.example:9443", "no answer within")
    never.set()


# what it tells ---------------------------------------------------------------------------------------------------------


def test_a_check_that_fails_is_told_by_its_kind_alone(archive, monkeypatch):
    def broken(_at):
        raise KeyError("张三")
        yield

    monkeypatch.setitem(CHECKS, "index", ("索引", broken))
    only(archive, "index", "wrong", "KeyError")
    assert "张三" not in str(amiss(archive))


def test_it_is_a_line_each_with_what_to_do_and_its_status_says_whether_something_is_wrong(archive):
    archive.folder.chmod(0o755)
    done = node("doctor", "--data", archive.folder)
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "节点未运行 · the agent does not run"
    assert any(line.startswith("注意 warning") and "modes" in line for line in lines)
    assert f"→ chmod 700 {archive.folder}" in done.stdout
    (archive.folder / "index.key").chmod(0o644)
    done = node("doctor", "--data", archive.folder, "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["wrong"]) == (1, 1)
    assert all(one["to_do"] or one["result"] in {"ok", "not_checked"} for one in told["checks"])
    for shown in (done.stdout, node("doctor", "--data", archive.folder).stdout):
        for secret in ("周羣軍", "PRIVATE", (archive.folder / "keys" / "log.key").read_text().strip()):
            assert secret not in shown


def test_whether_the_agent_runs_is_told_by_its_lock(archive):
    data = DataFolder(archive.folder)
    assert not data.is_served()
    with data.agent_lock():
        assert data.is_served()
        assert json.loads(node("doctor", "--data", archive.folder, "--json").stdout)["running"]
    assert not data.is_served()
