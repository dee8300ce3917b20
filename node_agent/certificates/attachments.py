"""Files that travel inside a document: records that are no pages, the statement for machines, credential and log proof.

Each is an associated file of PDF/A-4f with its relationship; the statement lists the SHA-256 of every other one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from federation.reasons import Reason, Refusal

MOST_BYTES = 32 << 20
"""Of all attachments of one document together; larger recordings are cited by digest and fetched apart."""

MOST = 32

MEDIA: dict[str, str] = {
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "pdf": "application/pdf",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "gltf": "model/gltf+json",
    "glb": "model/gltf-binary",
    "json": "application/json",
    "sd-jwt": "application/dc+sd-jwt",
    "tlog-proof": "text/plain",
}
"""Kinds of files that may be attached, by the ending of their names."""

_NAME = re.compile(r"[^\x00-\x1f/\\:*?\"<>|\x7f]{1,120}")


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One associated file. `relationship` is how it stands to the document (ISO 32000-2, 7.11.3)."""

    name: str
    content: bytes
    mime: str
    relationship: Literal["source", "data", "alternative", "supplement"]
    description: str = ""

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def attach(
    name: str, content: bytes, *, relationship: str = "supplement", description: str = ""
) -> Attachment:
    """An attachment of a known kind. Refusal: unsupported_media_type, invalid_name; the pointer is /attachments."""
    mime = MEDIA.get(name.rpartition(".")[2].lower())
    if mime is None:
        raise Refusal(Reason.UNSUPPORTED_MEDIA_TYPE, "/attachments")
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise Refusal(Reason.INVALID_NAME, "/attachments")
    kind: Literal["source", "data", "alternative", "supplement"]
    match relationship:
        case "source" | "data" | "alternative" | "supplement":
            kind = relationship
        case _:
            raise Refusal(Reason.OUT_OF_RANGE, "/attachments")
    return Attachment(name=name, content=content, mime=mime, relationship=kind, description=description)


def check(attachments: tuple[Attachment, ...], reserved: frozenset[str]) -> None:
    """Refusal when there are too many, they are too large, or two share a name."""
    check_together([(one.name, len(one.content)) for one in attachments], reserved)


def check_together(files: Sequence[tuple[str, int]], reserved: frozenset[str] = frozenset()) -> None:
    """As `check`, of files that are not read yet: their names and sizes in bytes."""
    names = [name for name, _size in files]
    if len(names) > MOST or sum(size for _name, size in files) > MOST_BYTES:
        raise Refusal(Reason.FILE_TOO_LARGE, "/attachments")
    if len(set(names)) < len(names) or reserved & set(names):
        raise Refusal(Reason.INVALID_NAME, "/attachments")
