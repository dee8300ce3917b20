"""The second signature of a sealed PDF: by another suite, over the same bytes as the seal, inside the seal's own CMS.

It is an unsigned attribute of the seal's signer (RFC 5652, 11), where a time stamp stands too: readers that do not know it
leave it aside, and the seal's signature does not cover it. What it covers is the file but for the hole of /Contents, so it
binds every page, attachment and the drawn seal itself, whatever becomes of the first signature's algorithm.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from asn1crypto import cms, core

from federation.credential.sd_jwt import SecondSignature
from federation.suites.base import PrivateKey
from federation.suites.registry import suite
from federation.verify.report import VerificationReason, VerifyError

ATTRIBUTE = "2.25.274282221165641384719672905456272634539"
"""Its object identifier: the arc of random UUIDs (ITU-T X.667), which needs no registration."""

ROOM = 256
"""Bytes it takes in the CMS at most."""

_LABEL = b"lantai-seal-v1\n"
_RANGE = re.compile(rb"/ByteRange\s*\[\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*\]")


class _Signed(core.Sequence):  # type: ignore[misc]
    _fields = [("key_id", core.UTF8String), ("signature", core.OctetString)]  # noqa: RUF012 - as asn1crypto reads it


def message(pdf: bytes, byte_range: Sequence[int], suite_name: str) -> bytes:
    """What is signed: a label and the suite's digest of the bytes the seal covers."""
    start, length, rest_start, rest = byte_range
    view = memoryview(pdf)
    covered = b"".join((view[start : start + length], view[rest_start : rest_start + rest]))
    return _LABEL + suite(suite_name).digest(covered)


def add(pdf: bytes, key: PrivateKey, key_id: str) -> bytes:
    """A file that was just sealed, with the second signature put into its seal. ValueError when there is no room."""
    byte_range = _newest_range(pdf)
    signed = message(pdf, byte_range, key.suite)
    return put(pdf, byte_range, SecondSignature(key_id, suite(key.suite).sign(key, signed)))


def _newest_range(pdf: bytes) -> list[int]:
    """The /ByteRange of the signature that was written last, without reading the whole file: it must cover all of it."""
    found = _RANGE.match(pdf, pdf.rindex(b"/ByteRange"))
    byte_range = [int(number) for number in found.groups()] if found else [0, 0, 0, 0]
    start, left, right, rest = byte_range
    if start or right + rest != len(pdf) or pdf[left : left + 1] + pdf[right - 1 : right] != b"<>":
        raise ValueError("the newest signature does not cover the file")
    return byte_range


def put(pdf: bytes, byte_range: Sequence[int], second: SecondSignature | None) -> bytes:
    """The file with this second signature in the seal of this /ByteRange, in place of any other; nothing outside its hole
    changes.
    """
    _, left, right, _ = byte_range
    content = bytes.fromhex(pdf[left + 1 : right - 1].decode("ascii"))
    (signer,) = cms.ContentInfo.load(content)["content"]["signer_infos"]
    attributes = [one.dump() for one in signer["unsigned_attrs"] if one["type"].native != ATTRIBUTE]
    if second is not None:
        value = _Signed({"key_id": second.key_id, "signature": second.signature})
        attributes.append(cms.CMSAttribute({"type": ATTRIBUTE, "values": [core.Any(value)]}).dump())
    written = _with_unsigned(content, attributes).hex().upper().encode()
    if len(written) > right - left - 2:
        raise ValueError("no room for the second signature")
    return b"".join((pdf[:left], b"<", written.ljust(right - left - 2, b"0"), b">", pdf[right:]))


def _with_unsigned(content: bytes, attributes: list[bytes]) -> bytes:
    """A CMS of one signer with these unsigned attributes, in the order of DER; every other part keeps its bytes."""
    whole = cms.ContentInfo.load(content)
    signed = whole["content"]
    (signer,) = signed["signer_infos"]
    parts = [signer[index].dump() for index in range(len(signer) - 1)]  # the unsigned attributes are the last
    if attributes:
        parts.append(_tagged(0xA1, b"".join(sorted(attributes))))
    signer_infos = _tagged(0x31, _tagged(0x30, b"".join(parts)))
    before = [signed[index].dump() for index in range(len(signed) - 1)]
    body = _tagged(0x30, b"".join((*before, signer_infos)))
    return _tagged(0x30, whole["content_type"].dump() + _tagged(0xA0, body))


def _tagged(tag: int, body: bytes) -> bytes:
    size = len(body)
    if size < 0x80:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def read(signer: cms.SignerInfo) -> SecondSignature | None:
    """The second signature of a seal, None without; it has one spelling. VerifyError: not_canonical, malformed."""
    values = [one["values"] for one in signer["unsigned_attrs"] if one["type"].native == ATTRIBUTE]
    if not values:
        return None
    try:
        ((value,),) = values
        found: Any = _Signed.load(value.dump(), strict=True).native
    except (ValueError, TypeError) as error:
        raise VerifyError(VerificationReason.MALFORMED, "second signature") from error
    if _Signed(found).dump() != value.dump():
        raise VerifyError(VerificationReason.NOT_CANONICAL, "second signature")
    return SecondSignature(found["key_id"], found["signature"])
