"""What holds for every test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import structlog

if TYPE_CHECKING:  # it loads more than most tests need
    from tests.fakes.time_authority import Served

# A process that tests fork, to limit or to kill it, may hang in gRPC's own fork handlers when an earlier test used gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")


def pytest_configure() -> None:
    """A run that is told to end clears away its processes and folders, as after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _loggers_keep_nothing() -> None:
    """`capture_logs` hears only loggers that ask for their configuration at each line, and a process of ours has each keep it."""
    configure = structlog.configure

    def forgetful(**settings: Any) -> None:
        configure(**{**settings, "cache_logger_on_first_use": False})

    structlog.configure = forgetful


@pytest.fixture(autouse=True)
def _mask_of_this_test_alone() -> Iterator[None]:
    """Commands that a test runs in this process keep their files from others (`umask`), and not those of the next test."""
    mask = os.umask(0o022)
    yield
    os.umask(mask)


@pytest.fixture
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A time-stamp authority of this test's own, as it may break it."""
    from tests.fakes.time_authority import time_authority

    with time_authority(tmp_path_factory.mktemp("tsa")) as served:
        yield served
