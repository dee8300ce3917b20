"""An archive whose store was restored from a backup, beside an evidence log that knows more."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from federation.documents import CHINA
from federation.tlog.reconcile import Account
from federation.verify.status import State, StatusReference
from node_agent.certificates.store import FILE, DocumentState


def end_all(archive, issued):
    """The first is revoked by hand, the second replaced by the fourth, the third was made in vain; all is logged."""
    store = archive.documents.store
    first, second, third, fourth = (one.number for one in issued)
    store.revoke(first, "record_corrected", 1_000)
    store.end(second, DocumentState.REPLACED, reason="corrected", successor=fourth, at_ms=2_000)
    store.revoke(third, "issued_in_vain", 3_000)
    for change in store.changes():
        archive.documents._log_change(*change)


def backup(archive, to):
    with (
        closing(sqlite3.connect(archive.folder / FILE)) as live,
        closing(sqlite3.connect(to)) as copy,
    ):
        live.backup(copy)


def restore(archive, copy):
    archive.close()
    for path in archive.folder.glob(f"{FILE}*"):
        path.unlink()
    shutil.copy(copy, archive.folder / FILE)
    with capture_logs() as lines:
        archive.open()
    return {line["action"]: line["records"] for line in lines if line["action"].startswith("documents.")}


def standings(archive, issued):
    lists = archive.statuses()
    references = [StatusReference(one.paper.status_uri, one.paper.status_index) for one in issued]
    return [lists.standing("330483", one, datetime.now(UTC)) for one in references]


@pytest.fixture
def issued(archive):
    return [archive.documents.issuer.issue(archive.order(f"case-{place}")) for place in range(4)]


def test_what_was_revoked_or_replaced_stays_so(archive, issued, tmp_path):
    backup(archive, tmp_path / "backup")
    end_all(archive, issued)
    before, account = standings(archive, issued), archive.fetch("log/account")
    assert [one.state for one in before] == [State.REVOKED, State.REPLACED, State.REVOKED, State.VALID]
    assert restore(archive, tmp_path / "backup") == {"documents.ended_again": 3}
    after = standings(archive, issued)
    assert [(one.state, one.successor) for one in after] == [(one.state, one.successor) for one in before]
    for change in archive.documents.store.changes():  # as the agent does: it is in the log already
        archive.documents._log_change(*change)
    assert Account.read(archive.fetch("log/account")) == Account.read(account)
    archive.close()
    with capture_logs() as lines:
        archive.open()
    assert not [line for line in lines if line["action"].startswith("documents.")]


def test_a_number_the_store_forgot_is_not_given_again(archive, issued, tmp_path):
    with closing(sqlite3.connect(tmp_path / "empty")):
        pass
    end_all(archive, issued)
    assert restore(archive, tmp_path / "empty") == {
        "documents.ended_unknown": 3,
        "documents.numbers_skipped": 4,
    }
    fresh = archive.documents.issuer.issue(archive.order("case-new"))
    year = datetime.now(UTC).astimezone(CHINA).year
    assert fresh.number == f"330483-{year}-000005"
    assert fresh.number not in {one.number for one in issued}


def test_a_number_that_has_another_document_by_now_is_not_revoked_for_the_first_one(archive, issued):
    end_all(archive, issued)
    number, store = issued[0].number, archive.documents.store
    with closing(sqlite3.connect(archive.folder / FILE)) as connection, connection:
        connection.execute(
            "update documents set sha256 = ?, state = 'valid' where number = ?", ("0" * 64, number)
        )
    archive.close()
    archive.open()
    assert store is not archive.documents.store
    assert archive.documents.store.entry(number).state == DocumentState.VALID
