"""The node agent's composition root: `lantai-node init` prepares a data folder, `lantai-node run` serves it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined]
from grpc_reflection.v1alpha import reflection
from prometheus_client import generate_latest

from federation.bulk.answering import BulkAnswering
from federation.http.limits import ConnectionBounds
from federation.http.server import listening
from federation.process import collector
from federation.process.addresses import can_not_listen
from federation.process.durable import write_secret
from federation.process.os_errors import said
from federation.process.supervising import until_stopped, why_ended
from federation.reasons import Reason, Refusal, why
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, LINK, AcceptedLink, DialledLink, open_handler, stream_handler
from federation.rpc.naming import uri_name
from federation.rpc.validity import TEXTS as FAULTS
from federation.rpc.validity import Fault, OwnCertificate, fault_now
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.base import CASES, DOCUMENTS, LARGEST_FRAME, PROTOCOL, SessionEndedError
from federation.session.link import Link
from federation.tlog.flaws import TEXTS as FLAWS
from federation.tlog.flaws import EvidenceError
from federation.wire.v1 import holdings_pb2 as pb
from node_agent import settings as settings_module
from node_agent import telemetry
from node_agent.desk import api, messenger
from node_agent.desk.issuing import ApprovalNotice
from node_agent.desk.office import Office
from node_agent.desk.setup import announced, open_desk
from node_agent.desk.store import StoreVersionError
from node_agent.dialling import Dialler, Ways
from node_agent.disclosure import Disclosure
from node_agent.documents import Documents
from node_agent.index import Lookup, UnusableIndexError
from node_agent.index.folder import FEDERATION_KEY, BusyError, DataFolder
from node_agent.objects import Shelf
from node_agent.service import MOST_CANDIDATES, SOFTWARE_VERSION, ArchiveService
from node_agent.settings import NodeSettings, SettingsError

_WATCH_EVERY_S = 1.0
_DRAIN_S = 5.0
_SHORTEST_KEY, _LONGEST_KEY = 32, 4096  # bytes; 256 bits, raw, or as text in any usual form
_SETTLED_S = 2.0  # a refusal comes at once after the greeting
_METRICS_BOUNDS = ConnectionBounds(32, 32)  # a scraper or two, probes, and whoever looks


def configure_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")
    parser.add_argument(
        "--archive", required=True, metavar="CODE", help="行政区划代码 · GB/T 2260 code, e.g. 330483"
    )
    parser.add_argument("--name", required=True, metavar="TEXT", help="馆名 · name of the archive")
    parser.add_argument(
        "--listen", default="", metavar="HOST:PORT", help="网关拨入的地址 · where a gateway dials in"
    )
    parser.add_argument(
        "--gateway",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="要拨出的网关 · gateway to dial out to",
    )
    parser.add_argument(
        "--metrics-listen", default="", metavar="HOST:PORT", help="/metrics 的地址 · where /metrics is served"
    )
    parser.add_argument(
        "--federation",
        default="lantai",
        metavar="NAME",
        help="联合体名称 · name of the federation (default lantai)",
    )
    parser.add_argument(
        "--federation-key", metavar="FILE", help="联合指纹密钥 · fingerprint key shared by the archives"
    )
    for name, text in (
        ("ca", "联合体根证书 PEM · the federation's authority"),
        ("certificate", "本馆证书 PEM · this archive's certificate, with its chain"),
        ("key", "本馆私钥 PEM · the private key of the certificate"),
    ):
        parser.add_argument(f"--{name}", default="", metavar="FILE", help=text)
    parser.add_argument(
        "--plaintext-on-loopback", action="store_true", help="仅限本机试用 · no TLS, loopback only"
    )


def run_init(args: argparse.Namespace) -> int:
    """Check everything, then write the keys, and archive.toml last, so that what failed can be tried again."""
    folder = Path(args.data)
    values: dict[str, object] = {"archive": args.archive, "name": args.name, "federation": args.federation}
    optional = {
        "listen": args.listen,
        "gateways": args.gateway,
        "metrics_listen": args.metrics_listen,
        **{
            name: str(Path(getattr(args, name)).absolute()) if getattr(args, name) else ""
            for name in ("ca", "certificate", "key")
        },
        "plaintext_on_loopback": args.plaintext_on_loopback,
    }
    values |= {key: value for key, value in optional.items() if value}
    try:
        settings = settings_module.checked(folder, values)
        data = DataFolder(folder)
        federation_key = _federation_key(args.federation_key, data.federation_key())
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        data.index_key()
        if federation_key:
            write_secret(folder / FEDERATION_KEY, federation_key)
        path = settings_module.write(folder, values)
    except (SettingsError, UnusableIndexError) as error:
        print(f"lantai-node init: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lantai-node init: {said(error)}", file=sys.stderr)
        return 1
    missing = _missing(settings, folder)
    if missing:
        print(f"已写好 · written: {path}\n启动之前还缺 · still missing before it can run:")
        for one in missing:
            print(f"  {one}")
    else:
        print(f"已就绪 · ready: {path}")
    print(f"下一步 · next: lantai-node import FILE… --data {folder}; lantai-node run --data {folder}")
    return 0


def _federation_key(file: str | None, held: bytes | None) -> bytes | None:
    """The federation's key in this file; SettingsError when it can be none, or is another than the one held here."""
    if not file:
        return None
    with Path(file).open("rb") as opened:
        key = opened.read(_LONGEST_KEY + 1)
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        raise SettingsError(
            f"--federation-key: {len(key)} 字节，应为 {_SHORTEST_KEY} 至 {_LONGEST_KEY} 字节的随机数"
            f" · {len(key)} bytes, where {_SHORTEST_KEY} to {_LONGEST_KEY} random ones are wanted"
            if len(key) <= _LONGEST_KEY
            else f"--federation-key: 超过 {_LONGEST_KEY} 字节，不是密钥 · longer than {_LONGEST_KEY} bytes: it is no key"
        )
    if held is not None and held != key:
        raise SettingsError(
            f"数据目录已有另一把 {FEDERATION_KEY} · the data folder holds another {FEDERATION_KEY}; it is not replaced"
        )
    return key


def _missing(settings: NodeSettings, folder: Path) -> list[str]:
    """What must still be there before the agent can run, for people."""
    missing = []
    if not settings.listen and not settings.gateways:
        missing.append("listen 或 gateways · listen or gateways: nobody can reach this archive")
    try:
        credentials = usable_credentials(settings, folder)
    except transport.TransportRefusedError as error:
        missing.append(str(error))
    else:
        fault = fault_now(credentials)
        if fault is not None and fault is not Fault.EXPIRES_SOON:  # that one can run
            missing.append(f"certificate: {FAULTS[fault]}: {credentials.certificate}")
    return missing


def usable_credentials(settings: NodeSettings, folder: Path) -> transport.Credentials:
    """What the agent shows gateways; TransportRefusedError when none of them would believe it."""
    credentials = settings.credentials(folder)
    listens = [("listen", settings.listen)] if settings.listen else []
    dialled = [("gateways", address) for address in settings.gateways]
    transport.check(
        credentials, [*listens, *dialled], "node", settings.archive, listens=bool(settings.listen)
    )
    return credentials


def configure_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, metavar="DIR", help="数据目录 · the archive's data folder")


def run_run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT. Exit 1 when the settings, certificates or index can not be used."""
    telemetry.configure_logs()
    folder = Path(args.data)
    try:
        settings = settings_module.load(folder)
        DataFolder(folder).check_access()
        with DataFolder(folder).agent_lock():
            uvloop.run(serve(folder, settings))
    except (SettingsError, StoreVersionError, UnusableIndexError, transport.TransportRefusedError) as error:
        print(f"lantai-node run: {error}", file=sys.stderr)
        return 1
    except BusyError:
        print(
            f"lantai-node run: {folder}: 已有节点代理在此数据目录上运行 · another agent runs over this data folder",
            file=sys.stderr,
        )
        return 1
    except EvidenceError as error:
        text = FLAWS[error.flaw]
        print(
            f"lantai-node run: 存证日志 · the evidence log: {text.zh} · {text.en} ({error})", file=sys.stderr
        )
        return 1
    except Refusal as refusal:
        print(f"lantai-node run: {folder}: {why(refusal)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lantai-node run: {said(error)}", file=sys.stderr)
        return 1
    return 0


async def serve(folder: Path, settings: NodeSettings) -> None:
    """Everything the process does, in order; ends after SIGTERM has drained the sessions."""
    settings.session_addresses()
    credentials = usable_credentials(settings, folder)
    data = DataFolder(folder)
    lookup = Lookup(folder)
    disclosure = Disclosure(data.index_key(), data.federation_key(), frozenset(settings.closed_categories))
    service = ArchiveService(
        settings.archive,
        settings.name,
        lookup,
        disclosure,
        worker_queue=settings.worker_queue,
        **announced(settings),
    )
    documents = Documents(folder, settings, lookup, disclosure) if settings.documents else None
    office = Office(
        open_desk(
            folder, settings, lookup, disclosure, None if documents is None else documents.issuer.can_issue
        ),
        ApprovalNotice() if documents is None else documents.issuer,
        messenger.key_of(folder),
        None if documents is None else documents.log,
    )
    shelf = Shelf()
    if documents is not None:
        documents.shelve(shelf)
    agent = Agent(settings, credentials, service, office, shelf)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    collector.spare()
    tasks: dict[str, Awaitable[None]] = {
        "watch the index": agent.watch(),
        "watch the certificate": OwnCertificate(credentials, telemetry.ValidityObserver()).watch(),
    }
    tasks |= office.loops()
    if documents is not None:
        tasks |= documents.loops()
    for address in settings.gateways:
        tasks[f"dial {address}"] = agent.dial_out(address)
        tasks[f"dial {address} for objects"] = agent.dial_out_for_objects(address)
    async with contextlib.AsyncExitStack() as stack:
        if settings.metrics_listen:
            metrics = _metrics(settings.metrics_listen)
            await _entered(stack, "metrics_listen", settings.metrics_listen, metrics)
        if settings.health_listen:
            await stack.enter_async_context(_health(settings.health_listen))
        if settings.desk_listen:
            desk = api.serving(
                api.DeskApi(office), settings.desk_listen, settings.desk_bounds(), settings.desk_tls(folder)
            )
            port = await _entered(stack, "desk_listen", settings.desk_listen, desk)
            telemetry.log.info("desk listening", action="desk.listening", port=port)
        if settings.listen:
            await stack.enter_async_context(agent.listening(settings.listen))
        telemetry.log.info("serving", action="agent.serving", archive=settings.archive)
        ended = partial(telemetry.log.error, "a task ended", action="agent.task_ended")
        await until_stopped(stop, tasks, ended, _why)
        await agent.drain()
    office.close()
    if documents is not None:
        documents.close()
    service.close()
    lookup.close()


async def _entered(
    stack: contextlib.AsyncExitStack,
    setting: str,
    address: str,
    server: contextlib.AbstractAsyncContextManager[Any],
) -> Any:
    """Begin to listen; SettingsError names the setting whose address can not be had."""
    try:
        return await stack.enter_async_context(server)
    except OSError as error:
        raise SettingsError(can_not_listen(setting, address, error)) from error


def _why(error: BaseException | None) -> dict[str, str]:
    """What a log line may say of an error: `why_ended`, and the text of one about the index, which is ours and holds no data."""
    if isinstance(error, UnusableIndexError):
        return {"kind": error.trouble.value, "reason": str(error)}
    return why_ended(error)


@contextlib.asynccontextmanager
async def _metrics(address: str) -> Any:
    async def metrics(_request: web.Request) -> web.Response:
        text = await asyncio.to_thread(generate_latest, telemetry.REGISTRY)
        return web.Response(body=text, content_type="text/plain", charset="utf-8")

    async def livez(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    app = web.Application()
    app.add_routes([web.get("/metrics", metrics), web.get("/livez", livez)])
    host, port = address.rsplit(":", 1)
    observer = telemetry.ServerObserver("metrics")
    async with listening(app, host.strip("[]"), int(port), _METRICS_BOUNDS, observer):
        yield


@contextlib.asynccontextmanager
async def _health(address: str) -> Any:
    """Whether this process answers, for a probe without a certificate; it tells nothing else."""
    server = transport.server()
    checks = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    transport.listen_for_probes(server, address)
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        yield
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(0.5)


class _SessionLine:
    """A session as the desk's courier uses it."""

    def __init__(self, session: AnsweringSession) -> None:
        self._session = session

    def send(self, mail_id: bytes, case_id: str, body: bytes) -> bool:
        return not self._session.draining and self._session.mail(
            pb.Mail(id=mail_id, case_id=case_id, body=body)
        )

    def receipt(self, mail_id: bytes, reason: str) -> None:
        if not self._session.ended:
            self._session.receipt(mail_id, reason)


class Agent:
    """The archive's sessions with gateways, dialled and accepted."""

    def __init__(
        self,
        settings: NodeSettings,
        credentials: transport.Credentials,
        service: ArchiveService,
        office: Office,
        shelf: Shelf,
    ) -> None:
        self._settings, self._credentials, self._service = settings, credentials, service
        self._office, self._shelf = office, shelf
        self._ways = Ways()
        self._dialler = Dialler(credentials, settings.gateway_names[0], self._ways)
        self._sessions: set[AnsweringSession] = set()
        self._allowed = frozenset(
            uri_name(settings.federation, "gateway", name) for name in settings.gateway_names
        )
        self._events = telemetry.SESSION_EVENTS

    def _observe(self, event: str) -> None:
        self._events.labels(event=event).inc()

    def _hello(self) -> pb.Hello:
        return pb.Hello(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            features=[CASES, DOCUMENTS] if self._settings.documents else [CASES],
            credits=CREDITS,
            max_frame_bytes=LARGEST_FRAME,
            max_candidates=MOST_CANDIDATES,
            manifest=self._service.manifest(),
            software_version=SOFTWARE_VERSION,
        )

    async def _session(
        self, link: Link, address: str = "", opened: Callable[[], None] = lambda: None
    ) -> None:
        """Greet and serve one session to its end; `opened` is called once both sides have greeted. `address` is the
        gateway's, "" = it dialled in. SessionEndedError when the gateway refused it, with the reason.
        """
        session = AnsweringSession(
            link, f"session {self._settings.archive}", self._service, observe=self._observe
        )
        await session.greet(self._hello())
        self._sessions.add(session)
        telemetry.SESSIONS.set(len(self._sessions))
        self._observe("opened")
        opened()
        line = _SessionLine(session)
        courier = self._office.courier
        session.on_mail = lambda mail: courier.arrived(line, mail.id, mail.case_id, mail.body)
        session.on_receipt = lambda receipt: courier.receipted(receipt.id, receipt.reason)
        if session.takes_cases:
            courier.joined(line)
        settled = asyncio.get_running_loop().call_later(_SETTLED_S, self._ways.open, address)
        try:
            await session.run()
        finally:
            settled.cancel()
            courier.left(line)
            self._sessions.discard(session)
            telemetry.SESSIONS.set(len(self._sessions))
            self._observe("closed")
        if session.refused:
            raise SessionEndedError(session.refused)

    @contextlib.asynccontextmanager
    async def listening(self, address: str) -> Any:
        """Serve gateways that dial in: sessions, the unary calls, health and reflection."""
        server = transport.server()
        server.add_generic_rpc_handlers((open_handler(HOLDINGS, self._accept, self._unary()),))
        checks = health_aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        reflection.enable_server_reflection((HOLDINGS, HEALTH, reflection.SERVICE_NAME), server)
        port = transport.listen(server, address, self._credentials)
        await server.start()
        for name in ("", HOLDINGS):
            await checks.set(name, health_pb2.HealthCheckResponse.SERVING)
        telemetry.log.info("listening", action="agent.listening", port=port)
        try:
            yield
        finally:
            await checks.enter_graceful_shutdown()
            await server.stop(1.0)

    def _is_gateway(self, context: grpc.aio.ServicerContext[Any, Any]) -> bool:
        names = transport.peer_names(context)
        if names is None:
            return self._credentials.is_plaintext
        return bool(names & self._allowed)

    async def _accept(self, link: AcceptedLink, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not self._is_gateway(context):
            self._ways.failed("", Reason.NOT_A_MEMBER.value, "stranger")
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
        try:
            await self._session(link)
        except SessionEndedError as error:
            if error.reason:  # without one the gateway just hung up
                self._ways.failed("", error.reason)

    def _unary(self) -> dict[str, Any]:
        async def search(
            request: pb.SearchRequest, context: grpc.aio.ServicerContext[Any, Any]
        ) -> pb.SearchResponse:
            if not self._is_gateway(context):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
            return await self._service.search(request)

        async def describe(
            _request: pb.DescribeRequest, context: grpc.aio.ServicerContext[Any, Any]
        ) -> pb.Manifest:
            if not self._is_gateway(context):
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
            return self._service.manifest()

        def handler(call: Callable[..., Any], request: Any, response: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, response.SerializeToString)

        return {
            "Bulk": stream_handler(self._accept_bulk),
            "Search": handler(search, pb.SearchRequest, pb.SearchResponse),
            "Describe": handler(describe, pb.DescribeRequest, pb.Manifest),
        }

    async def dial_out(self, address: str) -> None:
        """Keep one session to a gateway, renewed before it ages out."""
        await self._dialler.keep(
            address,
            lambda channel, opened: self._session(DialledLink(channel, LINK), address, opened),
            age_s=self._settings.session_age_s,
        )

    async def dial_out_for_objects(self, address: str) -> None:
        """Keep one bulk stream to a gateway, on a connection of its own."""

        async def serve(channel: grpc.aio.Channel, opened: Callable[[], None]) -> None:
            opened()
            await self._answer(DialledLink(channel, LINK, "Bulk"))

        await self._dialler.keep(address, serve, kind="objects")

    async def _answer(self, link: Link) -> None:
        """Give out objects on one bulk stream until it is lost."""
        await BulkAnswering(link, self._settings.archive, self._shelf).run()

    async def _accept_bulk(self, link: AcceptedLink, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        if not self._is_gateway(context):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, Reason.NOT_A_MEMBER.value)
        await self._answer(link)

    async def watch(self) -> None:
        """Notice imports and tell every gateway at once; one that could not be told is told at a later look."""
        seen = self._service.manifest().index_epoch
        while True:
            await asyncio.sleep(_WATCH_EVERY_S)
            manifest = self._service.manifest()
            if manifest.index_epoch != seen:
                seen = manifest.index_epoch
                self._service.let_go_of_older_files()
                telemetry.log.info(
                    "holdings changed", action="agent.holdings", epoch=seen, records=manifest.records
                )
            for session in self._sessions:
                session.tell_manifest(manifest)

    async def drain(self) -> None:
        """Ask for no more, finish what is being worked on, close; bounded by five seconds."""
        for session in self._sessions:
            session.drain(int(_DRAIN_S * 1000), Reason.DRAINING.value)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await asyncio.sleep(0.1)
                while any(session.working for session in self._sessions):  # noqa: ASYNC110 - bounded above
                    await asyncio.sleep(0.02)
        await asyncio.gather(*[session.close() for session in self._sessions], return_exceptions=True)
        await self._dialler.close()
