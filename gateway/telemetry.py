"""Metrics and logs of the gateway, all declared here. Labels are closed sets; nothing here ever names a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from federation.outcome import Outcome
from federation.process import log_lines
from federation.tlog.reconcile import Reconciliation

REGISTRY = CollectorRegistry()

SEARCHES = Counter("gw_searches_total", "Searches answered, by verdict.", ["verdict"], registry=REGISTRY)
SEARCH_SECONDS = Histogram(
    "gw_search_seconds",
    "Time from admission to the answer of a search.",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10),
    registry=REGISTRY,
)
ASKED = Counter("gw_archives_asked_total", "Sub-requests meant for archives.", registry=REGISTRY)
OUTCOMES = Counter(
    "gw_archive_outcomes_total", "Outcomes of asking, by archive.", ["archive", "outcome"], registry=REGISTRY
)
EVENTS = Counter(
    "gw_search_events_total", "Things worth counting: retry, shed, late_reply …", ["event"], registry=REGISTRY
)
NODE_UP = Gauge("gw_node_up", "Whether a session with the archive is open.", ["archive"], registry=REGISTRY)
CERTIFICATE_EXPIRES_AT = Gauge(
    "gw_certificate_expires_at_seconds",
    "When the gateway's own TLS certificate towards archives, or one of its chain, expires, Unix time; 0 = none.",
    registry=REGISTRY,
)
SESSION_EVENTS = Counter(
    "gw_session_events_total", "Things that happened on sessions.", ["archive", "event"], registry=REGISTRY
)
REQUESTS = Counter(
    "gw_http_requests_total", "HTTP requests, by route and status.", ["route", "status"], registry=REGISTRY
)
REFUSALS = Counter("gw_refusals_total", "Requests refused, by reason.", ["reason"], registry=REGISTRY)
_MINUTES = (
    1,
    5,
    15,
    30,
    60,
    120,
    300,
    600,
    720,
    840,
    900,
    1200,
    1800,
    3600,
)  # an edge exactly on each target
CASE_EVENTS = Counter(
    "gw_case_events_total", "What happened to cases, by kind and the stage after it.", ["event", "stage"], registry=REGISTRY
)  # fmt: skip
CASES_OPEN = Gauge("gw_case_open", "Open cases, by stage.", ["stage"], registry=REGISTRY)
STAGE_SECONDS = Histogram(
    "gw_case_stage_seconds", "Time cases spent in a stage, pauses left out.", ["stage"], buckets=_MINUTES, registry=REGISTRY
)  # fmt: skip
CASE_SECONDS = Histogram(
    "gw_case_seconds", "Time from acceptance to the delivered answer, pauses left out.", ["scope"], buckets=_MINUTES,
    registry=REGISTRY,
)  # fmt: skip
CASES_CLOSED = Counter(
    "gw_case_closed_total", "Cases whose clock stopped: met, late or withdrawn.", ["outcome", "scope"], registry=REGISTRY
)  # fmt: skip
TASK_FAILURES = Counter(
    "gw_task_failures_total", "Case tasks that must be tried again.", ["task"], registry=REGISTRY
)
LEASES_LOST = Counter(
    "gw_lease_lost_total", "Results dropped because the lease was lost.", ["task"], registry=REGISTRY
)
OLDEST_DUE = Gauge(
    "gw_task_oldest_due_seconds", "How long the oldest due task or case has waited.", registry=REGISTRY
)
COMMIT_SECONDS = Histogram(
    "gw_store_commit_seconds", "Time of one transaction of the case store.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10), registry=REGISTRY,
)  # fmt: skip
BATCH_UNITS = Histogram(
    "gw_store_batch_units", "Units of work in one transaction.", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=REGISTRY
)  # fmt: skip
STORE_UP = Gauge("gw_store_up", "Whether the case store could be read at the last look.", registry=REGISTRY)
CLOCK_JUMPS = Counter(
    "gw_clock_jumps_total", "Times the machine's or the database's clock was seen to have jumped.", registry=REGISTRY
)  # fmt: skip
STORE_QUEUE = Gauge("gw_store_queue", "Units waiting for the writer.", registry=REGISTRY)
OUTBOX_OLDEST = Gauge(
    "gw_outbox_oldest_seconds", "How long the oldest message or call back has waited.", ["kind"], registry=REGISTRY
)  # fmt: skip
LOG_LINES_LOST = Counter(
    "gw_log_lines_lost_total", "Log lines that could not be written.", registry=REGISTRY
)  # fmt: skip
RUNNING = Gauge(
    "gw_http_requests_running", "Requests being answered now, but for case event streams.", registry=REGISTRY
)
CONNECTIONS = Gauge("gw_http_connections", "Connections the HTTP edge holds now.", registry=REGISTRY)
CONNECTIONS_REFUSED = Counter(
    "gw_http_connections_refused_total",
    "Connections refused: in_all, of_a_line; or put off, because the process had no file descriptor left: descriptors.",
    ["why"], registry=REGISTRY,
)  # fmt: skip
LOOP_LAG = Gauge("gw_loop_lag_seconds", "How late the event loop was at its last look.", registry=REGISTRY)

LOGGED = Counter("gw_log_events_total", "Events in the evidence log, by kind.", ["kind"], registry=REGISTRY)
LOG_FAILURES = Counter(
    "gw_log_failures_total", "Events and checkpoints that could not be logged, by flaw; they are tried again.", ["why"],
    registry=REGISTRY,
)  # fmt: skip
LOG_FORKS = Counter(
    "gw_log_forks_total", "Times a witness had seen another history than a log tells.", ["log", "why"], registry=REGISTRY
)  # fmt: skip
LOG_COSIGNED = Counter(
    "gw_log_cosigned_total", "Checkpoints cosigned by a witness.", ["log"], registry=REGISTRY
)
LOG_COSIGNED_AT = Gauge(
    "gw_log_cosigned_at_seconds", "When a checkpoint of the log was cosigned last, Unix time.", ["log"], registry=REGISTRY
)  # fmt: skip
WITNESS_FAILURES = Counter(
    "gw_witness_failures_total", "Checkpoints that were not cosigned, by reason; they are tried again.", ["log", "why"],
    registry=REGISTRY,
)  # fmt: skip
RECONCILED = Gauge(
    "gw_log_reconciled_events", "Events of the last reconciliation: agreed, missing_here, missing_there, differs, open.",
    ["archive", "result"], registry=REGISTRY,
)  # fmt: skip
RECONCILED_AT = Gauge(
    "gw_log_reconciled_at_seconds", "When the archive was last reconciled with, Unix time.", ["archive"], registry=REGISTRY
)  # fmt: skip
STAMP_AGE = Gauge(
    "gw_log_stamp_age_seconds", "How long the oldest entry of the evidence log has waited for a time stamp; 0 = all are stamped.",
    registry=REGISTRY,
)  # fmt: skip
STAMP_FAILURES = Counter(
    "gw_log_stamp_failures_total", "Time stamps and anchors that could not be had, by reason; they are tried again.",
    ["what", "why"], registry=REGISTRY,
)  # fmt: skip
LOG_SIZE = Gauge(
    "gw_log_size", "Entries covered by the newest checkpoint of the evidence log.", registry=REGISTRY
)

LOG_FIELDS = frozenset(
    {"event", "level", "timestamp", "action", "archive", "route", "method", "status", "ms", "client", "trace", "reason",
     "kind", "where", "port", "task", "members", "agreed", "missing_here", "missing_there", "differs", "open", "variable"}
)  # fmt: skip
"""The only keys a log line may have; others are dropped, so that no value of a request can slip into a log."""


class Observer:
    """Counts for the search feature and the sessions; label children are bound once, because looking one up costs 1 us."""

    def __init__(self, archives: Iterable[str]) -> None:
        codes = list(archives)
        self._verdicts = {verdict: SEARCHES.labels(verdict=verdict) for verdict in ("complete", "partial")}
        self._outcomes = {
            (code, outcome.value): OUTCOMES.labels(archive=code, outcome=outcome.value)
            for code in codes
            for outcome in Outcome
        }
        self._up = {code: NODE_UP.labels(archive=code) for code in codes}

    def searched(self, seconds: float, verdict: str, asked: int) -> None:
        self._verdicts[verdict].inc()
        SEARCH_SECONDS.observe(seconds)
        ASKED.inc(asked)

    def outcome(self, archive: str, outcome: str) -> None:
        self._outcomes[archive, outcome].inc()

    def event(self, name: str) -> None:
        EVENTS.labels(event=name).inc()

    def session_event(self, archive: str, event: str) -> None:
        SESSION_EVENTS.labels(archive=archive, event=event).inc()

    def connected(self, archive: str, *, up: bool) -> None:
        self._up[archive].set(1 if up else 0)
        log.info("session opened" if up else "session closed", action="session", archive=archive)

    def certificate_expires(self, at: datetime) -> None:
        CERTIFICATE_EXPIRES_AT.set(at.timestamp())

    def certificate_fault(self, fault: str) -> None:
        log.warning("the gateway's own certificate", action="gateway.certificate", reason=fault)

    def no_session(self, archive: str, reason: str) -> None:
        log.warning("no session", action="gateway.no_session", archive=archive, reason=reason)


class ServerObserver:
    """Counts for the HTTP server, and its log of what was no request."""

    def connections(self, held: int) -> None:
        CONNECTIONS.set(held)

    def connection_refused(self, why: str) -> None:
        CONNECTIONS_REFUSED.labels(why=why).inc()

    def unreadable(self, status: int, kind: str, trace: str) -> None:
        log.warning("no request", action="http.unreadable", status=status, kind=kind, trace=trace)


def show_cases(open_by_stage: Mapping[str, int], oldest_ms: Mapping[str, int]) -> None:
    """Set the gauges that are read from the store."""
    for stage in ("locate", "select", "pick_up", "review", "issue", "deliver"):
        CASES_OPEN.labels(stage=stage).set(open_by_stage.get(stage, 0))
    for kind in ("mail", "hook"):
        OUTBOX_OLDEST.labels(kind=kind).set(oldest_ms.get(kind, 0) / 1000)


class CaseObserver:
    """Counts for the case feature and its writer."""

    def happened(self, kind: str, stage: str) -> None:
        CASE_EVENTS.labels(event=kind, stage=stage).inc()

    def stage_ended(self, stage: str, seconds: float) -> None:
        STAGE_SECONDS.labels(stage=stage).observe(seconds)

    def stopped(self, outcome: str, scope: str, seconds: float) -> None:
        CASES_CLOSED.labels(outcome=outcome, scope=scope).inc()
        if outcome != "withdrawn":
            CASE_SECONDS.labels(scope=scope).observe(seconds)

    def lease_lost(self, kind: str) -> None:
        LEASES_LOST.labels(task=kind).inc()

    def task_failed(self, kind: str) -> None:
        TASK_FAILURES.labels(task=kind).inc()

    def committed(self, seconds: float, units: int, waiting: int) -> None:
        COMMIT_SECONDS.observe(seconds)
        BATCH_UNITS.observe(units)
        STORE_QUEUE.set(waiting)


class EvidenceObserver:
    """Counts for the evidence feature."""

    def __init__(self) -> None:
        self._alarmed: set[str] = set()

    def logged(self, kind: str) -> None:
        LOGGED.labels(kind=kind).inc()

    def log_failed(self, why: str) -> None:
        LOG_FAILURES.labels(why=why).inc()

    def log_size(self, entries: int) -> None:
        LOG_SIZE.set(entries)

    def stamp_age(self, seconds: float) -> None:
        STAMP_AGE.set(seconds)

    def stamp_failed(self, what: str, why: str) -> None:
        STAMP_FAILURES.labels(what=what, why=why).inc()
        log.warning("no stamp of the evidence log", action=f"evidence.no_{what}", reason=why)

    def cosigned(self, log: str) -> None:
        LOG_COSIGNED.labels(log=log).inc()
        LOG_COSIGNED_AT.labels(log=log).set_to_current_time()
        self._alarmed.discard(log)

    def witness_failed(self, log: str, why: str) -> None:
        WITNESS_FAILURES.labels(log=log, why=why).inc()

    def fork(self, of: str, why: str) -> None:
        """An alarm; said once in the log until `of` was cosigned again, counted each time."""
        LOG_FORKS.labels(log=of, why=why).inc()
        if of not in self._alarmed:
            self._alarmed.add(of)
            log.error("a witness has seen another history", action="evidence.fork", archive=of, reason=why)

    def reconciled(self, archive: str, result: Reconciliation) -> None:
        counts = result.counts()
        for name, number in counts.items():
            RECONCILED.labels(archive=archive, result=name).set(number)
        RECONCILED_AT.labels(archive=archive).set_to_current_time()
        say = log.info if result.ok else log.error
        say("reconciled", action="evidence.reconciled", archive=archive, **counts)

    def not_reconciled(self, archive: str, why: str) -> None:
        log.warning("not reconciled", action="evidence.not_reconciled", archive=archive, reason=why)


def configure_logs() -> None:
    """JSON lines on stderr, from everybody."""
    log_lines.configure(LOG_FIELDS, LOG_LINES_LOST.inc, quiet=("grpc", "aiohttp"))


log = structlog.get_logger()
