"""Tests and benches that are told to end clear away what they made."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

HOLDING = """
import time
import pytest

@pytest.fixture(scope="session")
def held(request):
    place = request.config.rootpath / "held"
    place.mkdir()
    yield place
    place.rmdir()

def test_that_takes_long(held):
    print("holding", flush=True)
    time.sleep(600)
"""

BENCH = """
import runpy, sys, time
from loadtest.benches import tlog
def slow(*_anything):
    print("holding", flush=True)
    time.sleep(600)
tlog._appends = slow
sys.argv = ["bench", "--quick", "tlog"]
runpy.run_module("loadtest.bench", run_name="__main__")
"""


def told_to_end(arguments: list[str], folder: Path) -> int:
    """Start it, tell it to end once it says that it holds something; its exit status."""
    child = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert any("holding" in line for line in child.stdout)
        child.send_signal(signal.SIGTERM)
        return child.wait(60)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def test_a_test_run_lets_go_of_its_fixtures(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_holding.py").write_text(HOLDING)
    assert (
        told_to_end(["-m", "pytest", "-s", "-p", "tests.conftest", "."], tmp_path)
        == pytest.ExitCode.INTERRUPTED
    )
    assert not (tmp_path / "held").exists()


def test_a_bench_removes_its_folder(tmp_path):
    assert told_to_end(["-c", BENCH], tmp_path) != 0
    assert list(tmp_path.iterdir()) == []
