"""The archive's electronic seal: a PAdES signature with its round seal drawn inside the signature's own field.

ES256 on a certificate for document signing (RFC 9336). With a time-stamp authority the result is PAdES B-LT; without one
it is B-B with the chain and revocation lists inside and the time pending, to be upgraded later by a document time stamp.
Everything a verifier needs lies in the revision that is signed, so that the signature covers the whole file.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from itertools import pairwise
from pathlib import Path

from asn1crypto import crl as asn1_crl
from asn1crypto import keys as asn1_keys
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyhanko.pdf_utils.content import PdfContent
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.layout import AxisAlignment, BoxConstraints, InnerScaling, Margins, SimpleBoxLayoutRule
from pyhanko.pdf_utils.misc import PdfError
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import BasePdfFileWriter
from pyhanko.sign import PdfSignatureMetadata, PdfSigner, PdfTimeStamper, SimpleSigner, fields
from pyhanko.sign.signers.pdf_signer import DSSContentSettings, SigDSSPlacementPreference
from pyhanko.stamp import StaticStampStyle
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import InsufficientRevinfoError, PathError, ValidationError
from pyhanko_certvalidator.registry import SimpleCertificateStore

from federation import second_seal
from federation.documents import DOCUMENT_SIGNING, SEAL_FIELD, TIME_FIELD
from federation.suites.base import PrivateKey
from node_agent import telemetry
from node_agent.certificates.revocation_lists import Lists, SealError, current, flaw
from node_agent.certificates.time_stamps import NoTimeStampError, TimeAuthority
from node_agent.certificates.typesetting import SealPlace

TRY_TIME_AGAIN_S = 30.0
"""After a time-stamp authority failed, documents do not wait for it again before this."""

# what it warns of is wanted: revocation lists come from files, nothing is fetched
logging.getLogger("pyhanko.sign.signers.pdf_signer").setLevel(logging.ERROR)

_SPARE_BYTES = 1024
_SEAL_USAGE = {"non_repudiation"}
"""The key usage pyHanko asks of a signer."""

_TROUBLES = (PathError, ValidationError, PdfError, ValueError, OSError)
"""What pyHanko raises when it will not sign, or not with this time stamp."""

_ALONE = DSSContentSettings(include_vri=False, placement=SigDSSPlacementPreference.TOGETHER_WITH_SIGNATURE)


@dataclass(frozen=True)
class SealKey:
    """Key, certificate (leaf first, then its issuers up to the root) and revocation lists of one archive's seal."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]
    crls: Lists = field(default=(), repr=False)

    @classmethod
    def load(cls, key: Path, certificate: Path, crls: Lists = ()) -> SealKey:
        """Read PEM files. Raises SealError naming the file and what to do."""
        current(crls)
        return cls(_load_key(key), _load_chain(certificate), crls)

    def check(self, at: datetime) -> None:
        """SealError unless this key may seal documents at a time."""
        leaf = self.chain[0]
        if leaf.public_key() != self.key.public_key():
            raise SealError("key", "私钥与印章证书不配对 · the key does not belong to the seal's certificate")
        if not leaf.not_valid_before_utc <= at < leaf.not_valid_after_utc:
            raise SealError(
                "certificate",
                "印章证书不在有效期内，请更换 · the seal's certificate is not valid now; renew it",
            )
        if not _may_seal(leaf):
            raise SealError(
                "certificate",
                "证书用途不是文件签章（RFC 9336 documentSigning） · the certificate is not for document signing (RFC 9336)",
            )
        match flaw(self.chain, current(self.crls), at):
            case "missing":
                raise SealError(
                    "revocation_list",
                    "缺少签发机构的吊销列表，请取得后设置 · a revocation list of an issuer is missing; fetch it and set it",
                )
            case "stale":
                raise SealError(
                    "revocation_list",
                    "证书吊销列表已过期，请取得新的 · a revocation list is out of date; fetch a new one",
                )
            case "revoked":
                raise SealError(
                    "certificate",
                    "印章证书或其签发机构已被吊销，请更换 · the seal's certificate or an issuer of it is revoked; renew it",
                )

    @cached_property
    def signer(self) -> SimpleSigner:
        certificates = [_asn1(one) for one in self.chain]
        key = self.key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # the root is not sent along: a verifier has it, or does not believe it
        others = certificates[1:-1]
        store = SimpleCertificateStore.from_certs(others)  # type: ignore[no-untyped-call]
        return SimpleSigner(
            signing_cert=certificates[0],
            signing_key=asn1_keys.PrivateKeyInfo.load(key),
            cert_registry=store,
        )


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed document; `stamped` says whether a trusted time is inside, else the time is pending."""

    pdf: bytes
    stamped: bool


class Sealer:
    """Seals documents of one archive. Blocking; any thread may call, one at a time is let in."""

    def __init__(
        self,
        key: SealKey,
        drawing: bytes,
        *,
        archive: str,
        authority: TimeAuthority | None = None,
        second: tuple[PrivateKey, str] | None = None,
    ) -> None:
        """`second` is a key of another suite and its id: it signs what the seal signs, inside the seal."""
        self._key, self._archive, self._authority, self._second = key, archive, authority, second
        self._drawing = PdfFileReader(BytesIO(drawing))
        self._lock = threading.Lock()
        self._not_before = 0.0

    @property
    def has_authority(self) -> bool:
        return self._authority is not None

    def chains(self) -> Iterator[tuple[str, Sequence[x509.Certificate], Lists]]:
        """What `chains` gives of what this seals with."""
        return chains(self._key, self._authority)

    def check(self, at: datetime) -> None:
        """SealError unless the seal can be used at a time, and the time-stamp authority's certificate be looked at."""
        self._key.check(at)
        try:
            asyncio.run(self._validate())
        except InsufficientRevinfoError as error:
            raise SealError(
                "revocation_list",
                "吊销列表通不过检验，请重新取得 · a revocation list does not validate; fetch it anew",
            ) from error
        except (PathError, ValidationError) as error:
            raise SealError(
                "certificate",
                "印章证书链通不过检验，请核对证书与吊销列表 · the seal's chain does not validate; check it and its revocation lists",
            ) from error
        if self._authority is not None:
            self._check_authority(self._authority, at)

    async def _validate(self) -> None:
        """As pyHanko does before it signs; its errors."""
        context = self._context(None)
        validator = CertificateValidator(
            self._key.signer.signing_cert, self._key.signer.cert_registry, validation_context=context
        )
        await validator.async_validate_usage(_SEAL_USAGE)  # type: ignore[no-untyped-call]

    def _check_authority(self, authority: TimeAuthority, at: datetime) -> None:
        match flaw(authority.chain, self._lists(authority), at):
            case "missing" | "stale":
                raise SealError(
                    "time_revocation_list",
                    "时间戳机构的吊销列表缺少或已过期，请取得新的（time_crls） · a revocation list of the time-stamp "
                    "authority is missing or out of date; fetch a new one (time_crls)",
                )
            case "revoked":
                raise SealError(
                    "time_authority",
                    "时间戳机构的证书已被吊销，请更换 · the certificate of the time-stamp authority is revoked; set another",
                )

    def seal(self, pdf: bytes, place: SealPlace, reason: str, at: datetime) -> Sealed:
        """Sign a document and draw the seal into the signature's field; without a time stamp that can be had and validates,
        its time is pending. Raises SealError.
        """
        self._key.check(at)
        with self._lock:
            if self._authority is not None and time.monotonic() >= self._not_before:
                try:
                    return Sealed(self._sign(pdf, place, reason, self._authority), stamped=True)
                except NoTimeStampError:
                    self._not_before = time.monotonic() + TRY_TIME_AGAIN_S
                except _TROUBLES as error:
                    telemetry.log.error("no time stamp", action="documents.time", kind=type(error).__name__)
                    self._not_before = time.monotonic() + TRY_TIME_AGAIN_S
            try:
                return Sealed(self._sign(pdf, place, reason, None), stamped=False)
            except _TROUBLES as error:
                raise SealError(
                    "seal",
                    "签章未能完成，请核对印章证书与吊销列表 · sealing failed; check the seal's certificate and lists",
                ) from error

    def add_time(self, pdf: bytes) -> bytes:
        """A document whose time was pending, with a document time stamp appended: the old bytes stay as they are.

        Raises NoTimeStampError, also when the authority's stamp does not validate; what pyHanko raises for a damaged PDF.
        """
        if self._authority is None:
            raise NoTimeStampError("没有设置时间戳机构 · no time-stamp authority is set")
        with self._lock:
            out = BytesIO()
            try:
                PdfTimeStamper(timestamper=self._authority.stamper, field_name=TIME_FIELD).timestamp_pdf(
                    IncrementalPdfFileWriter(BytesIO(pdf)),
                    "sha256",
                    validation_context=self._context(self._authority),
                    output=out,
                    dss_settings=_ALONE.get_settings_for_ts(),
                )
            except (PathError, ValidationError, SealError) as error:
                raise NoTimeStampError(
                    "时间戳通不过检验，请核对 time_crls · the time stamp does not validate; check time_crls"
                ) from error
            return out.getvalue()

    def _sign(self, pdf: bytes, place: SealPlace, reason: str, authority: TimeAuthority | None) -> bytes:
        writer = IncrementalPdfFileWriter(BytesIO(pdf))
        metadata = PdfSignatureMetadata(
            field_name=SEAL_FIELD,
            md_algorithm="sha256",
            certify=True,
            docmdp_permissions=fields.MDPPerm.NO_CHANGES,
            subfilter=fields.SigSeedSubFilter.PADES,
            name=self._archive,
            reason=reason,
            embed_validation_info=True,
            validation_context=self._context(authority),
            dss_settings=_ALONE,
        )
        signer = PdfSigner(
            metadata,
            signer=self._key.signer,
            timestamper=authority.stamper if authority else None,
            stamp_style=StaticStampStyle(
                border_width=0,
                background=_Drawing(self._drawing),
                background_opacity=1,
                background_layout=SimpleBoxLayoutRule(
                    x_align=AxisAlignment.ALIGN_MID,
                    y_align=AxisAlignment.ALIGN_MID,
                    margins=Margins(),
                    inner_content_scaling=InnerScaling.STRETCH_TO_FIT,
                ),
            ),
            new_field_spec=fields.SigFieldSpec(SEAL_FIELD, on_page=place.page, box=place.box),
        )
        signed: bytes = signer.sign_pdf(writer, bytes_reserved=self._reserved(authority)).getvalue()
        return signed if self._second is None else second_seal.add(signed, *self._second)

    def _reserved(self, authority: TimeAuthority | None) -> int:
        """Hex digits kept free for the signature: certificates, stamp, and what surrounds them."""
        certificates = sum(len(one.public_bytes(serialization.Encoding.DER)) for one in self._key.chain[:-1])
        stamped_by = sum(
            len(one.public_bytes(serialization.Encoding.DER))
            for one in (authority.chain if authority else ())
        )
        second = second_seal.ROOM if self._second else 0
        return 2 * (certificates + _SPARE_BYTES + second + (2048 + stamped_by if authority else 0))

    def _context(self, authority: TimeAuthority | None) -> ValidationContext:
        chain = [_asn1(one) for one in self._key.chain]
        others, roots = chain[:-1], [chain[-1]]
        if authority is not None:
            stamped_by = [_asn1(one) for one in authority.chain]
            others, roots = others + stamped_by[:-1], [*roots, stamped_by[-1]]
        return ValidationContext(
            trust_roots=roots,
            other_certs=others,
            crls=[asn1_crl.CertificateList.load(one) for one in self._lists(authority)],
            allow_fetching=False,
            revocation_mode="require",
        )

    def _lists(self, authority: TimeAuthority | None) -> list[bytes]:
        return _lists_of(self._key, authority)


def chains(
    key: SealKey, authority: TimeAuthority | None
) -> Iterator[tuple[str, Sequence[x509.Certificate], Lists]]:
    """Of a seal, and of a time-stamp authority if there is one: whose it is, its certificates, their revocation lists."""
    yield "seal", key.chain, key.crls
    if authority is not None:
        yield "time", authority.chain, lambda: _lists_of(key, authority)


def _lists_of(key: SealKey, authority: TimeAuthority | None) -> list[bytes]:
    """The lists of the seal, and of the authority: one may issue the certificates of both."""
    lists = current(key.crls)
    return lists + [one for one in (current(authority.crls) if authority else ()) if one not in lists]


class _Drawing(PdfContent):
    """A one-page PDF as the picture of the seal."""

    def __init__(self, drawing: PdfFileReader) -> None:
        super().__init__()
        self._drawing = drawing

    def render(self) -> bytes:
        writer = self.writer
        assert isinstance(writer, BasePdfFileWriter)
        picture = writer.import_page_as_xobject(self._drawing)
        self.resources.xobject["/Seal"] = picture
        x1, y1, x2, y2 = picture.get_object()["/BBox"]
        self.box = BoxConstraints(width=abs(x1 - x2), height=abs(y1 - y2))
        return b"/Seal Do"


def _asn1(certificate: x509.Certificate) -> asn1_x509.Certificate:
    return asn1_x509.Certificate.load(certificate.public_bytes(serialization.Encoding.DER))


def _may_seal(certificate: x509.Certificate) -> bool:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return [one.dotted_string for one in usages] == [DOCUMENT_SIGNING] and usage.digital_signature


def _read(path: Path, kind: str, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SealError(
            kind,
            f"读不到{what} {path.name}：请检查设置与权限 · can not read {path.name}; check the setting and permissions",
        ) from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(_read(path, "key", "印章私钥"), None)
    except (ValueError, TypeError) as error:
        raise SealError(
            "key", f"{path.name} 不是未加密的 PEM 私钥 · {path.name} is not an unencrypted PEM key"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SealError("key", "印章私钥须为 P-256（ES256） · the seal's key must be P-256 (ES256)")
    return key


def _load_chain(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        chain = tuple(x509.load_pem_x509_certificates(_read(path, "certificate", "印章证书")))
        for lower, upper in pairwise(chain):
            lower.verify_directly_issued_by(upper)
    except SealError:
        raise
    except Exception as error:
        raise SealError(
            "certificate",
            f"{path.name} 不是完整的证书链（印章证书在前，根证书在后） · {path.name} is not a chain, the seal's certificate first, the root last",
        ) from error
    return chain


def can_take_time(pdf: bytes) -> bool:
    """Whether a time stamp can be appended to it: a PDF that reads, with a seal. Never raises."""
    try:
        return bool(PdfFileReader(BytesIO(pdf)).embedded_signatures)
    except Exception:  # whatever a damaged file makes its reader raise
        return False


def now() -> datetime:
    """The time, UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


__all__ = ["TRY_TIME_AGAIN_S", "SealError", "SealKey", "Sealed", "Sealer", "can_take_time", "now"]
