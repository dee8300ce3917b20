"""A gateway and an agent whose certificates have expired: both say so in their logs, which hold JSON lines alone."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from loadtest.authorities.tls import Authority
from loadtest.fleet import free_port

CODE = "330483"


@pytest.mark.slow
def test_both_sides_name_their_own_expired_certificate_and_the_gateway_the_archive_it_misses(tmp_path):
    authority = Authority(tmp_path / "tls")
    began = datetime.now(UTC) - timedelta(days=3)
    gateway, agent = (
        authority.issue(role, name, lifetime=timedelta(days=1), starts=began)
        for role, name in (("gateway", "gateway"), ("node", CODE))
    )

    def tls(issued):
        return "".join(f'{name} = "{getattr(issued, name)}"\n' for name in ("ca", "certificate", "key"))

    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "archive.toml").write_text(
        f'archive = "{CODE}"\nname = "b"\nlisten = "{address}"\n{tls(agent)}'
    )
    (tmp_path / "roster.toml").write_text(
        f'epoch = 1\n[[archive]]\ncode = "{CODE}"\nname = "b"\naddress = "{address}"\n'
    )
    (tmp_path / "gateway.toml").write_text(f"port = {free_port()}\n{tls(gateway)}")
    commands = {
        "node_agent": ["run", "--data", str(tmp_path)],
        "gateway": ["run", "--config", str(tmp_path / "gateway.toml")],
    }
    wanted = {
        "node_agent": {("agent.certificate", "expired")},
        "gateway": {("gateway.certificate", "expired"), ("gateway.no_session", "unreachable")},
    }
    running = {}
    try:
        for module, arguments in commands.items():
            with (tmp_path / f"{module}.log").open("wb") as log:
                running[module] = subprocess.Popen(
                    [sys.executable, "-m", module, *arguments], stdout=log, stderr=log
                )
        ends_at = time.monotonic() + 40
        for module, lines in wanted.items():
            while True:
                text = (tmp_path / f"{module}.log").read_text("utf-8")
                said = {
                    (line["action"], line.get("reason"))
                    for line in map(json.loads, text.splitlines(keepends=False))
                }
                if lines <= said:
                    break
                assert time.monotonic() < ends_at, text
                time.sleep(0.1)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait(30)
    for module in commands:
        for line in (tmp_path / f"{module}.log").read_text("utf-8").splitlines():
            json.loads(line)
