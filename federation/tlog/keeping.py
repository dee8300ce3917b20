"""A log's time stamps and anchors kept up beside a running process: each minute, in a thread, failing softly."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from cryptography import x509

from federation.tlog.anchor import ANCHORED, Anchor, anchor_latest
from federation.tlog.flaws import EvidenceError
from federation.tlog.log import EvidenceLog
from federation.tlog.stamping import Stamper, StampPolicy, TimeAuthority, over_http

EVERY_S = 60.0
ANCHOR_EVERY_MS = 3_600_000
"""A chain keeps what is posted for ever: one root an hour is 8,760 a year for each log."""


class StampObserver(Protocol):
    """Is told how stamps stand; `what` is stamp or anchor, `why` a flaw or the kind of an exception, constant words only."""

    def stamp_age(self, seconds: float) -> None:
        """How long the oldest entry without a stamp has waited."""
        ...

    def stamp_failed(self, what: str, why: str) -> None: ...


class StampKeeper:
    """Stamps and anchors one log. `run` until cancelled; `tick` and `require` block on network and disk."""

    def __init__(
        self,
        log: EvidenceLog,
        now_ms: Callable[[], int],
        observer: StampObserver,
        authority: TimeAuthority | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        self._log, self._now_ms, self._observer = log, now_ms, observer
        self._stamper = None if authority is None else Stamper(log, authority, StampPolicy())
        self._anchor = anchor

    async def run(self) -> None:
        """At once, then each minute; in a thread of its own, for which neither the process's other work nor its end waits."""
        while True:
            await _in_own_thread(self.tick)
            await asyncio.sleep(EVERY_S)

    def tick(self) -> None:
        """Stamp and anchor what is due. Nothing that fails outside this process leaves it: the observer is told."""
        self._try("stamp", self._stamp)
        self._try("age", self._tell_age)
        self._try("anchor", self._post)

    def _try(self, what: str, work: Callable[[], None]) -> None:
        try:
            work()
        except EvidenceError as error:
            self._observer.stamp_failed(what, error.flaw.value)
        except Exception as error:  # an authority or a chain that misbehaves must not end the process
            self._observer.stamp_failed(what, type(error).__name__)

    def _stamp(self) -> None:
        if self._stamper is not None:
            self._stamper.tick(self._now_ms())

    def _tell_age(self) -> None:
        if self._stamper is not None:
            self._observer.stamp_age(self._stamper.age_ms(self._now_ms()) / 1_000)

    def _post(self) -> None:
        if self._anchor is None:
            return
        last, now_ms = self._log.last_stamp(ANCHORED), self._now_ms()
        if last is None or not 0 <= now_ms - last.at_ms < ANCHOR_EVERY_MS:
            anchor_latest(self._log, self._anchor, now_ms)

    def require(self) -> None:
        """Raise EvidenceError `stamp_overdue` when nothing may be issued any more; never without an authority."""
        if self._stamper is not None:
            self._stamper.require(self._now_ms())


async def _in_own_thread(work: Callable[[], None]) -> None:
    """Until it has ended. `work` raises nothing; cancelled, it is left to itself."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        work()
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=run, name="evidence stamps", daemon=True).start()
    await ended.wait()


def authority_at(url: str, roots: bytes) -> TimeAuthority:
    """The authority at a configured address, known by its host; `roots` is PEM. ValueError says what is wrong."""
    certificates = tuple(x509.load_pem_x509_certificates(roots))
    exchange = over_http(url)
    host = (urlsplit(url).hostname or "").replace(":", ".").strip(".")
    if not host:
        raise ValueError("the address of a time-stamp authority has no host")
    return TimeAuthority(host[:64], exchange, certificates)
