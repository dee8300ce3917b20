"""The service hours archives announced, for clocks and promises; fills the case feature's `Hours`.

What was announced last is kept in a file: after a restart of the gateway, an archive that is silent because it is closed
is still known to be closed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from federation.service_hours import CalendarError, NeverOpensError, ServiceHours
from gateway.search.ports import Manifest

_SAVE_EVERY_S = 5.0
FILE = "service-hours.json"


class AnnouncedHours:
    """`manifest(archive)` gives what an archive announced, None = no session yet in this life of the process."""

    def __init__(self, manifest: Callable[[str], Manifest | None], folder: Path) -> None:
        self._manifest, self._path = manifest, folder / FILE
        self._kept = self._load()
        self._written = dict(self._kept)

    def of(self, archive: str) -> ServiceHours | None:
        """The calendar of an archive; None = it announces none, or nobody knows."""
        manifest = self._manifest(archive)
        if manifest is None:
            return self._kept.get(archive)
        if manifest.hours is None:
            self._kept.pop(archive, None)
        else:
            self._kept[archive] = manifest.hours
        return manifest.hours

    def service_ms(self, archive: str, from_ms: int, to_ms: int) -> int:
        hours = self.of(archive)
        return to_ms - from_ms if hours is None else round(hours.service_seconds(from_ms, to_ms) * 1000)

    def done_ms(self, archive: str, now_ms: int, work_ms: int) -> int | None:
        hours = self.of(archive)
        if hours is None:
            return now_ms + work_ms
        try:
            return hours.add_service(now_ms, work_ms / 1000)
        except NeverOpensError:
            return None

    async def keep(self) -> None:
        """Keep what is announced, until cancelled."""
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            with contextlib.suppress(OSError):  # needed at the next start only
                self.save()

    def save(self) -> None:
        """Keep what was announced; nothing is written when nothing changed. OSError when the folder is not writable."""
        if self._kept == self._written:
            return
        written = {archive: hours.to_dict() for archive, hours in sorted(self._kept.items())}
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(msgspec.json.encode(written))
        fresh.replace(self._path)
        self._written = dict(self._kept)

    def _load(self) -> dict[str, ServiceHours]:
        found: dict[str, ServiceHours] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeError, RecursionError):
            kept = msgspec.json.decode(self._path.read_bytes(), type=dict[str, dict[str, Any]])
            for archive, written in kept.items():
                with contextlib.suppress(CalendarError):
                    found[archive] = ServiceHours.from_dict(written)
        return found
