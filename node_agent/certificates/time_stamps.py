"""Trusted time: asking an RFC 3161 time-stamp authority over HTTP, bounded in time and size, its answer checked before use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from urllib.parse import urlsplit

from asn1crypto import tsp
from cryptography import x509
from pyhanko.sign.timestamps import TimeStamper
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

from federation.http.posting import RedirectedError, post
from node_agent.certificates.revocation_lists import Lists

WAIT_S = 3.0
"""How long a document waits for its time stamp: a quarter of the 12 s a case has for issuing."""
MOST_BYTES = 64 * 1024


class NoTimeStampError(Exception):
    """No usable time stamp could be had; the text says why, and names no content."""


class TimeAuthority:
    """One authority: where it answers, its certificate chain (leaf first, root last), and revocation lists."""

    def __init__(
        self,
        url: str,
        chain: Sequence[x509.Certificate],
        crls: Lists = (),
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        if urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError("时间戳机构须为 http(s) 地址 · a time-stamp authority is an http(s) address")
        self.url, self.chain, self.crls, self.wait_s = url, tuple(chain), crls, wait_s

    @cached_property
    def stamper(self) -> TimeStamper:
        return _Stamper(self)

    def ask(self, request: bytes, digest: bytes) -> bytes:
        """The response to a DER request over the digest of a message. Raises NoTimeStampError."""
        headers = {"Content-Type": "application/timestamp-query"}
        try:
            body = post(self.url, request, headers, within_s=self.wait_s, most=MOST_BYTES)
        except RedirectedError as error:
            raise NoTimeStampError(
                "时间戳机构要求转往别的地址，不予跟随 · the time-stamp authority redirects to another address"
            ) from error
        except (OSError, ValueError) as error:
            raise NoTimeStampError("时间戳机构无应答 · the time-stamp authority does not answer") from error
        if len(body) > MOST_BYTES:
            raise NoTimeStampError(
                "时间戳机构的答复过大 · the answer of the time-stamp authority is too large"
            )
        self._check(body, digest)
        return body

    def _check(self, body: bytes, digest: bytes) -> None:
        verifier = VerifierBuilder(roots=[self.chain[-1]], tsa_certificate=self.chain[0])
        for one in self.chain[1:-1]:
            verifier = verifier.add_intermediate_certificate(one)
        try:
            verifier.build().verify(decode_timestamp_response(body), digest)
        except (VerificationError, ValueError) as error:
            raise NoTimeStampError(
                "时间戳无效，或不是所设机构签发 · the time stamp is not valid, or not of the authority that is set"
            ) from error


class _Stamper(TimeStamper):
    """pyHanko's way to an authority."""

    def __init__(self, authority: TimeAuthority) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._authority = authority

    async def async_request_tsa_response(self, req: tsp.TimeStampReq) -> tsp.TimeStampResp:
        digest = req["message_imprint"]["hashed_message"].native
        return tsp.TimeStampResp.load(self._authority.ask(req.dump(), digest))
