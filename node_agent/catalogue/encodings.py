"""In which encoding a text file is written, as its beginning tells."""

from __future__ import annotations

import codecs

from node_agent.catalogue.lines import line_end
from node_agent.catalogue.mapping import Mapping

SAMPLE = 512 * 1024
"""Bytes at the beginning of a file that are looked at."""
_ENCODINGS = ("utf-8", "gb18030", "big5")


def encoding_of(head: bytes, mapping: Mapping) -> str:
    if mapping.encoding:
        return mapping.encoding
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8"
    lines = head.split(line_end(head))[:4000]
    if len(head) >= SAMPLE:
        lines = lines[:-1]
    marked = [line for line in lines if not line.isascii()]
    failures = {encoding: sum(not decodes(line, encoding) for line in marked) for encoding in _ENCODINGS}
    return min(_ENCODINGS, key=lambda encoding: (failures[encoding], _ENCODINGS.index(encoding)))


def decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
