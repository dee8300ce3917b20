"""`lantai-node` as an archive's own hands run it: in a process of its own."""

from __future__ import annotations

import json
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


def diagnosed(data: os.PathLike[str]) -> tuple[int, bool, dict[str, list[dict[str, Any]]]]:
    """(exit status, whether the agent runs, what was found by check) of `lantai-node doctor`."""
    done = node("doctor", "--data", data, "--json")
    told = json.loads(done.stdout)
    found: dict[str, list[dict[str, Any]]] = {}
    for one in told["checks"]:
        found.setdefault(one["check"], []).append(one)
    return done.returncode, told["running"], found


def told(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """The one line it says on a failure."""
    assert done.returncode == 1, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
