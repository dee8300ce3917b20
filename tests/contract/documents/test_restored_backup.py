"""An archive whose store was restored from a backup, beside an evidence log that knows more."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from federation.documents import CHINA
from federation.mail import Wishes
from federation.suites.registry import suite
from federation.tlog.reconcile import Account
from federation.verify.documents import verify
from federation.verify.report import VerificationReason
from federation.verify.status import State, StatusReference
from node_agent.certificates.registry import FILE as REGISTRY
from node_agent.certificates.store import FILE, DocumentState
from node_agent.evidence.archive_log import FILE as LOG

INTL = suite("intl-1")


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


def restore(archive, copy, name=FILE):
    """A copy of a file in its place, None = none; what the agent then says at its start."""
    archive.close()
    for path in archive.folder.glob(f"{name}*"):
        path.unlink()
    if copy is not None:
        shutil.copy(copy, archive.folder / name)
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


def test_nor_is_one_that_only_what_was_handed_out_remembers(archive, issued):
    """The document of a number is kept for ever as the first that was handed out: it would go to somebody else."""
    archive.close()
    for name in (FILE, LOG):
        for path in archive.folder.glob(f"{name}*"):
            path.unlink()
    archive.open()
    fresh = archive.documents.issuer.issue(archive.order("case-new"))
    assert fresh.number.endswith("-000005")
    assert fresh.reference not in {one.reference for one in issued}


def test_nor_is_one_whose_events_were_erased_since(archive, issued):
    for place in range(4):
        assert archive.documents.log._log.erase(f"case-{place}", "retention", 1_000)
    archive.close()
    for name in (FILE, REGISTRY):
        for path in archive.folder.glob(f"{name}*"):
            path.unlink()
    archive.open()
    assert archive.documents.issuer.issue(archive.order("case-new")).number.endswith("-000005")


def test_where_a_document_stands_in_the_status_list_is_found_again_in_the_document(archive, tmp_path):
    """What was handed out was restored from a backup: nobody else knows by which entries a document is revoked."""
    phones = Wishes(holder_keys=tuple(INTL.jwk(INTL.generate("ES256").public) for _ in range(2)))
    orders = [archive.order("case-0"), archive.order("case-1", wishes=phones)]
    issued = [archive.documents.issuer.issue(one) for one in orders]
    credentials = archive.fetch(f"credential/{issued[1].credential}").decode().split("\n")
    registry = archive.documents.registry
    indexes = [sorted(registry.indexes(one.number)) for one in issued]
    assert [len(one) for one in indexes] == [1, 3]
    assert restore(archive, None, REGISTRY) == {"documents.listed_again": 2}
    registry = archive.documents.registry
    assert [sorted(registry.indexes(one.number)) for one in issued] == indexes
    assert [registry.known_short_code(one.number) for one in issued] == [
        one.paper.short_code for one in issued
    ]
    for order, one in zip(orders, issued, strict=True):
        assert archive.documents.issuer.issue(order).paper == one.paper
        archive.documents.store.revoke(one.number, "record_corrected", 1_000)
    assert [one.state for one in standings(archive, issued)] == [State.REVOKED] * 2
    for text in credentials:
        report = verify(text.encode(), archive.trust, archive.statuses(), datetime.now(UTC))
        assert VerificationReason.REVOKED in report.reasons


def test_a_document_of_which_nobody_knows_where_it_stands_is_told_of(archive, issued):
    (archive.folder / "documents" / (digest := archive.documents.store.entry(issued[0].number).sha256)[:2] / f"{digest}.pdf").unlink()  # fmt: skip
    assert restore(archive, None, REGISTRY) == {"documents.listed_again": 3, "documents.unlisted": 1}


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
