"""A record as the index stores it: people, texts and original cells, packed and compressed with a dictionary.

Rows of one archive look alike, so a dictionary trained on the first rows of the index shortens each to about a third
and still lets every row be read alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import msgspec
import numpy as np
import zstandard

from federation.dates import DateSpan
from node_agent.index.packing import Numbers
from node_agent.record import Person, Record, Records

DICTIONARY_BYTES = 65_536
TRAINING_ROWS = 4_000
_LEVEL = 2  # a sixth less CPU than level 3 for 4 bytes more a record


class Glimpse(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first fields of `Stored`: what a question compares. Most records looked at are not told."""

    persons: tuple[Person, ...]
    first: int
    last: int
    place_text: str
    certificate_no: str
    title: str

    @property
    def event(self) -> DateSpan | None:
        return DateSpan(self.first, self.last) if self.first else None


class Told(Glimpse, array_like=True, frozen=True, gc=False):
    """All fields of `Stored` but the original cells, half of its size: what is told of a record that was found."""

    raw_code: str
    open_status: str
    flags: tuple[str, ...]


class Stored(Told, array_like=True, frozen=True, gc=False):
    """A record as stored; what has columns of its own is not repeated."""

    cells: tuple[str, ...]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Stored)
_GLIMPSER = msgspec.msgpack.Decoder(Glimpse)
_TOLD = msgspec.msgpack.Decoder(Told)


def encode(records: Records) -> list[bytes]:
    """The uncompressed form of each; equal for equal records, so it is also what the content digest covers."""
    return list(
        map(
            _ENCODER.encode,
            zip(
                records.persons,
                records.firsts,
                records.lasts,
                records.place_texts,
                records.certificates,
                records.titles,
                [
                    "" if raw == code else raw
                    for raw, code in zip(records.raw_codes, records.codes, strict=True)
                ],
                records.open_statuses,
                records.flags,
                records.cells,
                strict=True,
            ),
        )
    )


def digests_of(records: Records, encoded: Sequence[bytes]) -> Numbers:
    """64-bit digests of all that was read and understood of each, as signed numbers SQLite can store."""
    digests = [
        blake2b(
            whole
            + f"\0{category}\0{code}\0{place}\0{_SAID[digitised]}{_SAID[is_copy]}".encode(
                "utf-8", "surrogatepass"
            ),
            digest_size=8,
        ).digest()
        for whole, category, code, place, digitised, is_copy in zip(
            encoded,
            records.categories,
            records.codes,
            records.places,
            records.digitised,
            records.copies,
            strict=True,
        )
    ]
    return np.frombuffer(b"".join(digests), dtype=">i8").astype(np.int64)


_SAID = ("False", "True")


def train(samples: list[bytes]) -> bytes:
    """A dictionary for rows like these; empty when there are too few to learn from."""
    if len(samples) < 200:
        return b""
    size = min(DICTIONARY_BYTES, sum(map(len, samples)) // 8)
    try:
        return zstandard.train_dictionary(size, list(samples)).as_bytes()
    except zstandard.ZstdError:
        return b""


class Codec:
    """Compresses and reads payloads with one index's dictionary. Use one per thread."""

    def __init__(self, dictionary: bytes) -> None:
        trained = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        self._compressor = zstandard.ZstdCompressor(
            level=_LEVEL,
            dict_data=trained,
            write_content_size=True,
            write_checksum=False,
            write_dict_id=False,
        )
        self._decompress = zstandard.ZstdDecompressor(dict_data=trained).decompress

    def pack(self, encoded: bytes) -> bytes:
        return self._compressor.compress(encoded)

    def pack_all(self, encoded: Sequence[bytes]) -> list[bytearray]:
        """The same of many records in one call."""
        packed = self._compressor.multi_compress_to_buffer([*encoded])
        return [bytearray(packed[place].tobytes()) for place in range(len(packed))]

    def read(self, payload: bytes) -> Stored:
        return _DECODER.decode(self._decompress(payload))

    def told(self, payload: bytes) -> Told:
        return _TOLD.decode(self._decompress(payload))

    def glimpse(self, payload: bytes) -> Glimpse:
        return _GLIMPSER.decode(self._decompress(payload))


def restore(
    stored: Stored, *, category: str, code: str, place: str, digitised: bool, is_copy: bool
) -> Record:
    """The record again, with the texts the archive wrote."""
    return Record(  # by place, not by name: half the cost
        category,
        code,
        stored.raw_code or code,
        stored.title,
        stored.persons,
        stored.event,
        place,
        stored.place_text,
        stored.certificate_no,
        stored.open_status,
        digitised,
        is_copy,
        stored.cells,
        flags=stored.flags,
    )
