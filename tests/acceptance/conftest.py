"""What holds for every test of real processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from loadtest.fleet import Fleet
from loadtest.gateways import Gateway
from tests.fakes.edge import CONTRACT


@pytest.fixture(scope="session", autouse=True)
def _held_to_the_contract() -> Iterator[None]:
    """Whatever a gateway answers is as its published document says."""
    Fleet.on_answer = Gateway.on_answer = CONTRACT.hold
    yield
    Fleet.on_answer = Gateway.on_answer = None
