"""`lantai-node` as an archive's own hands run it: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any


def node(*arguments: str | os.PathLike[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; `options` are those of `subprocess.run`."""
    return subprocess.run(
        [sys.executable, "-m", "node_agent", *map(os.fspath, arguments)],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def told(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The one line it says on a failure."""
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
