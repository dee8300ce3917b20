"""A federation on this machine: a throw-away authority, node agents and a gateway as real processes on loopback.

Used by the demo, the benchmarks and the tests. Every process is stopped by its own id.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

from federation.reasons import Refusal
from loadtest.authorities.tls import Authority
from loadtest.provision import FEDERATION_KEY, GATEWAY_LOG_KEY, TRUST_LIST, provision
from node_agent.desk import users
from node_agent.desk.setup import now_ms
from node_agent.desk.store import Store

_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>
_RUN_MODULE = f"""
import ctypes, runpy, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)})
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""
"""Runs a module in a process that the kernel ends when whoever started it is gone, however it went (Linux). The process says
so itself: said between fork and exec, in a parent that has used gRPC, the child may hang before it ever runs.
"""
READY_WITHIN_S = 60.0
_PORTS = range(20_000, 32_768)
_GIVEN_PORTS: set[int] = set()


class Answered(Protocol):
    """Is told of an answer."""

    def __call__(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes, /
    ) -> None: ...


class FleetError(Exception):
    """A process did not come up; the message holds the end of its log."""


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive of the fleet; `dials_in` = the agent dials the gateway, not the other way round. `deputy` is the archive
    that reviews in its name when it is late; `desk` is TOML added to its archive.toml: hours, rota, release.
    """

    code: str
    name: str
    dials_in: bool = False
    deputy: str = ""
    desk: str = ""


def free_port(wanted: int = 0) -> int:
    """`wanted` when nothing listens there, else any free port on loopback that was not given before.

    Nothing listens on it yet. So it is below those that the kernel gives to outgoing connections (32,768 and up on Linux),
    and drawn, because other fleets may be starting on this machine.
    """
    for port in (wanted, *[secrets.choice(_PORTS) for _try in range(200)]):
        if not port or (port != wanted and port in _GIVEN_PORTS):
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                _GIVEN_PORTS.add(port)
                return port
    raise FleetError("no free port on loopback")


class Fleet:
    """Archives and a gateway under `folder`. `start` brings all up, `stop` ends them; a context manager does both."""

    on_answer: ClassVar[Answered | None] = None
    """Of the gateway's answers to `request`; tests hold them to the contract."""

    def __init__(
        self,
        folder: Path,
        archives: Sequence[Archive],
        *,
        port: int = 0,
        gateway_settings: dict[str, Any] | None = None,
        documents: bool = False,
        second_suite: str | None = None,
    ) -> None:
        """With `documents` every archive has keys, a seal and an evidence log, and the gateway the trust list; with
        `second_suite` all of them sign twice, and the list asks for it.
        """
        self._documents, self._second_suite = documents, second_suite
        self.folder, self.archives = folder, list(archives)
        self._settings = gateway_settings or {}
        self._port = free_port(port)
        self._link_port = free_port()
        self._ports = {archive.code: free_port() for archive in archives}
        self._desk_ports = {archive.code: free_port() for archive in archives}
        self._metrics_ports = {archive.code: free_port() for archive in archives}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def data(self, code: str) -> Path:
        """Data folder of an archive."""
        return self.folder / code

    def agent_address(self, code: str) -> str:
        return f"127.0.0.1:{self._ports[code]}"

    def agent_metrics_url(self, code: str) -> str:
        return f"http://127.0.0.1:{self._metrics_ports[code]}/metrics"

    def desk_url(self, code: str) -> str:
        """The archive's review desk."""
        return f"http://127.0.0.1:{self._desk_ports[code]}"

    def agent_pid(self, code: str) -> int:
        return self._processes[code].pid

    def gateway_pid(self) -> int:
        return self._processes["gateway"].pid

    def prepare(self) -> None:
        """Certificates, settings and the federation's fingerprint key; data that is there is kept."""
        tls = self.folder / "tls"
        authority = Authority(tls)
        gateway = authority.issue("gateway", "gateway")
        key = self.folder / "federation.key"
        if not key.exists():
            key.touch(0o600)
            key.write_bytes(secrets.token_bytes(32))
        roster = ["epoch = 1"]
        for archive in self.archives:
            issued = authority.issue("node", archive.code)
            (self.data(archive.code) / "archive.toml").unlink(missing_ok=True)
            arguments = [
                "--archive",
                archive.code,
                "--name",
                archive.name,
                "--data",
                str(self.data(archive.code)),
            ]
            arguments += [
                "--federation-key",
                str(key),
                "--metrics-listen",
                f"127.0.0.1:{self._metrics_ports[archive.code]}",
            ]
            arguments += [
                "--ca",
                str(issued.ca),
                "--certificate",
                str(issued.certificate),
                "--key",
                str(issued.key),
            ]
            where = f'address = "{self.agent_address(archive.code)}"'
            if archive.dials_in:
                arguments += ["--gateway", f"127.0.0.1:{self._link_port}"]
                where = "dials_in = true"
            else:
                arguments += ["--listen", self.agent_address(archive.code)]
            self.node("init", *arguments)
            self._write_desk(archive)
            if archive.deputy:
                where += f'\ndeputy = "{archive.deputy}"'
            roster += [
                "[[archive]]",
                f'code = "{archive.code}"',
                f"name = {json.dumps(archive.name, ensure_ascii=False)}",
                where,
            ]
        (self.folder / "roster.toml").write_text("\n".join(roster) + "\n", "utf-8")
        settings = {
            "port": self._port,
            "link_listen": f"127.0.0.1:{self._link_port}",
            "ca": str(gateway.ca),
            "certificate": str(gateway.certificate),
            "key": str(gateway.key),
            **self._settings,
        }
        if self._documents:
            settings |= {
                "trust_list": str(self._provide_documents()),
                "trust_list_key": str(self.federation_key),
                "log_key": str(self.folder / GATEWAY_LOG_KEY),
                **self._settings,
            }
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.folder / "gateway.toml").write_text("\n".join(lines) + "\n", "utf-8")

    def _provide_documents(self) -> Path:
        """Keys, seals and the trust list; its path."""
        archives = [(one.code, one.name, self.data(one.code)) for one in self.archives]
        trust_list = provision(self.folder, archives, second_suite=self._second_suite)
        for _code, _name, data in archives:
            with (data / "archive.toml").open("a", encoding="utf-8") as settings:
                settings.write(
                    f'[documents]\ngateway = "{self.gateway_url}"\ntrust_list = {json.dumps(str(trust_list))}\n'
                    f"trust_list_key = {json.dumps(str(self.federation_key))}\n"
                )
        return trust_list

    @property
    def trust_list(self) -> Path:
        """The federation's pinned trust list."""
        return self.folder / TRUST_LIST

    @property
    def federation_key(self) -> Path:
        """The public key the trust list is signed by."""
        return self.folder / FEDERATION_KEY

    def _write_desk(self, archive: Archive) -> None:
        with (self.data(archive.code) / "archive.toml").open("a", encoding="utf-8") as settings:
            settings.write(f'desk_listen = "127.0.0.1:{self._desk_ports[archive.code]}"\n{archive.desk}\n')

    def user(self, code: str, name: str, role: str = "reviewer") -> str:
        """Somebody who may use an archive's desk, made when there is none of that name; a fresh token."""
        store = Store(self.data(code), code)
        try:
            return users.add(store, name, role, now_ms())
        except Refusal:  # the name is in use
            return users.renew_token(store, name, now_ms())
        finally:
            store.close()

    def desk_request(self, code: str, path: str, body: Any = None, *, token: str) -> tuple[int, Any]:
        """(status, JSON body) of one request to an archive's desk; GET without a body, else POST."""
        return self.request(path, body, token=token, base=self.desk_url(code))

    def desk(self, code: str, action: str, *arguments: str) -> list[Any]:
        """Run one `lantai-node desk` command; what it printed."""
        printed = self.node("desk", action, *arguments, "--data", str(self.data(code)), "--json")
        return [json.loads(line) for line in printed.splitlines()]

    def node(self, *arguments: str) -> str:
        """Run one `lantai-node` command to its end; its output."""
        done = subprocess.run(
            [sys.executable, "-m", "node_agent", *arguments],
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        if done.returncode != 0:
            raise FleetError(f"lantai-node {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def start(self) -> Self:
        """Bring up all processes; returns when every session is open."""
        for archive in self.archives:
            self.start_agent(archive.code)
        self.start_gateway()
        self.wait_connected(archive.code for archive in self.archives)
        return self

    def start_agent(self, code: str) -> None:
        self._spawn(code, "node_agent", "run", "--data", str(self.data(code)))

    def start_gateway(self) -> None:
        self._spawn("gateway", "gateway", "run", "--config", str(self.folder / "gateway.toml"))
        self._wait(lambda: self._get("/readyz") == 200, "gateway")

    def _spawn(self, name: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-c", _RUN_MODULE, module, *arguments],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    def _wait(self, ready: Any, name: str) -> None:
        ends_at = time.monotonic() + READY_WITHIN_S
        while not ready():
            process = self._processes[name]
            if process.poll() is not None or time.monotonic() > ends_at:
                raise FleetError(f"{name} did not come up:\n{self.log(name)[-2000:]}")
            time.sleep(0.05)

    def log(self, name: str) -> str:
        """What a process has logged so far."""
        path = self.folder / f"{name}.log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def wait_connected(self, codes: Iterable[str]) -> None:
        """Wait until the gateway has a session with each of these archives."""
        for code in codes:
            self._wait(lambda code=code: self.request(f"/v1/archives/{code}")[1].get("connected"), "gateway")

    def wait_desk(self, code: str) -> None:
        """Wait until an archive's desk answers."""
        self._wait(lambda: self._get("/livez", self.desk_url(code)) == 200, code)

    def _get(self, path: str, base: str = "") -> int:
        try:
            with urllib.request.urlopen((base or self.gateway_url) + path, timeout=2) as answer:  # noqa: S310 - loopback
                return int(answer.status)
        except (urllib.error.URLError, OSError):
            return 0

    def token(self) -> str:
        """One access token, minted at first use."""
        self._token = getattr(self, "_token", "") or self.mint_token()
        return self._token

    def mint_token(self, client: str = "try-out") -> str:
        """An access token from the gateway's own key."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "gateway",
                "token",
                "--config",
                str(self.folder / "gateway.toml"),
                "--client",
                client,
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    def request(
        self,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
        base: str = "",
    ) -> tuple[int, Any]:
        """(status, JSON body) of one request to the gateway; GET without a body, else POST."""
        token = token or self.token()
        data = json.dumps(body).encode() if body is not None else None
        all_headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        asked = urllib.request.Request((base or self.gateway_url) + path, data=data, headers=all_headers)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
                status, told, read = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, told, read = error.code, error.headers, error.read()
        if self.on_answer is not None and not base:
            self.on_answer(asked.get_method(), path, status, told, read)
        return status, json.loads(read or b"null")

    def send(self, name: str, number: int) -> None:
        """Send a signal to one process of this fleet."""
        os.kill(self._processes[name].pid, number)

    def ended(self) -> dict[str, int]:
        """The processes that have ended although nobody stopped them here, with their exit status."""
        return {
            name: status
            for name, process in self._processes.items()
            if (status := process.poll()) is not None
        }

    def stop_one(self, name: str, number: int = signal.SIGTERM) -> int:
        """End one process; its exit status."""
        process = self._processes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            return process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait(5)

    def stop(self) -> None:
        """End everything, the gateway first."""
        for name in sorted(self._processes, key=lambda name: name != "gateway"):
            self.stop_one(name)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()  # nobody else would
            raise

    def __exit__(self, *_error: object) -> None:
        self.stop()
