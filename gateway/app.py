"""The gateway's composition root: the only place that knows which adapter fills which Protocol."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import partial
from pathlib import Path

from federation.http.limits import RateLimit
from federation.http.server import listening
from federation.process import collector
from federation.process.addresses import can_not_listen
from federation.process.os_errors import whose
from federation.process.supervising import until_stopped
from federation.reasons import Refusal
from federation.rpc import transport
from federation.rpc.transport import Credentials
from federation.rpc.validity import OwnCertificate
from federation.tlog.anchor import FileAnchor
from federation.tlog.note import SecondSigner, Signer
from federation.trust import TrustList, Use, federation_key
from federation.verify.report import TEXTS, VerifyError
from gateway import telemetry
from gateway.adapters.announced import AnnouncedHours
from gateway.adapters.carrier import Carrier
from gateway.adapters.case_evidence import CaseEvidence
from gateway.adapters.hooks import Target, WebHooks, read_targets
from gateway.adapters.locating import SearchLocator, stored_question
from gateway.adapters.nodes import NodeSessions
from gateway.adapters.register import StoredRegister
from gateway.adapters.signed_anew import SignedAnewNotices
from gateway.adapters.webhook_signing import CallKey
from gateway.bodies import Bodies
from gateway.cases.cases import Cases
from gateway.cases.clock import SteadyClock, wall_ms
from gateway.cases.engine import Engine
from gateway.cases.policy import Policy
from gateway.cases.store import Store, new_owner
from gateway.cases.upkeep import BEGINNING, Keep, Presence, add_availability
from gateway.cases.writer import ThreadedWriter
from gateway.edge.evidence_log import LogRoutes
from gateway.edge.server import Edge, Health
from gateway.edge.tokens import Clients, SigningKey, Tokens
from gateway.edge.verification import VerificationRoutes
from gateway.evidence.log import GatewayLog, second_signer_at, signer_at
from gateway.evidence.presentations import Presentations
from gateway.evidence.reconciling import Reconciler
from gateway.evidence.register import ShortCodes
from gateway.evidence.standing import StandingNotices
from gateway.evidence.statuses import StatusKeeper
from gateway.evidence.verifying import Verifying
from gateway.evidence.witnesses import Courier
from gateway.pages.verify import VerifyPage
from gateway.search.roster import Roster
from gateway.search.search import Searches
from gateway.settings import GatewaySettings, SettingsError

SIGNING_KEY, CALL_KEY = "signing-key.pem", "webhook-key.pem"
STATUS_LISTS = "status-lists"
_TICK_S = 0.5
_COUNT_EVERY_S, _STEER_EVERY_S = 5.0, 10.0
_TIDY_EVERY_S, _BETWEEN_BATCHES_S = 600.0, 0.2
_WRITE_PRESENCE_MS = 30_000
_DRAIN_S = 12.0  # longer than the longest search
_CLOSE_S = 1.0


async def run(settings: GatewaySettings, base: Path) -> None:
    """Serve until SIGTERM or SIGINT, then drain: not ready, no new searches, running ones finish, sessions close."""
    roster = Roster.load(base / settings.roster)
    observer = telemetry.Observer(member.code for member in roster.members)
    credentials = usable_credentials(settings, base, roster)
    trust_list, trust = pinned(settings, base)
    carrier = Carrier(roster, credentials, stream_age_s=settings.session_age_s)
    nodes = NodeSessions(
        roster,
        credentials,
        observer,
        link_listen=settings.link_listen,
        session_age_s=settings.session_age_s,
        beside={"Bulk": carrier.handler()},
    )
    searches = Searches(roster, nodes, observer, clock=time.monotonic)
    clients, targets = platforms(settings, base)
    policy = rules(roster)
    steady = SteadyClock()
    store = Store(settings.store_url(base), policy, clock_ms=steady, owner=new_owner())
    store.open()
    store.synchronise()
    if store.is_exclusive:
        store.release_all()  # leases of an earlier life: nobody else lives
    hooks = WebHooks(targets)
    counts = telemetry.CaseObserver()
    writer = ThreadedWriter(store, counts)
    evidence_log = open_log(settings, base)
    register = StoredRegister(store, writer)
    evidence = CaseEvidence(evidence_log, store, store.now_ms, register)
    engine = Engine(store, writer, SearchLocator(searches, nodes), nodes, hooks, counts, evidence=evidence)
    hours = AnnouncedHours(nodes.manifest, base / settings.data)
    cases = Cases(store, engine, hooks, hours, evidence)
    anew = SignedAnewNotices(roster.by_code, carrier, nodes.issues, store, engine, evidence_log)

    def session_opened(archive: str) -> None:
        """An archive that is back is asked again at once, and told what waits for it."""
        searches.session_opened(archive)
        engine.archive_returned(archive)
        hours.of(archive)  # what it announced is kept
        anew.returned(archive)
        if statuses is not None:
            statuses.refresh([archive])

    nodes.on_session = session_opened
    nodes.on_receipt = engine.receipted
    nodes.on_mail = lambda archive, mail, answer: cases.desk_said(
        archive, mail.id, mail.case_id, mail.body, answer
    )
    health = Health(ticked_at=time.monotonic())
    limit = RateLimit(settings.requests_per_minute, time.monotonic)
    statuses = (
        StatusKeeper(
            trust,
            carrier,
            base / settings.data / STATUS_LISTS,
            lambda archive: observer.session_event(archive, "older_status_list"),
            lambda archive: observer.session_event(archive, "forgetful_status_list"),
        )
        if trust is not None
        else None
    )
    verifying, codes = None, None
    if trust is not None and statuses is not None:
        used = Presentations(evidence_log, register, store.now_ms, audience=settings.audience)
        verifying = Verifying(trust, statuses.sources, used.verified)
        codes = ShortCodes(register, trust, statuses.sources, used.looked_up)
    bodies = Bodies()
    verification = VerificationRoutes(
        verifying, statuses, limit, bodies, audience=settings.audience, trust_list=trust_list
    )
    page = VerifyPage(codes, verifying, limit, bodies)
    edge = Edge(
        searches,
        nodes,
        tokens(settings, base),
        clients,
        limit,
        health,
        cases,
        stored_question,
        [*verification.routes(), *page.routes(), *LogRoutes(evidence_log, limit).routes()],
        carrier,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(edge, settings, base, health):
        await nodes.start()
        collector.spare()
        telemetry.log.info("serving", action="gateway.serving", members=len(roster.members))
        loops: dict[str, Awaitable[None]] = {
            "tick": _tick(health),
            "watch the certificate": OwnCertificate(credentials, observer).watch(),
            "case engine": engine.run(),
            "count cases": _count(store, engine),
            "case writer": _watch(writer),
            "evidence checkpoints": evidence_log.run(),
            "evidence stamps": evidence_log.stamps.run(),
            "evidence writer": _watch(evidence_log),
            "case evidence": evidence.run(),
            "case clock": _steer(steady, store, engine),
            "keep hours": hours.keep(),
            "signed anew": anew.run(),
            "case upkeep": _tidy(writer, Keep(personal_data=settings.forget_after_days), counts),
            "availability": _presence(roster, nodes, store, writer),
        }
        if trust is not None and statuses is not None:
            with_logs = sorted({key.issuer for key in trust.keys(Use.LOG)} & roster.by_code.keys())
            told = telemetry.EvidenceObserver()
            reconciler = Reconciler(
                settings.log_files(base)[0],
                with_logs,
                carrier,
                nodes.connected,
                store.now_ms,
                told,
                trust=trust,
                is_alone=store.is_exclusive,
            )
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, reconciler.ask)
            loops["fetch status lists"] = statuses.run()
            loops["carry to witnesses"] = Courier(
                trust, with_logs, carrier, nodes.connected, evidence_log, told
            ).run()
            loops["reconcile"] = reconciler.run()
            loops["standing notices"] = StandingNotices(
                with_logs, carrier, nodes.connected, evidence_log, statuses.refresh
            ).run()
        if not store.is_exclusive:
            loops["watch cases"] = cases.look()
        ended = partial(telemetry.log.error, "a task ended", action="gateway.task_ended")
        await until_stopped(stop, loops, ended)
        health.draining = True
        cases.leave()
        await engine.drain()
    await carrier.stop()
    await nodes.stop()
    await hooks.close()
    await writer.close()
    await asyncio.to_thread(evidence_log.close)
    store.close()


async def _count(store: Store, engine: Engine) -> None:
    """Show what is open and what waits, from the store; replicas show the same, so dashboards take the maximum."""
    while True:
        await asyncio.sleep(_COUNT_EVERY_S)
        try:
            stages = await engine.read(store.open_stages)
            oldest = await engine.read(store.oldest_waiting)
            waited = await engine.read(store.oldest_due_ms)
        except Refusal:  # the gauges just stay
            telemetry.STORE_UP.set(0)
        else:
            telemetry.STORE_UP.set(1)
            telemetry.show_cases(stages, oldest)
            telemetry.OLDEST_DUE.set(waited / 1000)


async def _watch(writer: ThreadedWriter | GatewayLog) -> None:
    """Notice when a writer's thread has died; then this process can do nothing for a case."""
    while writer.is_alive:  # noqa: ASYNC110 - a thread that died sets nothing
        await asyncio.sleep(1.0)


async def _tidy(writer: ThreadedWriter, keep: Keep, observer: telemetry.CaseObserver) -> None:
    """Forget what is past its time, in small batches, so that the living wait for none of it."""
    while True:
        after, is_over = BEGINNING, False
        while not is_over:
            is_over = True
            with contextlib.suppress(Refusal):
                done = await writer.call(lambda store, after=after: store.tidy(keep, after))  # type: ignore[misc]
                after, is_over = done.upto, done.is_last
                for _case in range(done.unreadable):
                    observer.task_failed("upkeep")
            await asyncio.sleep(_BETWEEN_BATCHES_S)
        await asyncio.sleep(_TIDY_EVERY_S)


async def _presence(roster: Roster, nodes: NodeSessions, store: Store, writer: ThreadedWriter) -> None:
    """Keep the record of which archives were there; what could not be written is written the next time."""
    codes = [member.code for member in roster.members]
    presence = Presence(codes)
    written = store.now_ms()
    while True:
        now = store.now_ms()
        presence.look(now, [code for code in codes if nodes.connected(code)])
        if now - written >= _WRITE_PRESENCE_MS:
            written, seen = now, presence.take()
            try:
                await writer.call(
                    lambda store, seen=seen: store.change(lambda c, _now: add_availability(c, seen))  # type: ignore[misc]
                )
            except Refusal:
                presence.give_back(seen)
        await asyncio.sleep(1.0)


async def _steer(steady: SteadyClock, store: Store, engine: Engine) -> None:
    """Keep the cases' clock near the database's (or the machine's), and report when that one has jumped."""
    while True:
        await asyncio.sleep(_STEER_EVERY_S)
        with contextlib.suppress(Refusal):
            jump = steady.steer(await engine.read(store.skew_ms))
            if jump:
                telemetry.CLOCK_JUMPS.inc()
                telemetry.log.warning("a clock jumped", action="gateway.clock_jumped", ms=jump)


def tokens(settings: GatewaySettings, base: Path) -> Tokens:
    """The issuer of this gateway's access tokens; its key is made on first use."""
    path = base / (settings.signing_key or f"{settings.data}/{SIGNING_KEY}")
    with _naming_key("signing_key", path):
        return Tokens(SigningKey.at(path), settings.issuer, settings.audience)


def usable_credentials(settings: GatewaySettings, base: Path, roster: Roster) -> Credentials:
    """What the gateway shows archives; TransportRefusedError or SettingsError when one of them could not be reached."""
    dial_in = [one.code for one in roster.members if not one.address]
    if dial_in and not settings.link_listen:
        raise SettingsError(
            f"link_listen: 名录中有 dials_in = true 的馆，请设置 · archives on the roster dial in, set it: {', '.join(dial_in)}"
        )
    credentials = settings.credentials(base)
    listens = [("link_listen", settings.link_listen)] if settings.link_listen else []
    dialled = [(f"roster: {one.code}: address", one.address) for one in roster.members if one.address]
    transport.check(credentials, [*listens, *dialled], "gateway", listens=bool(settings.link_listen))
    return credentials


def pinned(settings: GatewaySettings, base: Path) -> tuple[bytes, TrustList | None]:
    """The trust list as it is on disk, and what it says; b"" and None where none is set. SettingsError when it can not be used."""
    if not settings.trust_list:
        if settings.trust_list_key:
            raise SettingsError(
                "trust_list_key: 未设置 trust_list · there is no trust_list to be signed by it"
            )
        return b"", None
    key, path = "trust_list_key", base / settings.trust_list_key
    try:
        signed_by = federation_key(path.read_bytes()) if settings.trust_list_key else None
        key, path = "trust_list", base / settings.trust_list
        content = path.read_bytes()
        return content, TrustList.load(content, signed_by=signed_by)
    except OSError as error:
        raise SettingsError(f"{key}: 无法读取 · can not read {path}: {error.strerror}") from error
    except VerifyError as error:
        text = TEXTS[error.reason]
        raise SettingsError(f"{key}: {text.zh} · {text.en}: {path}: {error.detail}") from error


def rules(roster: Roster) -> Policy:
    """The rules of cases among these archives; PolicyError when they contradict each other."""
    return Policy(
        deputies={member.code: member.deputy for member in roster.members if member.deputy},
        members=frozenset(roster.by_code),
        names={member.code: member.name for member in roster.members},
    )


def platforms(settings: GatewaySettings, base: Path) -> tuple[Clients, dict[str, Target]]:
    """Who may ask for tokens, and where platforms are called back; SettingsError names what is wrong in their file."""
    path, key = base / settings.clients if settings.clients else None, call_key(settings, base)
    try:
        return Clients.load(path), read_targets(path, key)
    except ValueError as error:  # ClientsError, HookSettingsError
        raise SettingsError(f"clients: {path}: {error}") from error


def call_key(settings: GatewaySettings, base: Path) -> CallKey:
    """The key that signs calls to platforms; made on first use."""
    path = base / (settings.webhook_key or f"{settings.data}/{CALL_KEY}")
    with _naming_key("webhook_key", path):
        return CallKey.at(path)


@contextlib.contextmanager
def _naming_key(setting: str, path: Path) -> Iterator[None]:
    """SettingsError that names setting and file, where a key can not be read or made."""
    try:
        yield
    except OSError as error:
        raise SettingsError(
            f"{setting}: 无法读写 · can not read or make {path}: {error.strerror}{whose(error)}"
        ) from error
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{setting}: 不是可用的私钥 · no private key of this use: {path}") from error


def log_signers(settings: GatewaySettings, base: Path) -> tuple[Signer, SecondSigner | None]:
    """The key of this process's evidence log, made on first use, and the second suite's where there is one. EvidenceError."""
    _file, key = settings.log_files(base)
    signer = signer_at(key, f"{settings.federation}.lantai/gateway/{settings.log_name}")
    return signer, second_signer_at(key, signer.name)


def open_log(settings: GatewaySettings, base: Path) -> GatewayLog:
    """The evidence log of this process; its key is made on first use. EvidenceError when it can not be used."""
    signer, second = log_signers(settings, base)
    return GatewayLog(
        settings.log_files(base)[0],
        signer,
        wall_ms,
        telemetry.EvidenceObserver(),
        second=second,
        authority=settings.log_authority(base),
        anchor=FileAnchor(base / settings.anchor_file) if settings.anchor_file else None,
    )


@contextlib.asynccontextmanager
async def serving(edge: Edge, settings: GatewaySettings, base: Path, health: Health) -> AsyncIterator[None]:
    """The HTTP server; on leaving it refuses new searches by name until the running ones have ended, then closes its door."""
    context = settings.http_tls(base)
    bounds, observer = settings.connection_bounds(), telemetry.ServerObserver()
    async with contextlib.AsyncExitStack() as stack:
        server = listening(
            edge.app(), settings.host, settings.port, bounds, observer, tls=context, close_s=_CLOSE_S
        )
        try:
            port = await stack.enter_async_context(server)
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            raise SettingsError(can_not_listen("host, port", where, error)) from error
        telemetry.log.info("listening", action="gateway.listening", port=port)
        try:
            yield
        finally:
            health.draining = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    while health.running:  # noqa: ASYNC110 - bounded above
                        await asyncio.sleep(_CLOSE_S / 20)


async def _tick(health: Health) -> None:
    """Show that the event loop turns, and how late."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(_TICK_S)
        health.ticked_at = time.monotonic()
        telemetry.LOOP_LAG.set(max(0.0, health.ticked_at - before - _TICK_S))
