"""CPU time in a test: a bound on work that must not be held up, whatever else the process and the machine do."""

from __future__ import annotations

import time
from collections.abc import Callable

TRIES = 5


def is_held_up(work: Callable[[], object], most_cpu_s: float) -> bool:
    """Whether work takes more CPU seconds of this thread each time it is tried.

    Work that a hostile input holds up is slow every time; work that was slow once had the collector's garbage or another
    process's cache misses in its time.
    """
    for _ in range(TRIES):
        began = time.thread_time()
        work()
        if time.thread_time() - began <= most_cpu_s:
            return False
    return True
