"""The HTTP servers of real processes, with more connections than they hold: the gateway's edge, the desk, the agent's metrics."""

from __future__ import annotations

import socket
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, suppress

import pytest

from loadtest.fleet import Archive, Fleet
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("connections"), pytest.mark.timeout(120)]

CODE, PLACES = "330483", 3


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    archive = Archive(CODE, "桐乡市档案馆", desk=f"desk_connections = {PLACES}")
    running = Fleet(
        tmp_path_factory.mktemp("connections"), [archive], gateway_settings={"connections": PLACES}
    )
    running.prepare()
    with running:
        yield running


def ask(caller: socket.socket) -> str:
    """The answer to one GET, head and short body."""
    caller.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    return caller.recv(65536).decode()


def served(caller: socket.socket) -> bool:
    return ask(caller).startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("server", "most", "counter"),
    [
        ("gateway", PLACES, 'gw_http_connections_refused_total{why="in_all"}'),
        ("desk", PLACES, 'agent_http_connections_refused_total{server="desk",why="in_all"}'),
        # of 32 one is kept for lines that hold none
        ("metrics", 31, 'agent_http_connections_refused_total{server="metrics",why="in_all"}'),
    ],
)
def test_the_connection_above_the_bound_is_refused_by_name_until_another_is_closed(
    fleet, server, most, counter
):
    metrics = fleet.gateway_url + "/metrics" if server == "gateway" else fleet.agent_metrics_url(CODE)
    where = urllib.parse.urlsplit(fleet.desk_url(CODE) if server == "desk" else metrics)
    with ExitStack() as stack:

        def opened() -> socket.socket:
            return stack.enter_context(socket.create_connection((where.hostname, where.port), timeout=10))

        until(lambda: served(opened()))  # whoever saw the fleet start has gone
        held = [opened() for _ in range(most - 1)]
        assert all(map(served, held))
        refused = ask(opened())
        assert refused.startswith("HTTP/1.1 503 ")
        assert '"reason":"overloaded"' in refused
        for answer in (refused, ask(held[0])):
            assert "\r\nServer: lantai\r\n" in answer
            assert "aiohttp" not in answer
        held[0].close()
        until(lambda: served(opened()))

    def counted() -> bool:
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(metrics, timeout=5) as answer:
            return counter in answer.read().decode()
        return False

    until(counted)
