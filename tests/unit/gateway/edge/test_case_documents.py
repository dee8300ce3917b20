"""Handing documents over HTTP from archives that cut off, lie, lose or are away; the clock stops only with the last byte."""

from __future__ import annotations

import asyncio
import hashlib

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from federation.reasons import Reason, Refusal
from gateway.cases.states import State
from gateway.edge import delivery
from gateway.edge.case_documents import CaseDocuments
from gateway.edge.problems import problem
from tests.fakes.cases import new_case
from tests.fakes.edge import CONTRACT

BODY = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(BODY).hexdigest()
PIECE = 64 * 1024


class FakeCarried:
    """BODY from `offset`; after `cut` bytes comes `fault`."""

    def __init__(
        self,
        offset: int,
        *,
        cut: int = -1,
        fault: Exception | None = None,
        digest: str = DIGEST,
        media_type: str = "application/pdf",
    ) -> None:
        self.size, self.sha256, self.media_type = len(BODY), bytes.fromhex(digest), media_type
        self._at, self._cut, self._fault = offset, cut, fault
        self.is_closed = False

    async def chunks(self):
        for begin in range(self._at, len(BODY), PIECE):
            if self._fault is not None and begin >= self._cut:
                raise self._fault
            yield BODY[begin : begin + PIECE]

    async def close(self) -> None:
        self.is_closed = True


class Archives:
    """Fills `Deliveries`; `refusal` is what every opening says, `faults` go to what is carried."""

    def __init__(self, refusal: Refusal | None = None, **faults) -> None:
        self.refusal, self.faults = refusal, faults
        self.asked, self.carried = [], []

    async def open(self, archive, name, offset=0):
        self.asked.append((archive, name, offset))
        if self.refusal is not None:
            raise self.refusal
        self.carried.append(FakeCarried(offset, **self.faults))
        return self.carried[-1]


class Desk:
    """One issued case behind a real HTTP server."""

    def __init__(self, archives: Archives, **changes) -> None:
        self.case = new_case()
        self.case.state, self.case.holder = State.ISSUED, "330483"
        self.case.decision = {"number": "330483-2026-000001", "document": DIGEST, "credential": DIGEST}
        for name, value in changes.items():
            setattr(self.case, name, value)
        self.archives, self.delivered = archives, 0

    async def _find(self, _request):
        return self.case

    async def _delivered(self, case):
        self.delivered += 1
        return case

    async def __aenter__(self):
        documents = CaseDocuments(self._find, self._delivered, self.archives)

        def through(handler):
            async def handle(request):
                try:
                    return await handler(request, "trace")
                except Refusal as refusal:
                    return problem(refusal, "en", "trace")

            return handle

        app = web.Application()
        app.router.add_get("/document", through(documents.document))
        app.router.add_get("/credential", through(documents.credential))
        self.client = TestClient(TestServer(app))
        await self.client.start_server()
        return self

    async def __aexit__(self, *_error):
        await self.client.close()

    async def get(self, path="/document", **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.get(path, headers=named) as answer:
            body = await answer.read()
            CONTRACT.hold("GET", f"/v1/cases/x{path}", answer.status, answer.headers, body)
            return answer.status, answer.headers, body


async def test_a_document_comes_whole_and_from_any_byte_and_each_last_byte_is_a_delivery():
    async with Desk(Archives()) as desk:
        status, headers, body = await desk.get()
        assert (status, body, desk.delivered) == (200, BODY, 1)
        assert headers["Content-Disposition"] == 'attachment; filename="330483-2026-000001.pdf"'
        assert headers["Cache-Control"] == "no-store"
        status, headers, body = await desk.get(Range="bytes=100000-", If_Range=f'"{DIGEST}"')
        assert (status, body, desk.delivered) == (206, BODY[100_000:], 2)
        assert headers["Content-Range"] == f"bytes 100000-{len(BODY) - 1}/{len(BODY)}"
        status, _headers, body = await desk.get(Range="bytes=100000-", If_Range='"another"')
        assert (status, body) == (200, BODY)
        assert (await desk.get(Range=f"bytes={len(BODY)}-"))[0] == 416
        assert [offset for _archive, _name, offset in desk.archives.asked] == [0, 100_000, 0, len(BODY)]
        assert all(one.is_closed for one in desk.archives.carried)


@pytest.mark.parametrize(
    ("media_type", "told", "ending"),
    [
        ("application/dc+sd-jwt", "application/dc+sd-jwt", "sd-jwt"),
        ("application/sd-jwt+json", "application/sd-jwt+json", "json"),  # with a second signature
        ("text/html", "application/octet-stream", "bin"),
    ],
)
async def test_a_credential_is_called_what_it_is(media_type, told, ending):
    async with Desk(Archives(media_type=media_type)) as desk:
        status, headers, body = await desk.get("/credential")
        assert (status, headers["Content-Type"], body) == (200, told, BODY)
        assert headers["Content-Disposition"].endswith(f'.{ending}"')


async def test_the_credential_and_the_description_stop_no_clock():
    async with Desk(Archives(media_type="text/plain")) as desk:
        assert (await desk.get("/credential"))[0] == 200
        desk.archives.faults["media_type"] = "application/pdf"
        status, headers, _body = await desk.get(Accept="application/json")
        assert (status, headers["Content-Type"].split(";")[0]) == (200, "application/json")
        assert desk.delivered == 0
        assert (await desk.get(Accept="application/json, */*;q=0.1"))[2] == BODY


@pytest.mark.parametrize(
    ("refusal", "status", "reason"),
    [
        (Refusal(Reason.HOLDER_UNREACHABLE), 503, "holder_unreachable"),
        (Refusal(Reason.INTERNAL), 503, "holder_unreachable"),
        (Refusal(Reason.OVERLOADED), 503, "overloaded"),
        (Refusal(Reason.NOT_FOUND), 404, "unknown_document"),
        (Refusal(Reason.ALTERED), 502, "altered"),
        (Refusal(Reason.OUT_OF_RANGE), 416, "range_not_satisfiable"),
    ],
)
async def test_an_archive_that_does_not_give_it_is_named_and_nothing_is_delivered(refusal, status, reason):
    async with Desk(Archives(refusal)) as desk:
        said, headers, body = await desk.get()
        assert (said, reason in body.decode(), desk.delivered) == (status, True, 0)
        assert ("Retry-After" in headers) == (status == 503)


@pytest.mark.parametrize(
    "faults",
    [
        {"digest": "0" * 64},  # it holds something else under this name
        {"cut": 0, "fault": Refusal(Reason.ALTERED)},  # found wrong before anything was passed on
    ],
)
async def test_wrong_bytes_are_refused_before_the_first_of_them(faults):
    async with Desk(Archives(**faults)) as desk:
        status, _headers, body = await desk.get()
        assert (status, b"altered" in body, desk.delivered) == (502, True, 0)
        assert desk.archives.carried[0].is_closed


@pytest.mark.parametrize("fault", [Refusal(Reason.ALTERED), Refusal(Reason.HOLDER_UNREACHABLE)])
async def test_what_breaks_off_later_is_seen_as_broken_off_and_is_no_delivery(fault):
    async with Desk(Archives(cut=2 * PIECE, fault=fault)) as desk:
        with pytest.raises(aiohttp.ClientPayloadError):
            await desk.get()
        assert desk.delivered == 0
        assert desk.archives.carried[0].is_closed


async def test_a_caller_who_takes_nothing_is_let_go(monkeypatch):
    monkeypatch.setattr(delivery, "SLOWEST_READER_S", 0.05)
    closed = asyncio.Event()

    class Endless(FakeCarried):
        async def chunks(self):
            while True:
                yield bytes(1 << 20)

        async def close(self):
            closed.set()

    archives = Archives()
    async with Desk(archives) as desk:

        async def opened(_archive, _name, offset=0):
            carried = Endless(offset)
            carried.size = 1 << 40
            return carried

        archives.open = opened
        answer = await desk.client.get("/document")
        async with asyncio.timeout(20):
            await closed.wait()
        answer.close()
        assert desk.delivered == 0


async def test_a_reference_that_is_no_digest_is_asked_of_nobody():
    async with Desk(Archives(), decision={"number": "1", "document": "../keys/seal.key"}) as desk:
        assert (await desk.get())[0] == 502
        assert desk.archives.asked == []


async def test_an_archive_without_documents_gives_its_notice_which_is_the_answer():
    async with Desk(Archives(), decision={"number": "1"}) as desk:
        status, _headers, body = await desk.get(Accept="application/json")
        assert (status, b"approval_notice" in body, desk.delivered) == (200, True, 1)
        assert (await desk.get("/credential"))[0] == 409


async def test_a_note_comes_from_the_archive_that_wrote_it():
    note = {"state": State.NO_RECORD, "verdict": "complete", "noting": "330402"}
    async with Desk(Archives(), **note, holder="", decision={}) as desk:
        status, headers, body = await desk.get()
        assert (status, b"no_document" in body, headers["Retry-After"]) == (409, True, "2")
        assert (await desk.get(Accept="application/json"))[0] == 200
        assert desk.delivered == 0
        desk.case.decision = {"number": "330402-2026-000001", "document": DIGEST}
        assert (await desk.get())[2] == BODY
        assert desk.archives.asked == [("330402", f"document/{DIGEST}", 0)]
        assert desk.delivered == 1
