"""Metrics and logs of the node agent, all declared here. Labels are closed sets; nothing here ever names a person."""

from __future__ import annotations

from datetime import datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from federation.process import log_lines

REGISTRY = CollectorRegistry()

SEARCHES = Counter(
    "agent_searches_total", "Searches answered, by how they ended.", ["outcome"], registry=REGISTRY
)
SEARCH_SECONDS = Histogram(
    "agent_search_seconds",
    "Time from the arrival of a search to its answer.",
    ["lane"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
SESSIONS = Gauge("agent_sessions", "Open sessions with gateways.", registry=REGISTRY)
SESSION_EVENTS = Counter(
    "agent_session_events_total", "Things that happened on sessions.", ["event"], registry=REGISTRY
)
CERTIFICATE_EXPIRES_AT = Gauge(
    "agent_certificate_expires_at_seconds",
    "When the agent's own TLS certificate towards gateways, or one of its chain, expires, Unix time; 0 = none.",
    registry=REGISTRY,
)
REVOCATION_LISTS_END_AT = Gauge(
    "agent_revocation_lists_end_at_seconds",
    "When the first revocation list of a chain runs out, of the seal or of the time-stamp authority, Unix time; from then on no document is made. 0 = none.",
    ["kind"],
    registry=REGISTRY,
)
WAITING = Gauge("agent_worker_waiting", "Slow searches waiting for the worker thread.", registry=REGISTRY)
RECORDS = Gauge("agent_index_records", "Records in the index.", registry=REGISTRY)
EPOCH = Gauge("agent_index_epoch", "Epoch of the index.", registry=REGISTRY)
DESK_EVENTS = Counter(
    "agent_desk_events_total",
    "Things that happened at the review desk and on the way to and from it.",
    ["event"],
    registry=REGISTRY,
)
DESK_ITEMS = Gauge(
    "agent_desk_items",
    "Items in which somebody must still do something, by state.",
    ["state"],
    registry=REGISTRY,
)
DESK_OLDEST = Gauge(
    "agent_desk_oldest_waiting_seconds",
    "How long the oldest item has waited for a reviewer; 0 = none does.",
    registry=REGISTRY,
)
DESK_OUTBOX = Gauge("agent_desk_outbox_messages", "Messages without a receipt.", registry=REGISTRY)
DESK_OUTBOX_AGE = Gauge(
    "agent_desk_outbox_oldest_seconds", "Age of the oldest message without a receipt.", registry=REGISTRY
)
DESK_SESSIONS = Gauge("agent_desk_sessions", "Open sessions that take case messages.", registry=REGISTRY)
DESK_ACTIONS = Counter(
    "agent_desk_actions_total",
    "What was done at the desk, by whom: a person, the release rule, the clock, the gateway, the issuer.",
    ["action", "by"],
    registry=REGISTRY,
)
DESK_REFUSALS = Counter(
    "agent_desk_refusals_total",
    "Requests to the desk that were refused, by reason.",
    ["reason"],
    registry=REGISTRY,
)
DESK_NOTICES = Counter(
    "agent_desk_notices_total",
    "Calls of people through the messenger, by outcome.",
    ["outcome"],
    registry=REGISTRY,
)
DESK_STREAMS = Gauge("agent_desk_streams", "Open event streams of the review desk.", registry=REGISTRY)
STAMP_AGE = Gauge(
    "agent_log_stamp_age_seconds",
    "How long the oldest entry of the evidence log has waited for a time stamp; 0 = all are stamped.",
    registry=REGISTRY,
)
STAMP_FAILURES = Counter(
    "agent_log_stamp_failures_total",
    "Time stamps and anchors of the evidence log that could not be had, by reason; they are tried again.",
    ["what", "why"],
    registry=REGISTRY,
)
LEFT_OUT = Counter(
    "agent_log_left_out_total",
    "Changes of documents that the evidence log can not hold, by reason; each once in a process's life.",
    ["why"],
    registry=REGISTRY,
)
CONNECTIONS = Gauge(
    "agent_http_connections",
    "Connections an HTTP server of the agent holds now.",
    ["server"],
    registry=REGISTRY,
)
CONNECTIONS_REFUSED = Counter(
    "agent_http_connections_refused_total",
    "Connections refused: in_all, of_a_line; or put off, because the process had no file descriptor left: descriptors.",
    ["server", "why"],
    registry=REGISTRY,
)
LOG_LINES_LOST = Counter(
    "agent_log_lines_lost_total", "Log lines that could not be written.", registry=REGISTRY
)

LOG_FIELDS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "action",
        "archive",
        "address",
        "outcome",
        "reason",
        "epoch",
        "records",
        "seconds",
        "kind",
        "where",
        "port",
        "task",
        "trace",
    }
)
"""The only keys a log line may have; others are dropped, so that no value of a query can slip into a log."""


def configure_logs() -> None:
    """JSON lines on stderr, from everybody."""
    log_lines.configure(LOG_FIELDS, LOG_LINES_LOST.inc, quiet=("grpc",))


log = structlog.get_logger()


class ServerObserver:
    """Counts for one HTTP server of the agent, "desk" or "metrics", and its log of what was no request."""

    def __init__(self, server: str) -> None:
        self._server = server
        self._held = CONNECTIONS.labels(server=server)

    def connections(self, held: int) -> None:
        self._held.set(held)

    def connection_refused(self, why: str) -> None:
        CONNECTIONS_REFUSED.labels(server=self._server, why=why).inc()

    def unreadable(self, status: int, kind: str, trace: str) -> None:
        log.warning("no request", action="http.unreadable", outcome=str(status), kind=kind, trace=trace)


class ValidityObserver:
    """What the log and the metrics say of the agent's own certificate."""

    def certificate_expires(self, at: datetime) -> None:
        CERTIFICATE_EXPIRES_AT.set(at.timestamp())

    def certificate_fault(self, fault: str) -> None:
        log.warning("the agent's own certificate", action="agent.certificate", reason=fault)


class ListsObserver:
    """What the log and the metrics say of revocation lists."""

    def lists_end(self, kind: str, at: datetime) -> None:
        REVOCATION_LISTS_END_AT.labels(kind=kind).set(at.timestamp())

    def lists_fault(self, kind: str, fault: str) -> None:
        log.warning("revocation lists", action="agent.revocation_lists", kind=kind, reason=fault)


class StampObserver:
    """Counts for the stamps and anchors of the evidence log."""

    def stamp_age(self, seconds: float) -> None:
        STAMP_AGE.set(seconds)

    def stamp_failed(self, what: str, why: str) -> None:
        STAMP_FAILURES.labels(what=what, why=why).inc()
        log.warning("no stamp of the evidence log", action=f"evidence.no_{what}", reason=why)


def left_out(why: str) -> None:
    """A change of a document is not in the evidence log and never will be."""
    LEFT_OUT.labels(why=why).inc()
    log.warning("a change of a document left out", action="evidence.left_out", reason=why)
