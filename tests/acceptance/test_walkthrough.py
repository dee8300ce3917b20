"""The commands of docs/walkthrough.md, run as they stand in one shell, on ports that are free."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.fleet import free_port
from tests.fakes.documents import need_fonts

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "walkthrough.md").read_text("utf-8")
COMMANDS = "\n".join(re.findall(r"^```bash\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))


@pytest.mark.slow
def test_the_walkthrough_leads_from_nothing_to_a_certificate_that_is_verified(tmp_path):
    need_fonts()
    if absent := [one for one in ("bash", "curl", "openssl") if shutil.which(one) is None]:
        pytest.skip(f"not here: {', '.join(absent)}")
    commands = COMMANDS
    ports = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", commands)))
    assert len(ports) == 4
    for port in ports:
        commands = commands.replace(port, str(free_port()))
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    output = tmp_path / "told"
    with output.open("w") as out:
        shell = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=ROOT,
            env={**os.environ, **own, "TMPDIR": str(tmp_path)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        shell.wait(100)
    except subprocess.TimeoutExpired:
        logs = [f"{one}:\n{one.read_text('utf-8')[-1000:]}" for one in tmp_path.glob("*/*/log")]
        pytest.fail("\n".join([output.read_text("utf-8")[-2000:], *logs]))
    finally:
        with contextlib.suppress(ProcessLookupError):  # the servers it started are of its group
            os.killpg(shell.pid, signal.SIGKILL)
    told = output.read_text("utf-8")
    assert shell.returncode == 0, told[-4000:]
    assert told.count("有效 · valid") == 2
    assert '"verdict": "complete"' in told
    assert "event: answer" in told
