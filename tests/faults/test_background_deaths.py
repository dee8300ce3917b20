"""A background task that ends by itself ends its process with status 1, and the last log line says which, what and where."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadtest.fleet import free_port

pytestmark = pytest.mark.slow

SECRET = "钱伟明"
ROSTER = 'epoch = 1\n[[archive]]\ncode = "330483"\nname = "桐乡市档案馆"\naddress = "127.0.0.1:1"\n'
WITH_A_FAULT = f"""
import sys
from {{module}} import {{cls}}
from {{package}}.__main__ import main

async def faulty(self):
    raise ValueError("{SECRET}")

{{cls}}.{{method}} = faulty
sys.exit(main(sys.argv[1:]))
"""


def died(package: str, fault: str, *command: object) -> dict[str, Any]:
    """What the last log line of a process says whose `fault` (module.Class.method) raises something nobody foresaw."""
    module, cls, method = fault.rsplit(".", 2)
    program = WITH_A_FAULT.format(module=module, cls=cls, package=package, method=method)
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1, done.stderr
    assert SECRET not in done.stderr
    last: dict[str, Any] = json.loads(done.stderr.splitlines()[-1])
    assert last.pop("timestamp")
    last["where"], line = last["where"].split(":")
    assert line.isdigit()
    return last


def test_a_gateway_names_what_ended_it(tmp_path: Path):
    (tmp_path / "roster.toml").write_text(ROSTER, "utf-8")
    config = tmp_path / "gateway.toml"
    config.write_text(f"port = {free_port()}\nplaintext_on_loopback = true\n", "utf-8")
    assert died("gateway", "gateway.cases.engine.Engine._round", "run", "--config", config) == {
        "event": "a task ended", "level": "error", "action": "gateway.task_ended", "task": "case engine",
        "kind": "ValueError", "where": "gateway.cases.engine",
    }  # fmt: skip


def test_an_agent_names_what_ended_it(tmp_path: Path):
    (tmp_path / "archive.toml").write_text(
        'archive = "330483"\nname = "桐乡市档案馆"\nlisten = "127.0.0.1:0"\nplaintext_on_loopback = true\n',
        "utf-8",
    )
    assert died("node_agent", "node_agent.desk.office.Office._poll", "run", "--data", tmp_path) == {
        "event": "a task ended", "level": "error", "action": "agent.task_ended", "task": "desk poll",
        "kind": "ValueError", "where": "__main__",
    }  # fmt: skip
