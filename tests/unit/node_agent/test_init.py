"""What `lantai-node init` checks before it writes, and what it says is still missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from loadtest.authorities.tls import Authority
from node_agent.__main__ import main

WHO = ["--archive", "330483", "--name", "桐乡市档案馆"]


def init(folder, *arguments):
    return main(["init", "--data", str(folder), *WHO, *map(str, arguments)])


@pytest.fixture
def tls(tmp_path):
    issued = Authority(tmp_path / "tls").issue("node", "330483")
    return ["--ca", issued.ca, "--certificate", issued.certificate, "--key", issued.key]


def test_it_is_ready_only_when_it_could_run(tmp_path, tls, capsys):
    assert init(tmp_path / "a", "--listen", "127.0.0.1:9443", *tls) == 0
    assert "已就绪" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        ("listen", "listen or gateways"),
        ("files", "are missing"),
        ("a file", "gone.pem"),
        ("its name", "URI:spiffe://lantai/node/330483, DNS:330483.node.lantai"),
        ("its date", "the certificate has expired"),
        ("its issuer", "issued by none of the authorities in ca"),
    ],
)
def test_what_is_still_missing_is_said_and_nothing_is_called_ready(tmp_path, tls, capsys, lacks, named):
    where = [] if lacks == "listen" else ["--gateway", "127.0.0.1:9443"]
    if lacks.startswith("its"):
        authority = Authority(tmp_path / "tls")
        day = timedelta(days=1)
        issued = {
            "its name": lambda: authority.issue("node", "330400"),
            "its date": lambda: authority.issue(
                "node", "330483", lifetime=day, starts=datetime.now(UTC) - 2 * day
            ),
            "its issuer": lambda: Authority(tmp_path / "other").issue("node", "330483"),
        }[lacks]()
        shown = ["--ca", authority.ca, "--certificate", issued.certificate, "--key", issued.key]
    else:
        shown = {"listen": tls, "files": [], "a file": [*tls[:-1], tmp_path / "gone.pem"]}[lacks]
    assert init(tmp_path / "a", *where, *shown) == 0
    told = capsys.readouterr().out
    assert "已就绪" not in told
    assert "ready" not in told
    assert named in told.split("still missing", 1)[1]
    assert (tmp_path / "a" / "archive.toml").exists()


@pytest.mark.parametrize("bad", ["none", "short", "long", "folder"])
def test_a_federation_key_that_can_be_none_leaves_nothing_and_the_second_try_succeeds(
    tmp_path, tls, capsys, bad
):
    key = tmp_path / "federation.key"
    if bad == "folder":
        key.mkdir()
    elif bad != "none":
        key.write_bytes(bytes(8 if bad == "short" else 5000))
    data = tmp_path / "a"
    assert init(data, "--listen", "127.0.0.1:9443", *tls, "--federation-key", key) == 1
    told = capsys.readouterr()
    assert "federation" in told.err
    assert not told.out
    assert not data.exists()
    if bad == "folder":
        key.rmdir()
    key.write_bytes(bytes(range(32)))
    assert init(data, "--listen", "127.0.0.1:9443", *tls, "--federation-key", key) == 0
    assert (data / "federation.key").read_bytes() == bytes(range(32))
    assert (data / "federation.key").stat().st_mode & 0o077 == 0


def test_settings_that_can_not_be_used_leave_nothing(tmp_path, capsys):
    assert init(tmp_path / "a", "--listen", "nowhere") == 1
    assert "listen" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_neither_archive_toml_nor_the_federations_key_is_replaced(tmp_path, tls, capsys):
    key, data = tmp_path / "federation.key", tmp_path / "a"
    key.write_bytes(bytes(32))
    assert init(data, "--listen", "127.0.0.1:9443", *tls, "--federation-key", key) == 0
    before = (data / "archive.toml").read_bytes()
    assert init(data, "--listen", "127.0.0.1:9999", *tls) == 1
    assert "exists already" in capsys.readouterr().err
    assert (data / "archive.toml").read_bytes() == before
    (data / "archive.toml").unlink()
    key.write_bytes(bytes(range(32)))
    assert init(data, "--listen", "127.0.0.1:9443", *tls, "--federation-key", key) == 1
    assert "not replaced" in capsys.readouterr().err
    assert (data / "federation.key").read_bytes() == bytes(32)
