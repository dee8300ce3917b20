"""Databases with people's names in them are for their owner alone, new ones and those of an older version."""

import sqlite3
import stat

import pytest
from sqlalchemy import text

from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.witness import Witness, witnessed
from gateway.cases.database import Database, StoreError
from gateway.settings import GatewaySettings
from node_agent import settings as node_settings
from tests.fakes.tlog import LOG, WITNESSES


def log(path):
    return EvidenceLog(path, LOG)


def witness(path):
    return Witness(path, WITNESSES[0], witnessed([LOG.key]))


class _CaseStore(Database):
    """One that has written and so has its logs beside it."""

    def __init__(self, path):
        super().__init__(f"sqlite:///{path}")
        with self.writing() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS one (two)"))


def modes(path):
    return {
        one.name: oct(stat.S_IMODE(one.stat().st_mode))
        for one in path.parent.glob(f"{path.name}*")
        if not one.name.endswith(".lock")
    }


@pytest.fixture(params=[log, witness, _CaseStore])
def opened(request):
    return request.param


def private(path):
    return dict.fromkeys((path.name, f"{path.name}-wal", f"{path.name}-shm"), "0o600")


def test_a_new_file_and_its_logs_are_for_their_owner_alone(opened, tmp_path):
    path = tmp_path / "new.sqlite"
    held = opened(path)
    assert modes(path) == private(path)
    held.close()


def test_a_file_others_could_read_is_closed_to_them_with_its_logs(opened, tmp_path):
    path = tmp_path / "old.sqlite"
    opened(path).close()
    path.chmod(0o644)
    before = sqlite3.connect(path)  # as a process killed in its work leaves the logs behind
    before.execute("select * from sqlite_schema").fetchall()
    for one in tmp_path.glob("old.sqlite*"):
        one.chmod(0o644)
    held = opened(path)
    assert modes(path) == private(path)
    held.close()
    before.close()


def test_a_file_that_can_not_be_had_is_refused_by_name(tmp_path):
    lost = tmp_path / "file" / "x.sqlite"
    lost.parent.write_bytes(b"")
    with pytest.raises(EvidenceError) as refused:
        witness(lost)
    assert refused.value.flaw is Flaw.LOG_UNAVAILABLE
    with pytest.raises(StoreError):
        _CaseStore(lost)


def test_folders_we_make_are_for_their_owner_alone(tmp_path):
    GatewaySettings().store_url(tmp_path)
    log(tmp_path / "logs" / "evidence.sqlite").close()
    node_settings.write(tmp_path / "archive", {"archive": "330483"})
    for name in ("data", "logs", "archive"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name
