"""What an archive writes into a document and a verifier looks for: names, usages and the digest both must compute alike."""

from __future__ import annotations

import hashlib
from datetime import timedelta, timezone
from typing import Any

import rfc8785

CHINA = timezone(timedelta(hours=8))
"""Dates on documents are those of the archive's wall clock; China has one zone and no summer time."""

SEAL_FIELD = "LantaiSeal"
"""Name of the one signature field; the round seal is drawn inside it and nowhere else."""

TIME_FIELD = "LantaiTime"
"""Name of the document time stamp that is added when none could be had at signing."""

STATEMENT_FILE = "lantai-statement.json"
"""The associated file that says for machines what the page says for people, with the digests of all others."""

PROOF_FILE = "evidence.tlog-proof"
"""The associated file that proves that the content was committed to the archive's evidence log."""

DOCUMENT_SIGNING = "1.3.6.1.5.5.7.3.36"
"""Extended key usage of a seal's certificate (id-kp-documentSigning, RFC 9336)."""

TIME_STAMPING = "1.3.6.1.5.5.7.3.8"
"""Extended key usage of a time-stamp authority (RFC 3161, 2.3)."""

LARGEST_DOCUMENT = 96 << 20
"""Bytes of a document: 200 copied pages and 32 MB of attachments."""


def content_digest(content: dict[str, Any]) -> bytes:
    """SHA-256 of a statement's `content` in JCS (RFC 8785): what the QR code, the credential and the log commit to."""
    return hashlib.sha256(rfc8785.dumps(content)).digest()
