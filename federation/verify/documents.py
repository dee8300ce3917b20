"""One door for everything that can be verified: a PDF, the text of a QR code, a credential or presentation."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from datetime import datetime

from federation.credential import qr, sd_jwt
from federation.reasons import Text
from federation.trust import TrustList
from federation.verify.challenge import Challenge, NonceStore
from federation.verify.presentation import check_presentation
from federation.verify.qr import check_qr
from federation.verify.report import Checklist, Report, VerificationReason
from federation.verify.status import StatusSource

MOST_BYTES = 256 << 20
"""Of a document: a certified copy with 200 MB of scans."""

MOST_TEXT = 4 * sd_jwt.MOST_CHARACTERS  # UTF-8

_PDF_MARK_WITHIN = 1_024  # readers accept leading bytes; the PDF checks then refuse what may not be there

_FORM = {"form": Text("可以核验的文件或文本", "A file or text that can be verified")}


def verify(
    data: bytes,
    trust: TrustList,
    status: StatusSource,
    at: datetime,
    *,
    challenge: Challenge | None = None,
    nonces: NonceStore | None = None,
) -> Report:
    """Find out what `data` is and verify it; never raises for anything that `data` holds.

    A challenge is answered by the holder of a credential alone: nothing else that is sent in its place is valid.
    """
    try:
        if len(data) > MOST_BYTES:
            return refused(VerificationReason.TOO_LARGE, f"> {MOST_BYTES >> 20} MB")
        if looks_like_pdf(data):
            if challenge is not None:
                return refused(VerificationReason.NO_HOLDER_PROOF)
            return _pdf_checker()(data, trust, status, at)
        if len(data) > MOST_TEXT:
            return refused(VerificationReason.TOO_LARGE, f"> {MOST_TEXT >> 10} KB")
        text = data.decode("utf-8").strip("\ufeff\r\n\t")  # a space may be the last character of a QR text
        if text.startswith(qr.PREFIX):
            if challenge is not None:
                return refused(VerificationReason.NO_HOLDER_PROOF)
            return check_qr(text, trust, status, at)
        if text.startswith("{") or "~" in text:
            return check_presentation(text, trust, status, at, challenge=challenge, nonces=nonces)
        return refused(VerificationReason.UNSUPPORTED_FORMAT)
    except UnicodeDecodeError:
        return refused(VerificationReason.UNSUPPORTED_FORMAT)
    except ModuleNotFoundError as error:
        return refused(VerificationReason.UNSUPPORTED_FORMAT, error.name or "", unknown=True)
    except Exception as error:  # a flaw of ours must not look like a verdict, and must not stop the caller
        return refused(VerificationReason.INTERNAL, type(error).__name__, unknown=True)


def looks_like_pdf(data: bytes) -> bool:
    return b"%PDF-" in data[:_PDF_MARK_WITHIN]


def refused(reason: VerificationReason, detail: str = "", *, unknown: bool = False) -> Report:
    """A report on what could not even be taken for a document."""
    checks = Checklist(_FORM)
    (checks.unknown if unknown else checks.failed)("form", reason, detail)
    return Report("unknown", checks.checks)


def _pdf_checker() -> Callable[[bytes, TrustList, StatusSource, datetime], Report]:
    checker: Callable[[bytes, TrustList, StatusSource, datetime], Report] = importlib.import_module(
        "federation.verify.pdf"
    ).check_pdf
    return checker
