"""Gateways as real processes over scripted archives: one on SQLite, or several replicas on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from gateway import settings as settings_module
from gateway.app import tokens
from loadtest.fleet import Answered, free_port

READY_WITHIN_S = 60.0

REQUEST: dict[str, Any] = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "SELF"},
    "subject": {"name": "钱试验", "birth": "1963", "other_name": "王样本"},
    "event": {"from": "1985", "to": "1990"},
    "scope": {"regions": ["3304"]},
    "window": "330402",
}
"""What a platform asks in these runs; nobody real."""


class Gateway:
    """One gateway process. Replicas share `folder`, a PostgreSQL `store` and the keys, and have a `data` folder each."""

    on_answer: ClassVar[Answered | None] = None
    """Of its answers to `request`; tests hold them to the contract."""

    def __init__(
        self, folder: Path, roster: str, *, name: str = "one", clients: str = "", **settings: Any
    ) -> None:
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = folder / f"{name}.toml"
        (folder / "roster.toml").write_text(roster, "utf-8")
        values: dict[str, Any] = {
            "port": self.port, "plaintext_on_loopback": True, "requests_per_minute": 1_000_000, **settings
        }  # fmt: skip
        if name != "one":
            values.setdefault("log_name", name)  # they share the data folder
        if clients:
            (folder / "clients.toml").write_text(clients, "utf-8")
            values["clients"] = "clients.toml"
        lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
        self.config.write_text("\n".join(lines) + "\n", "utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def spawn(self) -> None:
        """Start the process and wait for nothing."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            arguments = [sys.executable, "-m", "gateway", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def wait_ready(self) -> None:
        ends_at = time.monotonic() + READY_WITHIN_S
        while self.get("/readyz")[0] != 200:
            if self.process is None or self.process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"the gateway did not come up:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def start(self) -> Self:
        self.spawn()
        self.wait_ready()
        return self

    def send(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill -9, and gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(10)
        finally:
            self.process = None

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text("utf-8", "replace")

    def token(self, client: str = "platform", scope: str = "search cases") -> str:
        """An access token of the gateway's own key."""
        settings = settings_module.load(self.config)
        return tokens(settings, self.folder).mint(client, scope, 3600)

    def get(self, path: str, token: str = "") -> tuple[int, Any]:
        return self.request(path, token=token)

    def request(
        self, path: str, body: Any = None, *, token: str = "", headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """(status, body) of one request: GET without a body, else POST; status 0 = no answer."""
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        if token:
            all_headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data=data, headers=all_headers)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310
                status, told, read = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, told, read = error.code, error.headers, error.read()
        except OSError:
            return 0, None
        if self.on_answer is not None:
            self.on_answer(asked.get_method(), path, status, told, read)
        return status, _read(read)

    def metric(self, name: str) -> float:
        """The sum of a metric's samples, whatever their labels."""
        text = str(self.get("/metrics")[1])
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.startswith((f"{name} ", f"{name}{{"))
        )


def _read(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode("utf-8", "replace")


@contextlib.contextmanager
def gateway(folder: Path, roster: str, **settings: Any) -> Iterator[Gateway]:
    """One running gateway; stopped at the end."""
    one = Gateway(folder, roster, **settings)
    try:
        yield one.start()
    finally:
        one.stop()
