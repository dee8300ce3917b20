"""Standard output whose reader may leave before its end, as `head` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable


def told(run: Callable[[], int]) -> int:
    """The exit status of `run` once all it printed is out; 1, without complaint, when the reader had seen enough."""
    try:
        status = run()
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return 1
    return status


def silence() -> None:
    """Nobody reads standard output any more: what is printed from now on, and what waited to be, goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
