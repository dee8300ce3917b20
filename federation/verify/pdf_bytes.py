"""The bytes of a sealed PDF that no signature covers, held to one form, so that none of them can be changed unseen.

A PDF signature leaves out only its own /Contents. CMS leaves parts of itself unsigned: versions, algorithm parameters,
certificates, padding. Here each has exactly one allowed form (RFC 5652 as pyHanko and RFC 3161 authorities write it). What
remains is ECDSA's own: of a signature (r, s) anybody can make (r, n - s), and authorities give either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asn1crypto import cms
from asn1crypto import x509 as asn1_x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import load_der_x509_certificate
from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import EmbeddedPdfSignature

from federation import second_seal
from federation.verify.report import VerificationReason, VerifyError

_R = VerificationReason
MOST_FILES = 64
MOST_FILE_BYTES = 40 << 20
_MOST_DRAWINGS = 500

# the two ways to write an algorithm without parameters: absent or NULL
_SHA256 = (bytes.fromhex("300b0609608648016503040201"), bytes.fromhex("300d06096086480165030402010500"))
_ES256 = bytes.fromhex("300a06082a8648ce3d040302")
_SIGNED_DATA, _TIME_STAMP = "signed_data", "signature_time_stamp_token"


def check_signature_bytes(data: bytes, one: EmbeddedPdfSignature) -> int:
    """Where the part of the file that a signature covers ends; what it leaves out must be its own DER in hex and zeros.

    Raises VerifyError: malformed, not_canonical.
    """
    numbers = [int(number) for number in one.byte_range]
    if len(numbers) != 4 or numbers[0] != 0:
        raise VerifyError(_R.NOT_CANONICAL, "ByteRange")
    _, left, right, rest = numbers
    end = right + rest
    if not 0 < left < right <= end <= len(data):
        raise VerifyError(_R.MALFORMED, "ByteRange")
    der = one.pkcs7_content
    message = cms.ContentInfo.load(der)
    content = message.dump()
    hole = data[left:right]
    if (
        der[len(content) :].strip(b"\0")
        or hole != b"<" + content.hex().upper().encode().ljust(len(hole) - 2, b"0") + b">"
    ):
        raise VerifyError(_R.NOT_CANONICAL, "Contents")
    return end


def check_cms(message: cms.ContentInfo, allowed: Sequence[bytes], content_type: str) -> None:
    """One signer, ES256 and SHA-256, only pinned certificates (DER), nothing unsigned but a time stamp and a second
    signature, in canonical DER.

    `allowed` begins with the signer's certificate, which must be named letter by letter: names compare without case
    (RFC 5280, 7.1), and the name stands where nothing signs it.

    Raises VerifyError: altered, not_canonical, wrong_algorithm, unknown_key.
    """
    _check_der(message.dump())
    signed = message["content"]
    if message["content_type"].native != _SIGNED_DATA:
        raise VerifyError(_R.NOT_CANONICAL, "CMS")
    info = signed["encap_content_info"]
    version = "v1" if content_type == "data" else "v3"
    (signer,) = signed["signer_infos"]
    if (
        signed["version"].native != version
        or info["content_type"].native != content_type
        or signer["version"].native != "v1"
        or signer["sid"].name != "issuer_and_serial_number"
        or signed["crls"].native
    ):
        raise VerifyError(_R.NOT_CANONICAL, "CMS")
    digest = signer["digest_algorithm"].dump()
    if digest not in _SHA256 or [one.dump() for one in signed["digest_algorithms"]] != [digest]:
        raise VerifyError(_R.WRONG_ALGORITHM)
    if signer["signature_algorithm"].dump() != _ES256:
        raise VerifyError(_R.WRONG_ALGORITHM)
    certificates = [one.chosen.dump() for one in signed["certificates"]]
    if not set(certificates) <= set(allowed):
        raise VerifyError(_R.UNKNOWN_KEY, "CMS")
    # nothing signs which certificates lie here: of a seal they are the whole chain but its root, of a time stamp what its
    # authority gives; both in the order of DER
    wanted = {allowed[0], *allowed[1:-1]} if content_type == "data" else set(certificates)
    if certificates != sorted(wanted):
        raise VerifyError(_R.NOT_CANONICAL, "CMS")
    _check_unsigned_attributes(signer, second_allowed=content_type == "data")
    leaf = asn1_x509.Certificate.load(allowed[0])
    named = signer["sid"].chosen
    if named["issuer"].dump() != leaf.issuer.dump() or named["serial_number"].native != leaf.serial_number:
        raise VerifyError(_R.NOT_CANONICAL, "CMS")
    _check_signed_attributes(signer, content_type)


def _check_unsigned_attributes(signer: cms.SignerInfo, *, second_allowed: bool) -> None:
    """A time stamp and a second signature at most, once each, in the order of DER."""
    attributes = list(signer["unsigned_attrs"])
    kinds = [one["type"].native for one in attributes]
    allowed = {_TIME_STAMP, second_seal.ATTRIBUTE} if second_allowed else {_TIME_STAMP}
    written = [one.dump() for one in attributes]
    if (
        not set(kinds) <= allowed
        or len(set(kinds)) != len(kinds)
        or any(len(one["values"]) != 1 for one in attributes)
        or written != sorted(written)
    ):
        raise VerifyError(_R.NOT_CANONICAL, "CMS")


def _check_signed_attributes(signer: cms.SignerInfo, content_type: str) -> None:
    attributes = signer["signed_attrs"]
    kinds = [one["type"].native for one in attributes]
    if len(set(kinds)) != len(kinds) or any(len(one["values"]) != 1 for one in attributes):
        raise VerifyError(_R.NOT_CANONICAL, "CMS")
    told = {one["type"].native: one["values"][0] for one in attributes}
    if told["content_type"].native != content_type:
        raise VerifyError(_R.NOT_CANONICAL, "CMS")


def _check_der(data: bytes) -> None:
    """Every length in its shortest form and every tag of one byte, as DER has it (X.690, 8.1 and 10.1); no end-of-contents
    octets, as which the zeros behind the signature would be read if an outer length took them in.
    """
    open_parts = [(0, len(data), 0)]
    while open_parts:
        at, end, depth = open_parts.pop()
        if depth > 40:
            raise VerifyError(_R.TOO_DEEP)
        while at < end:
            tag, length, body = data[at], data[at + 1], at + 2
            if length & 0x80:
                size = length & 0x7F
                length = int.from_bytes(data[body : body + size], "big")
                body += size
                shortest = size == max(1, (length.bit_length() + 7) // 8) and length >= 0x80
            else:
                shortest = True
            if not shortest or tag == 0 or tag & 0x1F == 0x1F or body + length > end:
                raise VerifyError(_R.NOT_CANONICAL, "DER")
            if tag & 0x20:
                open_parts.append((body, body + length, depth + 1))
            at = body + length


def check_signature(signer: cms.SignerInfo, certificate: bytes) -> None:
    """The ECDSA signature of a CMS signer by a certificate (DER). Raises VerifyError(altered)."""
    key = load_der_x509_certificate(certificate).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise VerifyError(_R.WRONG_ALGORITHM)
    try:
        key.verify(
            signer["signature"].native, signer["signed_attrs"].untag().dump(), ec.ECDSA(hashes.SHA256())
        )
    except InvalidSignature as error:
        raise VerifyError(_R.ALTERED) from error


def named_files(reader: PdfFileReader) -> dict[str, bytes]:
    """The embedded files by name. Raises VerifyError: too_large, attachment_mismatch when two share a name."""
    files: dict[str, bytes] = {}
    total = 0
    for name, spec in _leaves(reader.root["/Names"]["/EmbeddedFiles"], 0):
        shown = str(_item(spec, "/UF", _item(spec, "/F", name)))
        content = spec["/EF"]["/F"].data
        total += len(content)
        if len(files) >= MOST_FILES or total > MOST_FILE_BYTES:
            raise VerifyError(_R.TOO_LARGE)
        if shown in files:
            raise VerifyError(_R.ATTACHMENT_MISMATCH)
        files[shown] = content
    return files


def _leaves(node: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > 8:
        raise VerifyError(_R.TOO_DEEP)
    names = _item(node, "/Names", [])
    for place in range(0, len(names), 2):
        yield str(names[place]), names[place + 1]
    for child in _item(node, "/Kids", []):
        yield from _leaves(child.get_object(), depth + 1)


def pictures_of_seals(reader: PdfFileReader) -> bool:
    """Whether an unsigned file shows on its first page what may pose as a seal: a picture, a stamp, an empty field's face."""
    page = reader.root["/Pages"]
    for _ in range(32):
        if "/Kids" not in page:
            break
        page = page["/Kids"][0]
    for one in _item(page, "/Annots", []):
        annotation = one.get_object()
        if _item(annotation, "/Subtype", "") in {"/Stamp", "/Widget"} and "/AP" in annotation:
            return True
    return _has_picture(_item(page, "/Resources", {}), [0], 0)


def _has_picture(resources: Any, seen: list[int], depth: int) -> bool:
    if depth > 3:
        return False
    drawings = _item(resources, "/XObject", {})
    for name in drawings:
        seen[0] += 1
        if seen[0] > _MOST_DRAWINGS:
            return False
        drawing = drawings[name]
        if not isinstance(drawing, generic.DictionaryObject):
            continue
        if _item(drawing, "/Subtype", "") == "/Image":
            return True
        if _has_picture(_item(drawing, "/Resources", {}), seen, depth + 1):
            return True
    return False


def _item(container: Any, key: str, otherwise: Any) -> Any:
    """A value with its reference followed; pyHanko's `get` does not follow them."""
    return container[key] if key in container else otherwise  # noqa: SIM401
