"""Archives that answer out of a dictionary, all in one process: what is measured over them is asking, not searching.

They speak the wire protocol in both forms, the session and the unary call, and hold nobody but who is asked about: the
archive at home in a question answers with one masked candidate, the others that they found nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from federation.candidate import Candidate
from federation.levels import DateLevel, Levels, NameLevel
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, AcceptedLink, open_handler
from federation.session.answering import CREDITS, AnsweringSession
from federation.session.base import PROTOCOL, SessionEndedError
from federation.wire.translate import candidate_to_wire
from federation.wire.v1 import holdings_pb2 as pb


class _Dictionary:
    """Fits `Responder`: names held here, and their one candidate."""

    def __init__(self, code: str, names: list[str]) -> None:
        self._code = code
        self._held = {name: _candidate(number, name) for number, name in enumerate(names)}

    def _answer(self, cid: int, query: pb.Query) -> pb.ResultItem:
        found = self._held.get(query.name)
        return pb.ResultItem(
            cid=cid, status=pb.STATUS_OK, index_epoch=1, candidates=[] if found is None else [found]
        )

    def begin(
        self, item: pb.QueryItem, _ends_at: float, done: Callable[[pb.ResultItem], None]
    ) -> Callable[[], None] | None:
        done(self._answer(item.cid, pb.Query.FromString(item.query)))
        return None

    def turn(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def manifest(self) -> pb.Manifest:
        manifest = pb.Manifest(archive=self._code, name=self._code, index_epoch=1, records=100_000)
        manifest.categories.add(category="marriage", records=100_000, first_year=1950, last_year=2010)
        return manifest

    async def search(
        self, request: pb.SearchRequest, _context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.SearchResponse:
        item = self._answer(0, request.query)
        return pb.SearchResponse(status=item.status, index_epoch=1, candidates=item.candidates)

    async def serve(self, link: AcceptedLink, _context: grpc.aio.ServicerContext[Any, Any]) -> None:
        session = AnsweringSession(link, self._code, self, observe=lambda _event: None)
        with contextlib.suppress(SessionEndedError):
            await session.greet(
                pb.Hello(
                    protocol_min=PROTOCOL, protocol_max=PROTOCOL, credits=CREDITS, manifest=self.manifest()
                )
            )
            await session.run()


def _candidate(number: int, name: str) -> bytes:
    levels = Levels(name=NameLevel.EXACT, birth=DateLevel.YEAR, event=DateLevel.YEAR)
    return candidate_to_wire(
        Candidate(
            ref=f"r{number}",
            category="marriage",
            masked_name=f"{name[0]}*",
            year=1987,
            levels=levels,
            name_bits=14.0,
        )
    )


async def _run(settings: dict[str, Any]) -> None:
    servers = []
    for code, one in settings["archives"].items():
        credentials = transport.Credentials(
            ca=Path(settings["ca"]), certificate=Path(one["certificate"]), key=Path(one["key"])
        )
        dictionary = _Dictionary(code, one["names"])
        unary = grpc.unary_unary_rpc_method_handler(
            dictionary.search, pb.SearchRequest.FromString, pb.SearchResponse.SerializeToString
        )
        server = transport.server()
        server.add_generic_rpc_handlers((open_handler(HOLDINGS, dictionary.serve, {"Search": unary}),))
        transport.listen(server, one["address"], credentials)
        await server.start()
        servers.append(server)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await asyncio.gather(*[server.stop(0.5) for server in servers])


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "settings", type=Path, help="JSON: ca, archives {code: address certificate key names}"
    )
    uvloop.run(_run(json.loads(parser.parse_args().settings.read_text("utf-8"))))


if __name__ == "__main__":
    main()
