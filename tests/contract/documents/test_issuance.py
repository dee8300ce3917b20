"""From an approved order to what anyone can verify: real index, fonts, seal, credential, status list and log."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec
import pypdfium2
import pytest
import zxingcpp
from PIL import Image
from structlog.testing import capture_logs

from federation.credential import qr, sd_jwt
from federation.credential.certificate import present
from federation.mail import Note, Searched, Subject, Wishes
from federation.reasons import Reason, Refusal
from federation.sealing import Binding, open_sealed, recipient_name
from federation.short_code import canonical, grouped
from federation.suites.registry import suite
from federation.tlog.checkpoint import open_checkpoint
from federation.tlog.note import Note as SignedNote
from federation.tlog.note import Signer, VerifierKey
from federation.tlog.reconcile import Account
from federation.trust import Use
from federation.verify.challenge import Challenge, MemoryNonces
from federation.verify.documents import verify
from federation.verify.report import Verdict, VerificationReason
from federation.verify.status import State, StatusReference
from node_agent import documents, telemetry
from node_agent.__main__ import main
from node_agent.certificates import wording
from node_agent.desk.issuing import IssueDeferredError
from node_agent.issuance import cite
from node_agent.record import Person, Record, Role
from tests.fakes.desks import Clock, FakeRecords, desk_at, give


def now():
    return datetime.now(UTC)


def check(archive, data, **more):
    return verify(data, archive.trust, archive.statuses(), now(), **more)


def test_an_approved_order_becomes_a_document_anyone_can_verify(archive):
    issued = archive.documents.issuer.issue(archive.order())
    assert (issued.form, issued.number[:12]) == ("recorded_facts", "330483-2026-")
    report = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert report.verdict is Verdict.VALID, report.as_json()
    assert (report.issuer, report.number) == ("330483", issued.number)
    assert "周羣軍" in str(report.facts)  # the register's characters, not the question's
    assert {one.name for one in report.checks if one.result.value == "passed"} >= {
        "logged",
        "seal",
        "standing",
    }


def with_log_keys(archive, *keys):
    """The trust list with these log keys of the archive, in this order."""
    party = archive.trust.parties["330483"]
    others = {one.id: one for one in party.keys.values() if one.use is not Use.LOG}
    party = replace(party, keys={one.id: one for one in keys} | others)
    return replace(archive.trust, parties=archive.trust.parties | {"330483": party})


def test_the_log_is_believed_by_a_key_in_its_time_and_not_by_one_that_was_stolen(archive):
    issued = archive.documents.issuer.issue(archive.order())
    pdf = archive.fetch(f"document/{issued.reference}")
    (key,) = archive.trust.keys(Use.LOG, "330483")
    day = timedelta(days=1)
    for change, reasons in (
        ({"not_after": now() + day}, ()),
        ({"not_after": now() - timedelta(minutes=5)}, (VerificationReason.KEY_EXPIRED,)),
        ({"not_before": now() + day}, (VerificationReason.KEY_NOT_YET_VALID,)),
        # nothing proves that it was signed before: whoever stole the key writes any date
        ({"compromised_at": now() + day}, (VerificationReason.KEY_COMPROMISED,)),
    ):
        trust = with_log_keys(archive, replace(key, **change))
        report = verify(pdf, trust, archive.statuses(), now())
        assert report.reasons == reasons
    # the key is one of two, and so is the log: begun anew under another origin, as after a restored backup
    other = Signer.generate("lantai.lantai/330483/log-2").key
    new = replace(key, id="log-2", vkey=str(other))
    for keys in ((key, new), (new, key)):
        report = verify(pdf, with_log_keys(archive, *keys), archive.statuses(), now())
        assert report.verdict is Verdict.VALID, report.as_json()
    report = verify(pdf, with_log_keys(archive, new), archive.statuses(), now())
    assert report.reasons == (VerificationReason.WRONG_LOG_PROOF,)


def test_the_text_of_its_qr_code_verifies_and_says_the_same(archive):
    issued = archive.documents.issuer.issue(archive.order())
    text = archive.fetch(f"credential/{issued.credential}").decode()
    assert text.startswith(qr.PREFIX)
    report = check(archive, text.encode())
    assert report.verdict is Verdict.VALID, report.as_json()
    assert report.number == issued.number
    assert report.facts["facts"]["name"] == "周羣軍"


def test_the_same_order_gives_the_same_document_also_after_a_restart(archive):
    order = archive.order()
    first = archive.documents.issuer.issue(order)
    bytes_before = archive.fetch(f"document/{first.reference}")
    archive.close()
    archive.open()
    assert archive.documents.issuer.issue(order) == first
    assert archive.fetch(f"document/{first.reference}") == bytes_before
    other = archive.documents.issuer.issue(archive.order("case-2"))
    assert other.number != first.number


def test_the_paper_bears_a_short_code_and_the_gateway_is_told_how_to_find_its_standing(archive):
    issued = archive.documents.issuer.issue(archive.order())
    pdf = archive.fetch(f"document/{issued.reference}")
    code = issued.paper.short_code
    assert canonical(code) == code
    text = "".join(page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf))
    assert f"核验码 {grouped(code)}" in text
    assert "https://gateway.example/verify" in text.replace("\r\n", "")
    picture = pypdfium2.PdfDocument(pdf)[0].render(scale=150 / 72).to_pil()
    read = {one.text for one in zxingcpp.read_barcodes(picture)}
    assert f"https://gateway.example/verify/{code}" in read
    assert archive.fetch(f"credential/{issued.credential}").decode() in read
    report = check(archive, pdf)
    assert report.facts["issued_on"] == issued.paper.issued_on
    reference = StatusReference(issued.paper.status_uri, issued.paper.status_index)
    assert archive.statuses().standing("330483", reference, now()).state is State.VALID
    archive.documents.store.revoke(issued.number, "issued_in_error", 1)
    assert archive.statuses().standing("330483", reference, now()).state is State.REVOKED
    other = archive.documents.issuer.issue(archive.order("case-2"))
    assert other.paper.short_code != code


def test_a_document_from_before_there_were_short_codes_gets_none_afterwards(archive):
    order = archive.order()
    issued = archive.documents.issuer.issue(order)
    archive.documents.registry._do("delete from short_codes")
    assert archive.documents.issuer.issue(order) == msgspec.structs.replace(issued, paper=None)


@pytest.mark.parametrize("announced", [True, False])
def test_a_document_made_in_vain_is_revoked_once_and_logged_where_it_is_known(archive, announced):
    order, issuer = archive.order(), archive.documents.issuer
    assert issuer.take_back(order, announced=announced) == ""
    issued = issuer.issue(order)
    for _ in range(2):
        assert issuer.take_back(order, announced=announced) == issued.number
    report = check(archive, archive.documents.store.read(issued.number))
    assert report.reasons == (VerificationReason.REVOKED,)
    (change,) = archive.documents.store.changes()
    assert change[4] == ("case_withdrawn" if announced else "issued_in_vain")

    async def until_logged():
        for _ in range(2):  # and again by the next process
            loops = archive.documents.loops()
            watching = asyncio.create_task(loops.pop("document standing"))
            for other in loops.values():
                other.close()
            while not kinds() & {"revoked", "closed"}:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            watching.cancel()

    def kinds():
        return {entry.kind for entry in archive.documents.log._log.of_request("case-1")}

    asyncio.run(until_logged())
    logged = [entry.kind for entry in archive.documents.log._log.of_request("case-1")]
    assert logged == ["document_committed", "revoked" if announced else "closed"]
    account = Account.read(archive.fetch("log/account"))
    assert bool(account.requests) is announced  # a gateway that was told of none misses none


def test_a_revocation_no_event_may_tell_of_keeps_no_later_one_out_of_the_log(archive, monkeypatch):
    monkeypatch.setattr(documents, "_LOOK_EVERY_S", 0.01)
    store, issuer = archive.documents.store, archive.documents.issuer
    first, second = (issuer.issue(archive.order(case)).number for case in ("case-1", "case-2"))
    store.revoke(first, "no word at all", 1)
    store._connection.execute(
        "insert into changes(at_ms, number, state, reason, successor) values (1, '330483-1999-9', 'revoked', '', '')"
    )
    store.revoke(second, "issued_in_error", 2)

    def left_out(why):
        return telemetry.LEFT_OUT.labels(why=why)._value.get()

    async def until_logged():
        loops = archive.documents.loops()
        watching = asyncio.create_task(loops.pop("document standing"))
        for other in loops.values():
            other.close()
        while not any(one.kind == "revoked" for one in archive.documents.log._log.of_request("case-2")):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # ten looks more
        watching.cancel()

    before = left_out("malformed_event"), left_out("unknown_document")
    with capture_logs() as lines:
        asyncio.run(until_logged())
    assert (left_out("malformed_event"), left_out("unknown_document")) == (before[0] + 1, before[1] + 1)
    assert [line["reason"] for line in lines if line.get("action") == "evidence.left_out"] == [
        "malformed_event",
        "unknown_document",
    ]
    assert "no word at all" not in str(lines)


def test_pieces_a_killed_process_left_are_swept_by_the_running_agent(archive):
    kept = archive.documents.issuer.issue(archive.order())
    data = archive.fetch(f"document/{kept.reference}")
    documents, deliverables = archive.folder / "documents", archive.folder / "deliverables"
    named = [one for folder in (documents, deliverables) for one in folder.rglob("*") if one.is_file()]
    left = [
        documents / "ab" / f"{'ab' * 32}.pdf",
        documents / "cd" / f"{'cd' * 32}.12-34.part",
        deliverables / "ab" / ("ab" * 32),
        deliverables / kept.reference[:2] / f"{kept.reference}.partial",
    ]
    young = [documents / "ef" / "young.part", deliverables / "ef" / "young.partial"]
    for path in (*left, *young):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%PDF")
    for path in (*named, *left):
        os.utime(path, (1_700_000_000, 1_700_000_000))

    async def until_swept():
        loops = archive.documents.loops()
        sweeping = asyncio.create_task(loops.pop("sweep documents"))
        for other in loops.values():
            other.close()
        while any(path.exists() for path in left):
            await asyncio.sleep(0.01)
        sweeping.cancel()

    asyncio.run(until_swept())
    assert all(path.exists() for path in young)  # they may still be in the making
    assert all(path.exists() for path in named)
    assert archive.documents.store.read(kept.number) == data
    assert archive.fetch(f"document/{kept.reference}") == data


def test_a_phone_proves_the_marriage_without_naming_the_spouse(archive):
    chosen = suite("intl-1")
    phone = chosen.generate("ES256")
    wishes = Wishes(holder_keys=(chosen.jwk(phone.public),))
    issued = archive.documents.issuer.issue(archive.order(wishes=wishes))
    credential = sd_jwt.parse(archive.fetch(f"credential/{issued.credential}").decode())
    nonces = MemoryNonces()
    nonce = nonces.give(now())
    shown = present(
        credential,
        show=["marital_status", "category"],
        holder_key=phone,
        audience="bank",
        nonce=nonce,
        at=now(),
    ).compact()
    challenge = Challenge("bank", nonce, "marriage_proof")
    report = check(archive, shown.encode(), challenge=challenge, nonces=nonces)
    assert report.verdict is Verdict.VALID, report.as_json()
    assert report.facts["facts"]["marital_status"] == "married"
    assert "石志步" not in shown
    assert "石志步" not in str(report.as_json())
    again = check(archive, shown.encode(), challenge=challenge, nonces=nonces)
    assert VerificationReason.REPLAYED in again.reasons


def test_a_revoked_document_says_so_once_the_new_list_is_there(archive):
    issued = archive.documents.issuer.issue(archive.order())
    data = archive.fetch(f"document/{issued.reference}")
    text = archive.fetch(f"credential/{issued.credential}")
    command = [
        "documents",
        "revoke",
        issued.number,
        "--reason",
        "issued_in_error",
        "--data",
        str(archive.folder),
    ]
    assert main(command) == 0
    for one in (data, text):
        report = check(archive, one)
        assert (report.verdict, report.reasons) == (Verdict.INVALID, (VerificationReason.REVOKED,))


def test_a_revocation_met_by_a_failing_disk_is_in_the_next_list_nevertheless(archive, monkeypatch):
    first, second = (archive.documents.issuer.issue(archive.order(case)) for case in ("case-1", "case-2"))
    assert [state_of(archive, one) for one in (first, second)] == [State.VALID, State.VALID]
    for one in (first, second):
        archive.documents.store.revoke(one.number, "issued_in_error", 1)
    registry = archive.documents.registry
    read = registry.indexes

    def failing(number):
        if number == second.number:
            raise Refusal(Reason.STORE_UNAVAILABLE)
        return read(number)

    with monkeypatch.context() as patch:
        patch.setattr(registry, "indexes", failing)
        with pytest.raises(Refusal):
            archive.documents.standing.token()
    assert [state_of(archive, one) for one in (first, second)] == [State.REVOKED, State.REVOKED]
    archive.documents.standing.cwt()  # the other form is of the same list
    assert [state_of(archive, one) for one in (first, second)] == [State.REVOKED, State.REVOKED]


def state_of(archive, issued):
    reference = StatusReference(issued.paper.status_uri, issued.paper.status_index)
    return archive.statuses().standing("330483", reference, now()).state


def test_a_package_for_the_windows_key_opens_there_and_nowhere_else(archive):
    chosen = suite("intl-1")
    window = chosen.generate(chosen.sealing)
    digest = bytes(range(32))
    wishes = Wishes(delivery_key=chosen.jwk(window.public), request_digest=digest.hex())
    issued = archive.documents.issuer.issue(archive.order(wishes=wishes))
    assert issued.credential == ""  # it travels inside
    sealed = archive.fetch(f"document/{issued.reference}")
    assert b"%PDF" not in sealed
    binding = Binding("330483", "case-1", digest, recipient_name(window.public))
    package = open_sealed(sealed, window, binding, archive.trust, at=now())
    assert check(archive, package["document.pdf"].content).verdict is Verdict.VALID
    assert check(archive, package["credential"].content).verdict is Verdict.VALID
    for changed in (
        Binding("330483", "case-2", digest, recipient_name(window.public)),
        Binding("330400", "case-1", digest, recipient_name(window.public)),
    ):
        with pytest.raises(Exception, match="cannot_open"):
            open_sealed(sealed, window, changed, archive.trust, at=now())
    assert (
        archive.documents.issuer.issue(archive.order(wishes=wishes)) == issued
    )  # re-delivery: the same bytes


def test_a_certified_copy_has_the_chosen_pages_without_what_was_hidden_and_carries_recordings(archive):
    """Every second column of the scan is red; the hidden half has none of it left."""
    folder = archive.folder / "scans" / "X032-ZY·JH·1990-0127-018"
    folder.mkdir(parents=True)
    red = Image.new("RGB", (400, 600), (200, 30, 30))
    red.save(folder / "第1页.png")
    (folder / "谈话.mp3").write_bytes(b"ID3" + bytes(2_000))
    (folder / "奖章.gltf").write_text('{"asset": {"version": "2.0"}}')
    pages = (
        {"file": "第1页.png", "page": 1, "hidden": [[0.0, 0.5, 1.0, 1.0]]},
        {"file": "谈话.mp3"},
        {"file": "奖章.gltf"},
    )
    issued = archive.documents.issuer.issue(archive.order(pages=pages))
    assert issued.form == "certified_copy"
    data = archive.fetch(f"document/{issued.reference}")
    report = check(archive, data)
    assert report.verdict is Verdict.VALID, report.as_json()
    records = {one["name"]: one["sha256"] for one in report.facts["records"]}
    assert records["谈话.mp3"] == hashlib.sha256((folder / "谈话.mp3").read_bytes()).hexdigest()
    assert "奖章.gltf" in records
    images = [
        one.get_bitmap().to_pil().convert("RGB")
        for page in pypdfium2.PdfDocument(data)
        for one in page.get_objects([3])
    ]
    copied = max(images, key=lambda image: image.size[1])
    width, height = copied.size
    assert copied.getpixel((width // 2, height // 4))[0] > 150
    assert len(set(copied.getpixel((width // 2, height * 3 // 4)))) == 1  # grey: nothing of the red is left
    for missing in ("../../keys/credential.pem", "none.png"):
        with pytest.raises(IssueDeferredError, match="file_unreadable"):
            archive.documents.issuer.issue(archive.order(f"case-{missing[:3]}", pages=({"file": missing},)))


def note(**changes):
    archives = (
        Searched("330400", "嘉兴市档案馆", "empty", holdings=("marriage",), index_date="2026-11-20"),
        Searched("330483", "桐乡市档案馆", "empty", holdings=("marriage",), index_date="2026-11-21"),
        Searched("330411", "秀洲区档案馆", "not_asked", reason="category_not_held"),
    )
    fields = {
        "group": 1, "category": "marriage", "purpose": "marriage_proof", "subject": Subject(name="周无名"),
        "name_forms": ("周无名", "周無名"), "archives": archives, "searched_on": "2026-11-25", "years": (1985, 1990),
    }  # fmt: skip
    return Note(**{**fields, **changes})


def test_a_no_record_note_states_exactly_what_was_searched(archive):
    issued = archive.documents.issuer.issue(archive.order("case-9", request=note(), archival_code=""))
    assert issued.form == "no_record"
    report = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert report.verdict is Verdict.VALID, report.as_json()
    told = str(report.facts)
    assert "嘉兴市档案馆" in told
    assert "周無名" in told


def test_no_note_is_issued_over_a_search_that_was_not_complete(archive):
    gone = (*note().archives, Searched("330481", "海宁市档案馆", "timeout"))
    with pytest.raises(IssueDeferredError, match="search_not_complete"):
        archive.documents.issuer.issue(archive.order("case-9", request=note(archives=gone)))


def test_a_running_agent_takes_up_a_fresh_revocation_list(archive):
    path = archive.folder / "keys" / "issuer-0.crl"
    good = path.read_bytes()
    path.write_bytes(good[:100])
    with pytest.raises(IssueDeferredError, match="revocation_list") as deferred:
        archive.documents.issuer.issue(archive.order())
    assert f"{path.name} is not a revocation list" in deferred.value.text
    path.write_bytes(good)
    assert archive.documents.issuer.issue(archive.order()).number.endswith("-000001")


def test_a_birth_is_told_no_more_precisely_than_the_record_says(archive, tmp_path):
    """An age of 24 at a day of 1964 leaves three years open; a month written is that month."""
    csv = tmp_path / "石门婚姻.csv"
    csv.write_text(
        "档号,男方姓名,男方年龄,女方姓名,女方出生日期,登记日期\n"
        "X9-1964-0001-001,王强,24,沈阿毛,1941年5月,1964-05-02\n"
    )
    assert main(["import", str(csv), "--data", str(archive.folder), "--category", "marriage", "--json"]) == 0
    order = archive.order()
    asked = msgspec.structs.replace(order.request, ref="", wishes=Wishes(english=True))
    issued = archive.documents.issuer.issue(
        msgspec.structs.replace(order, request=asked, archival_code="X9-1964-0001-001")
    )
    report = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert report.verdict is Verdict.VALID, report.as_json()
    told = {one["zh"]: one["value"] for one in report.facts["statement"]["facts"]}
    assert told["王强出生年（按所载推算）"] == "1939/1941"
    assert told["沈阿毛出生"] == "1941-05"


@pytest.mark.parametrize("role", Role)
def test_the_english_page_has_a_word_for_every_role(role):
    record = Record("marriage", "1", "1", "", (Person("王芳", role),))
    (row,) = (row for row in wording._record_rows(cite(record), 1) if row[1] == "王芳")
    assert row[0].isascii()


SECOND = "X032-ZY·JH·1991-0003-002"


@pytest.mark.parametrize(
    ("code", "pages", "reason", "pointer"),
    [
        ("X032-ZY·JH·1990-0127-999", (), Reason.OUT_OF_RANGE, "/archival_code"),
        (
            "",
            ({"file": "卷.tif", "page": 2}, {"file": "没有.png", "page": 1}),
            Reason.OUT_OF_RANGE,
            "/pages/1/file",
        ),
        ("", ({"file": "../../archive.toml"},), Reason.OUT_OF_RANGE, "/pages/0/file"),
        ("", ({"file": "卷.tif", "page": 2}, {"file": "卷.tif", "page": 4}), Reason.OUT_OF_RANGE, "/pages/1"),
        ("", ({"file": "坏.png"},), Reason.FILE_UNREADABLE, "/pages/0"),
        (SECOND, ({"file": "卷.tif"},), Reason.OUT_OF_RANGE, "/pages/0/file"),  # scans of the other record
        ("", ({"file": "卷.tif", "page": 3}, {"file": "卷.tif", "page": 1}, {"file": "谈话.mp3"}), None, ""),
        ("X032-ZY.JH.1990-0127-018", (), None, ""),
        ("", (), None, ""),
    ],
)
def test_before_an_approval_it_is_known_whether_record_and_pages_are_there(
    archive, code, pages, reason, pointer
):
    folder = archive.folder / "scans" / "X032-ZY·JH·1990-0127-018"
    folder.mkdir(parents=True)
    first, *rest = (Image.new("L", (40, 60), shade) for shade in (10, 20, 30))
    first.save(folder / "卷.tif", save_all=True, append_images=rest)
    (folder / "坏.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (folder / "谈话.mp3").write_bytes(b"ID3" + bytes(200))
    request = archive.order().request
    if reason is None:
        archive.documents.issuer.can_issue(request, code, pages)
        return
    with pytest.raises(Refusal) as refused:
        archive.documents.issuer.can_issue(request, code, pages)
    assert (refused.value.reason, refused.value.pointer) == (reason, pointer)


UPRIGHT, TURNED = [0.1, 0.1, 0.4, 0.2], [0.4, 0.2, 0.1, 0.1]  # as a hand draws it from the other corner


@pytest.mark.parametrize(
    ("pages", "reason", "pointer"),
    [
        (({"file": "1.png", "hidden": [UPRIGHT]},), None, ""),
        (
            ({"file": "1.png"}, {"file": "1.png", "hidden": [UPRIGHT, TURNED]}),
            Reason.OUT_OF_RANGE,
            "/pages/1/hidden/1",
        ),
        (({"file": "1.png", "hidden": [[0.1, 0.1, 0.1, 0.2]]},), Reason.OUT_OF_RANGE, "/pages/0/hidden/0"),
        (({"file": "短.mp3"}, {"file": "1.png"}, {"file": "短.mp3"}), Reason.INVALID_NAME, "/pages"),
        (({"file": "谈话.mp3"}, {"file": "长谈.mp3"}), Reason.FILE_TOO_LARGE, "/pages"),
        (({"file": "更长.mp3"},), Reason.FILE_TOO_LARGE, "/pages"),
    ],
)
def test_what_is_chosen_that_no_document_takes_is_refused_before_the_approval(
    archive, pages, reason, pointer
):
    folder = archive.folder / "scans" / "X032-ZY·JH·1990-0127-018"
    folder.mkdir(parents=True)
    Image.new("L", (40, 60), 10).save(folder / "1.png")
    for name, size in (("短.mp3", 9), ("谈话.mp3", 20 << 20), ("长谈.mp3", 20 << 20), ("更长.mp3", 33 << 20)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    order = archive.order(pages=pages)
    if reason is None:
        archive.documents.issuer.can_issue(order.request, "", pages)
        assert archive.documents.issuer.issue(order).form == "certified_copy"
        return
    with pytest.raises(Refusal) as refused:
        archive.documents.issuer.can_issue(order.request, "", pages)
    assert (refused.value.reason, refused.value.pointer) == (reason, pointer)
    with pytest.raises(IssueDeferredError):  # it could not be taken back by then
        archive.documents.issuer.issue(order)


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("周\ue000军、石志步结婚登记", "private_use_character /record/title U+E000"),
        ("周\U00032000军、石志步结婚登记", "missing_glyph /record/title U+32000"),
        ("结婚登记" * 80, "too_long /record/title"),
    ],
)
def test_a_record_that_can_not_be_printed_is_refused_before_the_approval(archive, capsys, title, told):
    csv = archive.folder.parent / "结婚登记.csv"
    csv.write_text(csv.read_text("utf-8").replace("周羣軍、石志步結婚登記", title), "utf-8")
    assert main(["import", str(csv), "--data", str(archive.folder), "--json"]) == 0
    archive.close()
    archive.open()
    with pytest.raises(Refusal) as refused:
        archive.documents.issuer.can_issue(archive.order().request, "", ())
    assert f"{refused.value.reason} {refused.value.pointer}" == told
    desk = desk_at(archive.folder, Clock(), records=FakeRecords(None))
    give(desk, archive.order().request)
    desk.store.close()
    assert main(["desk", "approve", "c1", "--as", "沈甲", "--data", str(archive.folder)]) == 1
    assert told in capsys.readouterr().err


def test_the_command_refuses_what_could_never_be_issued_too(archive, capsys):
    desk = desk_at(archive.folder, Clock(), records=FakeRecords(None))
    give(desk, archive.order().request)
    desk.store.close()
    approve = ["desk", "approve", "c1", "--as", "沈甲", "--data", str(archive.folder)]
    assert main([*approve, "--archival-code", "J1-无"]) == 1
    assert "out_of_range /archival_code" in capsys.readouterr().err
    assert main([*approve, "--page", "第1页.png:2"]) == 1
    assert "out_of_range /pages/0/file" in capsys.readouterr().err
    assert main([*approve, "--archival-code", "X032-ZY.JH.1990-0127-018"]) == 0


@pytest.mark.parametrize("written", [SECOND, SECOND.replace("·", "."), "x032—zy．jh．1991—0003—002"])
def test_the_record_a_reviewer_names_is_stated_and_not_the_one_that_was_asked_for(archive, written):
    issued = archive.documents.issuer.issue(archive.order(archival_code=written))
    report = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert report.facts["statement"]["record"]["archival_code"] == SECOND


def test_the_record_that_was_asked_for_is_stated_though_its_code_is_written_otherwise(archive):
    issued = archive.documents.issuer.issue(archive.order(archival_code="X032-ZY.JH.1990-0127-018"))
    report = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert report.facts["statement"]["record"]["archival_code"] == "X032-ZY·JH·1990-0127-018"


def test_a_record_that_is_gone_and_a_full_disk_are_named_and_nothing_is_issued(archive, monkeypatch):
    order = archive.order(archival_code="no such code")
    lost = msgspec.structs.replace(order, request=msgspec.structs.replace(order.request, ref="gone"))
    with pytest.raises(IssueDeferredError, match="record_not_found"):
        archive.documents.issuer.issue(lost)
    early = msgspec.structs.replace(order, request=None)  # a deputy's approval before the request itself
    with pytest.raises(IssueDeferredError, match="request_not_here"):
        archive.documents.issuer.issue(early)

    def full(*_args):
        raise Refusal(Reason.STORE_UNAVAILABLE)

    with monkeypatch.context() as patch:
        patch.setattr(archive.documents.registry, "_write", full)
        with pytest.raises(IssueDeferredError, match="store_unavailable"):
            archive.documents.issuer.issue(archive.order())
    assert archive.documents.issuer.issue(archive.order()).number.endswith("-000001")  # the number was kept


@pytest.mark.parametrize("by_phone", [True, False])
def test_a_record_corrected_between_two_tries_is_stated_alike_by_document_and_credential(
    archive, tmp_path, monkeypatch, by_phone
):
    phone = suite("intl-1").generate("ES256")
    wishes = Wishes(holder_keys=(suite("intl-1").jwk(phone.public),)) if by_phone else Wishes()
    order = archive.order(wishes=wishes, archival_code="X032-ZY·JH·1990-0127-018")
    order = msgspec.structs.replace(order, request=msgspec.structs.replace(order.request, ref=""))

    def full(*_args, **_more):
        raise Refusal(Reason.STORE_UNAVAILABLE)

    registry, number = archive.documents.registry, "330483-2026-000001"
    kept = []
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(archive.documents.store, "keep", full)
            with pytest.raises(IssueDeferredError, match="store_unavailable"):
                archive.documents.issuer.issue(order)
        kept.append(registry.of_number(number, "credential"))
    first, again = kept
    assert first == again, "the same content: the same credential"
    indexes = registry.indexes(number)
    csv = tmp_path / "结婚登记.csv"
    csv.write_text(csv.read_text("utf-8").replace("桐石字第127号", "桐石字第128号"), "utf-8")
    assert main(["import", str(csv), "--data", str(archive.folder), "--json"]) == 0
    archive.close()
    archive.open()
    issued = archive.documents.issuer.issue(order)
    assert issued.number == number
    pdf = check(archive, archive.fetch(f"document/{issued.reference}"))
    assert pdf.verdict is Verdict.VALID, pdf.as_json()
    credential = archive.fetch(f"credential/{issued.credential}")
    report = check(archive, credential)
    assert report.verdict is Verdict.VALID, report.as_json()
    assert report.facts["digest"] == pdf.facts["content_sha256"]
    assert "桐石字第128号" in str(pdf.facts)
    registry = archive.documents.registry
    assert registry.indexes(number) == indexes
    with pytest.raises(Refusal, match="not_found"):
        registry.find("credential", first.reference)
    assert archive.documents.issuer.issue(order) == issued


def test_the_log_holds_the_commitment_before_the_seal_and_others_can_fetch_it(archive):
    issued = archive.documents.issuer.issue(archive.order())
    text = archive.fetch("log/checkpoint").decode()
    (key,) = archive.trust.keys(Use.LOG, "330483")
    checkpoint = open_checkpoint(SignedNote.parse(text), VerifierKey.parse(key.vkey))
    assert checkpoint.size >= 1
    archive.fetch(f"document/{issued.reference}")
    archive.documents.close()
    archive.open()
    assert b"delivered" in archive.fetch("log/account")
    with pytest.raises(Refusal):
        archive.shelf.open("log/entries", b"")


def test_what_nobody_issued_can_not_be_fetched(archive):
    for name in (
        "document/" + "0" * 64,
        "document/../keys/credential.pem",
        "credential/x",
        "status/other",
        "keys/log",
    ):
        with pytest.raises(Refusal) as refused:
            archive.shelf.open(name, b"")
        assert refused.value.reason is Reason.NOT_FOUND


def told_by_watching(archive, action):
    """What a running archive logs of this kind as soon as it looks at its seal and its revocation lists."""

    async def begin():
        loops = archive.documents.loops()
        watching = asyncio.create_task(loops.pop("revocation lists"))
        for other in loops.values():
            other.close()
        while not found():
            await asyncio.sleep(0.01)
        watching.cancel()

    def found():
        return [one for one in told if one["action"] == action]

    with capture_logs() as told:
        asyncio.run(begin())
    return found()


def test_a_running_archive_tells_of_lists_that_are_missing(archive):
    for path in (archive.folder / "keys").glob("*.crl"):
        path.unlink()
    ((kind, reason),) = {
        (one["kind"], one["reason"]) for one in told_by_watching(archive, "agent.revocation_lists")
    }
    assert (kind, reason) == ("seal", "missing")


def test_a_running_archive_tells_of_a_seal_that_can_not_be_used_before_anybody_waits(archive, monkeypatch):
    monkeypatch.setattr(documents, "now", lambda: now() + timedelta(days=9_000))
    (one,) = told_by_watching(archive, "agent.seal")
    assert one["kind"] == "certificate"
    assert "renew it" in one["reason"]
