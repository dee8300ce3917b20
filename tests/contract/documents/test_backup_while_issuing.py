"""A backup made while documents are issued: what the stores say of one another holds in it, and the archive goes on from it."""

import json
import shutil
import sqlite3
import threading
from contextlib import closing

from federation.tlog.__main__ import main as log_tool
from federation.trust import TrustList
from federation.verify.report import Verdict
from federation.verify.status import State, StatusReference
from node_agent.__main__ import main
from node_agent.backup.making import back_up
from node_agent.certificates import keys as key_files
from tests.contract.documents.test_issuance import check, now
from tests.fakes.waiting import until


def rows(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as reading:
        return reading.execute(sql).fetchall()


def copied(archive, target):
    return back_up(archive.folder, target, lambda _what, _size: lambda _part: None)


def test_documents_issued_meanwhile_are_in_it_whole_or_not_at_all(archive, tmp_path):
    stop, done = threading.Event(), []

    def issue():
        while not stop.is_set():
            archive.documents.issuer.issue(archive.order(f"case-{len(done)}"))
            done.append(1)

    issuing = threading.Thread(target=issue)
    issuing.start()
    try:
        for turn in range(4):
            before = len(done)
            until(lambda before=before: len(done) > before)
            copy = tmp_path / f"copy{turn}"
            made = copied(archive, copy)
            assert made.flaws == ()
            reserved = {
                number for (number,) in rows(copy / "certificates.sqlite", "select number from documents")
            }
            issued = {
                number
                for (number,) in rows(
                    copy / "certificates.sqlite", "select number from documents where sha256 <> ''"
                )
            }
            beside = {
                table: {
                    number for (number,) in rows(copy / "deliverables.sqlite", f"select number from {table}")
                }
                for table in ("statuses", "short_codes", "deliverables")
            }
            assert issued
            assert issued <= beside["statuses"] & beside["short_codes"], (
                "a document that could not be revoked"
            )
            assert set().union(*beside.values()) <= reserved, "the next number would bear what is another's"
    finally:
        stop.set()
        issuing.join()


def test_an_archive_put_back_goes_on_where_the_backup_was_made(archive, tmp_path):
    issuer = archive.documents.issuer
    first, withdrawn = (issuer.issue(archive.order(case)) for case in ("case-1", "case-2"))
    archive.documents.store.revoke(withdrawn.number, "issued_in_error", 1)
    copied(archive, tmp_path / "copy")
    lost = issuer.issue(archive.order("case-3"))
    archive.close()
    shutil.rmtree(archive.folder)
    (tmp_path / "copy").rename(archive.folder)
    archive.open()
    assert archive.documents.issuer.issue(archive.order("case-1")) == first
    assert check(archive, archive.fetch(f"document/{first.reference}")).verdict is Verdict.VALID
    assert check(archive, archive.fetch(f"document/{withdrawn.reference}")).verdict is Verdict.INVALID
    index = StatusReference(withdrawn.paper.status_uri, withdrawn.paper.status_index)
    assert archive.statuses().standing("330483", index, now()).state is State.REVOKED
    fresh = archive.documents.issuer.issue(archive.order("case-4"))
    assert check(archive, archive.fetch(f"document/{fresh.reference}")).verdict is Verdict.VALID
    assert fresh.reference != lost.reference
    assert fresh.number == lost.number, "what docs/operations.md warns of, and the next test is for"


def test_numbers_that_were_given_after_a_backup_are_skipped(archive, capsys):
    def skip(number):
        status = main(["documents", "skip-to", number, "--data", str(archive.folder)])
        return status, "".join(capsys.readouterr())

    year = archive.documents.issuer.issue(archive.order("case-1")).number[7:11]
    assert skip(f"330483-{year}-000500") == (0, f"下一个编号 · the next number: 330483-{year}-000501\n")
    assert skip(f"330483-{year}-000007")[1].endswith("-000501\n"), "it never goes back"
    assert archive.documents.issuer.issue(archive.order("case-2")).number == f"330483-{year}-000501"
    for wrong in ("330400-2026-000600", "330483-2026-6", "600"):
        assert (skip(wrong)[0], "no number of this archive" in skip(wrong)[1]) == (1, True)


def test_a_new_log_is_begun_as_the_documents_say_and_what_was_logged_before_still_verifies(archive, tmp_path):
    first = archive.documents.issuer.issue(archive.order("case-1"))
    archive.close()
    keys = archive.folder / "keys"
    for name in ("evidence.sqlite", "keys/log.key"):
        (archive.folder / name).rename(tmp_path / name.rpartition("/")[2])
    assert log_tool(["key", "lantai.lantai/330483/log-2", str(keys / "log.key")]) == 0
    entry = key_files.trust_entry(key_files.load(archive.folder), "330483", "桐乡市档案馆", now())
    path = tmp_path / "trust.json"
    tree = json.loads(path.read_text("utf-8"))
    own = next(one for one in tree["archives"] if one["code"] == "330483")
    own["keys"] += [{**one, "id": "log-2"} for one in entry["keys"] if one["use"] == "log"]
    path.write_text(json.dumps(tree), "utf-8")
    archive.trust = TrustList.load(path.read_bytes())
    archive.open()
    fresh = archive.documents.issuer.issue(archive.order("case-2"))
    for issued in (first, fresh):
        report = check(archive, archive.fetch(f"document/{issued.reference}"))
        assert report.verdict is Verdict.VALID, report.as_json()
        assert "logged" in {one.name for one in report.checks if one.result.value == "passed"}
