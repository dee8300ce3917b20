"""`/verify`: whoever holds a certificate checks it here, by its short code, its file or the text of its QR code.

One answer first, in both languages, then what it rests on. Nothing a visitor sends comes back but what was verified, and
nothing of it is logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib import resources
from typing import Any, Protocol

from aiohttp import web
from jinja2 import Environment, PackageLoader, StrictUndefined

from federation import short_code
from federation.documents import CHINA
from federation.http.limits import RateLimit
from federation.http.problems import STATUS
from federation.reasons import TEXTS, Reason, Refusal, Text
from federation.verify import facts
from federation.verify.challenge import Challenge
from federation.verify.report import TEXTS as VERIFICATION_TEXTS
from federation.verify.report import Report, Verdict
from federation.verify.status import State
from gateway import telemetry
from gateway.bodies import Bodies
from gateway.evidence.register import Found
from gateway.evidence.verifying import LARGEST_DOCUMENT
from gateway.pages.uploads import Uploads

Handler = Callable[[web.Request, str], Awaitable[web.StreamResponse]]

_LONGEST_CODE, _LARGEST_TEXT = 256, 1 << 20
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Language": "zh-CN, en",
}

MOST_ROWS = 400
"""A note over 40 archives has about 200, one over the 349 of the delta some 1,700: of that the page shows the beginning."""

_STATES: dict[State | None, tuple[str, Text, Text]] = {
    State.VALID: (
        "good",
        Text("有效", "Valid"),
        Text(
            "该馆确曾出具这份证明，且未撤销。", "The archive issued this certificate and has not revoked it."
        ),
    ),
    State.REVOKED: (
        "bad",
        Text("已撤销，请勿接受", "Revoked: do not accept it"),
        Text("该馆曾出具这份证明，后已撤销。", "The archive issued it and has revoked it since."),
    ),
    State.REPLACED: (
        "bad",
        Text("已被新的证明取代", "Replaced by a newer certificate"),
        Text("请向持证人索取新的证明。", "Ask the holder for the newer one."),
    ),
    State.SUSPENDED: (
        "bad",
        Text("暂停使用", "Suspended"),
        Text("该馆暂停了这份证明的使用，请稍后再查或向该馆查询。", "Ask the archive, or look again later."),
    ),
    None: (
        "open",
        Text("该馆曾出具，现在是否有效暂时无法确认", "Issued; whether it still stands can not be told now"),
        Text("请稍后再查，或向该馆查询。", "Look again later, or ask the archive."),
    ),
}
_VERDICTS: dict[Verdict, tuple[str, Text]] = {
    Verdict.VALID: ("good", Text("核验通过", "Valid")),
    Verdict.INVALID: ("bad", Text("核验未通过，请勿接受", "Not valid: do not accept it")),
    Verdict.UNKNOWN: ("open", Text("暂时无法判定", "Can not tell")),
}
_MARKS = {
    "passed": Text("✓ 通过", "passed"),
    "failed": Text("✗ 未通过", "failed"),
    "unknown": Text("？无法判定", "can not tell"),
    "skipped": Text("– 未作", "skipped"),
}
_NO_SUCH = Text(
    "请对照纸面再输入一次。仍查不到时，请上传 PDF 或粘贴二维码文本核验，或按纸面所印馆名直接向该馆查询；在此之前请勿接受。",
    "Compare with the paper and type it again. If it is still not found, check the PDF or the QR text below, or ask the "
    "archive named on the paper; until then do not accept it.",
)
_LATER = Text("请稍候再试。", "Try again in a moment.")
_REFUSED: dict[Reason, tuple[Text, Text]] = {
    Reason.NOT_FOUND: (Text("查无此核验码", "No certificate bears this code"), _NO_SUCH),
    Reason.MISSING_FIELD: (
        Text("没有收到内容", "Nothing was sent"),
        Text("请先填写或选择文件，再提交。", "Fill in a field or choose a file first."),
    ),
    Reason.TOO_LARGE: (
        Text("内容过大", "Too large"),
        Text(
            "文件至多 64 MB；更大的请用 lantai-verify 核验。",
            "Files up to 64 MB; use lantai-verify for larger ones.",
        ),
    ),
    **dict.fromkeys(
        (Reason.UNSUPPORTED_MEDIA_TYPE, Reason.MALFORMED_TEXT, Reason.MALFORMED_BODY, Reason.UNKNOWN_FIELD),
        (
            Text("无法读取提交的内容", "What was sent can not be read"),
            Text("请用本页的表单提交。", "Use the forms of this page."),
        ),
    ),
}
_MISTYPED = Text("核验码有误", "That is not a short code")


class LookingUp(Protocol):
    """Finds documents by their short codes. Refusal: not_found, store_unavailable."""

    async def look_up(self, code: str) -> Found: ...


class Verifying(Protocol):
    """The verifier that also answers POST /v1/documents/verify. Refusal(OVERLOADED)."""

    async def verify(self, data: bytes, challenge: Challenge | None = None) -> Report: ...


class VerifyPage:
    """Without a trust list (`codes`, `verifying` None) the page says that nothing can be checked here."""

    def __init__(
        self, codes: LookingUp | None, verifying: Verifying | None, limit: RateLimit, bodies: Bodies
    ) -> None:
        self._codes, self._verifying, self._limit = codes, verifying, limit
        fields = {"code": _LONGEST_CODE, "text": _LARGEST_TEXT, "file": LARGEST_DOCUMENT}
        self._uploads = Uploads(fields, bodies)
        self._templates = Environment(
            loader=PackageLoader("gateway.pages", "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._css = resources.files("gateway.pages").joinpath("verify.css").read_bytes()

    def routes(self) -> list[tuple[str, str, Handler]]:
        return [
            ("GET", "/verify", self._guarded(self._start)),
            ("GET", "/verify/", self._guarded(self._start)),  # as people type it
            ("POST", "/verify", self._guarded(self._sent)),
            ("GET", "/verify/{short_code}", self._guarded(self._look_up)),
            ("GET", "/pages/verify.css", self._style),
        ]

    def _guarded(self, work: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Handler:
        """Whatever is refused is told as a page, with the status the API has for it."""

        async def handle(request: web.Request, _trace: str) -> web.StreamResponse:
            try:
                self._limit.take_stranger(request.remote)
                if self._codes is None:
                    return self._refused(Refusal(Reason.NO_TRUST_LIST))
                return await work(request)
            except Refusal as refusal:
                telemetry.REFUSALS.labels(reason=refusal.reason.value).inc()
                return self._refused(refusal)

        return handle

    def _page(self, template: str, status: int = 200, **given: Any) -> web.Response:
        text = self._templates.get_template(template).render(**given)
        return web.Response(text=text, status=status, content_type="text/html", headers=_HEADERS)

    def _refused(self, refusal: Refusal) -> web.Response:
        title, advice = _REFUSED.get(refusal.reason, (TEXTS[refusal.reason], _LATER))
        page = self._page("refused.html", STATUS[refusal.reason], title=title, advice=advice)
        if refusal.retry_after_s is not None:
            page.headers["Retry-After"] = str(max(1, round(refusal.retry_after_s)))
        return page

    def _mistyped(self) -> web.Response:
        """The same as for a code that no certificate bears, but for the heading, which its check character decides."""
        return self._page("refused.html", 404, title=_MISTYPED, advice=_NO_SUCH)

    async def _start(self, _request: web.Request) -> web.StreamResponse:
        return self._page("start.html")

    async def _look_up(self, request: web.Request) -> web.StreamResponse:
        assert self._codes is not None
        code = short_code.canonical(request.match_info["short_code"])
        if not code:
            return self._mistyped()
        found = await self._codes.look_up(code)
        tone, verdict, meaning = _STATES[found.state]
        if found.reason is not None:
            said = VERIFICATION_TEXTS[found.reason]
            meaning = Text(f"{said.zh}。{meaning.zh}", f"{said.en}. {meaning.en}")
        return self._page(
            "found.html",
            found=found,
            tone=tone,
            verdict=verdict,
            meaning=meaning,
            form=facts.FORMS[found.certificate.form],
            code=short_code.grouped(found.certificate.short_code),
            as_of=_beijing(found.as_of),
        )

    async def _sent(self, request: web.Request) -> web.StreamResponse:
        """A form: a code leads to its address, so that the answer can be kept and printed; anything else is verified."""
        assert self._verifying is not None
        fields = await self._uploads.read(request)
        if "code" in fields:
            code = short_code.canonical(fields["code"].decode("utf-8", "replace"))
            if not code:  # not into an address: it may be anything, a name too
                return self._mistyped()
            return web.Response(status=303, headers={**_HEADERS, "Location": f"/verify/{code}"})
        data = fields.get("file") or fields.get("text")
        if not data:
            raise Refusal(Reason.MISSING_FIELD)
        report = await self._verifying.verify(data)
        tone, verdict = _VERDICTS[report.verdict]
        return self._page(
            "report.html",
            report=report,
            tone=tone,
            verdict=verdict,
            rows=_rows(report),
            marks=_MARKS,
            as_of=_beijing(report.valid_as_of),
        )

    async def _style(self, _request: web.Request, _trace: str) -> web.StreamResponse:
        headers = {"Cache-Control": "max-age=3600", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=self._css, content_type="text/css", charset="utf-8", headers=headers)


def _rows(report: Report) -> list[tuple[Text, str]]:
    number = [(Text("证明编号", "Number"), report.number)] if report.number else []
    successor = [(Text("取代它的证明", "Replaced by"), report.successor)] if report.successor else []
    return [*number, *successor, *facts.rows(report.facts, MOST_ROWS)]


def _beijing(at: datetime | None) -> str:
    return "" if at is None else at.astimezone(CHINA).strftime("%Y-%m-%d %H:%M")
