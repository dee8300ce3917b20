"""The page over HTTP: one clear answer in both languages, nothing personal, nothing that runs, nothing without a bound."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import html
import re
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp
import pytest

from federation import short_code
from federation.http.limits import RateLimit
from federation.reasons import Reason, Refusal, Text
from federation.verify.documents import refused
from federation.verify.report import TEXTS as VERIFICATION
from federation.verify.report import Check, Report, Result, VerificationReason, VerifyError
from federation.verify.status import Standing, State, StatusReference
from gateway import bodies
from gateway.bodies import LARGE, SMALL, Bodies, Places
from gateway.edge.verification import VerificationRoutes
from gateway.evidence.register import Found, Registered, ShortCodes
from gateway.pages import verify
from gateway.pages.verify import VerifyPage
from tests.fakes.edge import CONTRACT, Gateway

CODE = short_code.new()
ISSUED = Registered(
    CODE, "330483", "330483-2026-000012", "case-1", "recorded_facts", "2026-11-25", "d" * 64,
    StatusReference("https://g.example/v1/status-lists/330483", 7),
)  # fmt: skip
AS_OF = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
CANARY = "欧阳試驗"


class Registry:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def by_code(self, code: str) -> Registered | None:
        self.asked.append(code)
        return ISSUED if code == CODE else None

    async def by_number(self, archive: str, number: str) -> Registered | None:
        return None


class Statuses:
    def __init__(self) -> None:
        self.says: Standing | VerifyError = Standing(State.VALID, AS_OF)

    def standing(self, issuer, reference, at):
        assert (issuer, reference) == ("330483", ISSUED.status)
        if isinstance(self.says, VerifyError):
            raise self.says
        return self.says


class Trust:
    def name(self, code: str) -> str:
        return {"330483": "桐乡市档案馆"}[code]


class Verifier:
    """Says one thing of everything, and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.report = Report(
            "qr",
            (Check(1, "form", Result.PASSED, None, Text("格式正确", "Well formed")),),
            issuer="330483",
            number=ISSUED.number,
            facts={
                "archive": "桐乡市档案馆",
                "purposes": ["marriage_proof"],
                "digest": "ab",
                "facts": {"name": CANARY},
            },
            valid_as_of=AS_OF,
        )

    async def verify(self, data: bytes, challenge=None) -> Report:
        self.given.append(data)
        return self.report


class Page(Gateway):
    """The page and the API beside it, as the gateway has them."""

    def __init__(
        self,
        *,
        per_minute: int = 60_000,
        without_trust: bool = False,
        small: Places = SMALL,
        large: Places = LARGE,
    ) -> None:
        super().__init__()
        self.registry, self.statuses, self.verifier = Registry(), Statuses(), Verifier()
        codes = None if without_trust else ShortCodes(self.registry, Trust(), self.statuses)
        limit, places = RateLimit(per_minute, time.monotonic), Bodies(small, large)
        page = VerifyPage(codes, self.verifier, limit, places)
        api = VerificationRoutes(self.verifier, None, limit, places, audience="a", trust_list=b"{}")
        self.edge._beside = [*page.routes(), *api.routes()]

    async def see(self, path: str, form: aiohttp.FormData | dict | None = None, **more):
        """(status, headers, text) of a page, as a browser gets it."""
        if form is not None:
            more["data"] = form
        async with self.client.request(
            "POST" if more else "GET", path, allow_redirects=False, **more
        ) as answer:
            method = "POST" if more else "GET"
            CONTRACT.hold(method, path, answer.status, answer.headers, await answer.read())
            return answer.status, answer.headers, html.unescape(await answer.text())


async def test_a_short_code_is_answered_with_who_issued_what_when_and_whether_it_stands():
    async with Page() as page:
        for typed in (CODE, short_code.grouped(CODE).lower()):
            status, headers, text = await page.see(f"/verify/{typed}")
            assert status == 200
            assert all(
                part in text
                for part in ("有效", "Valid", "桐乡市档案馆", "330483-2026-000012", "2026-11-25", "2026-11-25 10:30",
                             "档案证明", short_code.grouped(CODE))
            )  # fmt: skip
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "<script" not in text
        assert not re.search(r"\son\w+=|style=", text)


@pytest.mark.parametrize(
    ("says", "seen"),
    [
        (Standing(State.REVOKED, AS_OF), ["已撤销", "Revoked", "请勿接受"]),
        (Standing(State.REPLACED, AS_OF, "330483-2026-000013"), ["已被新的证明取代", "330483-2026-000013"]),
        (Standing(State.SUSPENDED, AS_OF), ["暂停使用", "Suspended"]),
        (VerifyError(VerificationReason.STATUS_UNKNOWN, open=True), ["暂时无法确认", "手头没有它的状态名录"]),
        (VerifyError(VerificationReason.WRONG_STATUS_LIST), ["暂时无法确认"]),
        (
            VerifyError(VerificationReason.STATUS_TOO_OLD, "2026-11-20T00:00:00Z", open=True),
            ["暂时无法确认", "上次获知状态", "2026-11-20 08:00"],
        ),
    ],
)  # fmt: skip
async def test_what_no_longer_stands_or_can_not_be_told_never_looks_valid(says, seen):
    async with Page() as page:
        page.statuses.says = says
        status, _headers, text = await page.see(f"/verify/{CODE}")
        assert status == 200
        assert all(one in text for one in seen), text
        assert 'class="answer good"' not in text


async def test_unknown_and_mistyped_codes_get_the_same_page_with_404_and_what_to_do():
    async with Page() as page:
        unknown = await page.see(f"/verify/{short_code.new()}")
        mistyped = await page.see(f"/verify/{CODE[:-1]}{'0' if CODE[-1] != '0' else '1'}")
        assert unknown[0] == mistyped[0] == 404
        assert "请勿接受" in unknown[2]
        assert "type it again" in mistyped[2]
        shape = [
            re.sub(r"<h1>.*?</h1>", "", text, flags=re.DOTALL)
            for _status, _headers, text in (unknown, mistyped)
        ]
        assert shape[0] == shape[1]
        assert len(page.registry.asked) == 1  # a mistyped one is not even looked up


async def test_what_is_no_code_is_never_echoed_nor_put_into_an_address():
    async with Page() as page:
        status, _headers, text = await page.see(f"/verify/{CANARY}<b>")
        assert status == 404
        assert CANARY not in text
        status, headers, text = await page.see("/verify", {"code": CANARY})
        assert status == 404
        assert "Location" not in headers
        assert CANARY not in text


async def test_a_typed_code_leads_to_its_address():
    async with Page() as page:
        status, headers, _text = await page.see("/verify", {"code": f" {short_code.grouped(CODE).lower()} "})
        assert (status, headers["Location"]) == (303, f"/verify/{CODE}")


async def test_a_pasted_text_and_an_uploaded_file_are_verified_by_the_one_verifier():
    async with Page() as page:
        upload = aiohttp.FormData()
        upload.add_field("file", b"%PDF-2.0 \x00\xff", filename="证明.pdf", content_type="application/pdf")
        pasted = aiohttp.FormData({"text": "AC1:XYZ"})
        for form in (upload, pasted, {"text": "AC1:XYZ"}):
            status, _headers, text = await page.see("/verify", form)
            assert status == 200
            assert all(
                one in text
                for one in ("核验通过", "格式正确", "Well formed", CANARY, "婚姻证明", ISSUED.number)
            )
            assert "digest" not in text
        assert page.verifier.given == [b"%PDF-2.0 \x00\xff", b"AC1:XYZ", b"AC1:XYZ"]


async def test_what_fails_says_which_check_and_why():
    async with Page() as page:
        page.verifier.report = refused(VerificationReason.ALTERED)
        status, _headers, text = await page.see("/verify", {"text": "AC1:X"})
        assert status == 200
        assert "请勿接受" in text
        assert VERIFICATION[VerificationReason.ALTERED].zh in text
        assert VERIFICATION[VerificationReason.ALTERED].en in text


async def test_what_a_document_states_is_text_and_never_markup():
    async with Page() as page:
        page.verifier.report = replace(
            page.verifier.report, facts={"facts": {"name": "<script>alert(1)</script>"}}
        )
        async with page.client.post("/verify", data={"text": "AC1:X"}) as answer:
            text = await answer.text()
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def many_fields() -> aiohttp.FormData:
    form = aiohttp.FormData()
    for number in range(9):
        form.add_field("text", f"{number}", content_type="text/plain")
    return form


def nested() -> aiohttp.MultipartWriter:
    inner = aiohttp.MultipartWriter("mixed")
    inner.append("x")
    outer = aiohttp.MultipartWriter("form-data")
    outer.append(inner)
    return outer


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"data": {"name": "x"}}, 422),
        ({"data": {"text": ""}}, 422),
        ({"data": many_fields()}, 422),
        ({"data": nested()}, 400),
        ({"json": {"text": "AC1:"}}, 415),
        ({"data": b"x" * 100_000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 413),
        ({"data": b"text=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"data": b"nothing", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"data": b"nothing", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"data": b"--b\r\nX" + b"y" * 100_000, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400),
        ({"data": {"code": "0" * 300}}, 413),
    ],
)  # fmt: skip
async def test_a_form_that_is_none_is_refused_by_a_page(sent, status):
    async with Page() as page:
        found, headers, text = await page.see("/verify", **sent)
        assert (found, headers["Content-Type"]) == (status, "text/html; charset=utf-8"), text
        assert page.verifier.given == []


async def test_a_file_larger_than_allowed_is_refused_while_it_comes(monkeypatch):
    monkeypatch.setattr(verify, "LARGEST_DOCUMENT", 1_000_000)
    async with Page() as page:
        upload = aiohttp.FormData()
        upload.add_field("file", b"%PDF-" + b"x" * 1_000_000, filename="a.pdf")
        status, _headers, text = await page.see("/verify", upload)
        assert status == 413
        assert "lantai-verify" in text
        assert page.verifier.given == []


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PDF = {"Content-Type": "application/pdf"}


@contextlib.asynccontextmanager
async def held(page: Page, path: str, head: dict[str, str], begin: bytes, *, length: int | None = None):
    """A connection that sent the beginning of a body and no more."""
    url = page.client.make_url(path)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    how = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in head.items()), how]
    body = b"%x\r\n%s\r\n" % (len(begin), begin) if length is None else begin
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_who_sends_slowly_has_two_places_and_leaves_those_of_typed_codes():
    async with Page() as page, contextlib.AsyncExitStack() as slow:
        for path, head in (("/verify", FORM), ("/v1/documents/verify", PDF)):
            await slow.enter_async_context(held(page, path, head, b"text=", length=1 << 20))
        large = b"%PDF-" + b"x" * 100_000
        status = 0
        while status != 503:  # as soon as both of the line's places are taken
            async with page.client.post("/v1/documents/verify", data=large, headers=PDF) as answer:
                status = answer.status
                assert status in {200, 503}
                problem = await answer.json()
        assert problem["reason"] == "overloaded"
        upload = aiohttp.FormData()
        upload.add_field("file", large, filename="a.pdf")
        status, headers, text = await page.see("/verify", upload)
        assert (status, "系统繁忙" in text) == (503, True)
        assert int(headers["Retry-After"]) > 0
        assert (await page.see("/verify", {"code": CODE}))[0] == 303
        async with page.client.post("/v1/documents/verify", data=b"AC1:X", headers=PDF) as answer:
            assert answer.status == 200


@pytest.mark.parametrize(("path", "head"), [("/verify", FORM), ("/v1/documents/verify", PDF)])
@pytest.mark.parametrize("length", [60, 1 << 20, None])
async def test_who_sends_nothing_more_is_let_go_on_both_routes(monkeypatch, path, head, length):
    monkeypatch.setattr(bodies, "GRACE_S", 0.3)
    async with Page(small=Places(1, 1, 0.3), large=Places(1, 1, 120.0)) as page:
        async with held(page, path, head, b"text=", length=length) as (reader, _writer):
            async with asyncio.timeout(20):
                answered = await reader.readline()
            assert answered.split()[1] == b"504"
        assert (await page.see("/verify", {"text": "AC1:X"}))[0] == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_body_that_is_not_as_it_says_it_is_coded_is_refused_by_name(coding):
    async with Page() as page:
        form = {**FORM, "Content-Encoding": coding, "Connection": "close"}
        status, headers, text = await page.see("/verify", data=b"nope", headers=form)
        assert (status, "无法读取提交的内容" in text) == (400, True)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        status, _headers, problem = await page.ask(
            raw=b"nope", path="/v1/documents/verify", headers={**PDF, "Content-Encoding": coding}
        )
        assert (status, problem["reason"]) == (400, "malformed_body")
        assert page.verifier.given == []


@pytest.mark.parametrize(
    ("path", "head", "begin"),
    [
        ("/v1/documents/verify", PDF, b""),
        (
            "/verify",
            {"Content-Type": "multipart/form-data; boundary=b"},
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n',
        ),
    ],
)
async def test_of_a_body_whose_sender_hung_up_nothing_stays(path, head, begin):
    """Where the garbage collector hardly runs: what ended the reading outlives it, and must not hold the body."""
    async with Page() as page:
        gc.collect()
        gc.disable()
        try:
            tracemalloc.start()
            for _ in range(3):
                body = begin + (b"\n" + b"x" * 65_535) * 64
                async with held(page, path, head, body, length=64 << 20) as (_reader, writer):
                    del body
                    while tracemalloc.get_traced_memory()[0] < 3 << 20:
                        await asyncio.sleep(0.01)  # until it was read
                    await asyncio.sleep(0.1)
                    writer.transport.abort()
                async with asyncio.timeout(20):
                    while tracemalloc.get_traced_memory()[0] > 2 << 20:
                        await asyncio.sleep(0.01)
        finally:
            tracemalloc.stop()
            gc.enable()


async def test_strangers_are_limited_and_told_so_by_a_page():
    async with Page(per_minute=6) as page:
        assert (await page.see(f"/verify/{CODE}"))[0] == 200
        status, headers, text = await page.see(f"/verify/{CODE}")
        assert status == 429
        assert int(headers["Retry-After"]) > 0
        assert "请求过于频繁" in text


async def test_without_a_trust_list_the_page_says_so():
    async with Page(without_trust=True) as page:
        for path in ("/verify", "/verify/", f"/verify/{CODE}"):
            assert (await page.see(path))[0] == 404


async def test_a_store_in_trouble_is_not_an_unknown_code():
    async with Page() as page:

        async def broken(_code):
            raise Refusal(Reason.STORE_UNAVAILABLE, retry_after_s=5.0)

        page.registry.by_code = broken
        status, headers, _text = await page.see(f"/verify/{CODE}")
        assert (status, headers["Retry-After"]) == (503, "5")


async def test_the_style_is_a_file_of_its_own():
    async with Page() as page:
        status, headers, text = await page.see("/pages/verify.css")
        assert (status, headers["Content-Type"]) == (200, "text/css; charset=utf-8")
        assert "@import" not in text
        assert "url(" not in text
        status, _headers, start = await page.see("/verify")
        assert status == 200
        assert (await page.see("/verify/"))[::2] == (200, start)
        assert 'href="/pages/verify.css"' in start
        assert start.count("<form ") == 3


def test_every_state_has_words():
    assert set(verify._STATES) == {*State, None}
    assert isinstance(Found(ISSUED, "", None), Found)


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"audience": "a"}, "/nonce"),
        ({"nonce": "n"}, "/audience"),
        ({"purpose": "marriage_proof"}, "/nonce"),
        ({"purpose": "marriage_proof", "audience": "a"}, "/nonce"),
    ],
)
async def test_half_a_challenge_is_refused_and_not_left_out_in_silence(said, pointer):
    async with Page() as page:
        body = {"document": "AC1:X"} | said
        async with page.client.post("/v1/documents/verify", json=body) as answer:
            assert answer.status == 422
            told = await answer.json()
        assert [(one["reason"], one["pointer"]) for one in told["errors"]] == [("missing_field", pointer)]
        assert page.verifier.given == []
        whole = body | {"audience": "a", "nonce": "n"}
        async with page.client.post("/v1/documents/verify", json=whole) as answer:
            assert answer.status == 200
