"""Log lines of a process: JSON on stderr with a closed set of keys, and nothing of what libraries were given."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog


def configure(fields: frozenset[str], lost: Callable[[], None], *, quiet: Sequence[str]) -> None:
    """From now on, for the whole process. `fields` are the only keys a line may have, `lost` is told of each line that
    could not be written, `quiet` are libraries that say nothing at all, for their messages quote what a peer sent.
    """

    def line(_logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        known = {key: value for key, value in event.items() if key in fields}
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        return _ENCODER.encode({"timestamp": now, "level": level, **known}).decode()

    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    structlog.configure(
        processors=[line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_names: _Lines(lost),
        cache_logger_on_first_use=True,
    )
    for name in quiet:
        logging.getLogger(name).setLevel(logging.CRITICAL)


_ENCODER = msgspec.json.Encoder(enc_hook=lambda value: type(value).__name__)
"""What JSON does not know is told by its type alone."""


class _Lines:
    """Writes log lines; one that can not be written (a full disk) is counted, and spoils nothing else."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost

    def msg(self, line: str) -> None:
        try:
            sys.stderr.write(f"{line}\n")  # in one piece: several threads write
            sys.stderr.flush()
        except OSError:
            self._lost()

    debug = info = warning = error = critical = msg


class _Libraries(logging.Handler):
    """What libraries log, as a line of ours that names logger and error, and where it was raised, but leaves out their
    words: those may quote what they were given. So does what ends a background task, which asyncio logs.
    """

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        why = {"kind": type(error).__name__, "where": raised_at(error)} if error else {"kind": ""}
        _log.warning("a library reports", action=record.name, **why)


_log = structlog.get_logger()


_OURS = frozenset({"federation", "gateway", "node_agent"})


def raised_at(error: BaseException) -> str:
    """Where an error was raised, as "module:line", for a log line: the innermost place in our own packages, else of all;
    "" = it was raised nowhere yet. Never what it says: that may quote a record.
    """
    inmost, ours, at = "", "", error.__traceback__
    while at is not None:
        module = str(at.tb_frame.f_globals.get("__name__", ""))
        inmost = f"{module}:{at.tb_lineno}"
        if module.partition(".")[0] in _OURS:
            ours = inmost
        at = at.tb_next
    return ours or inmost
