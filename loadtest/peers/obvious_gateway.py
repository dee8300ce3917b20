"""A gateway written the obvious way, as the floor of the REST figure: aiohttp, one unary call per archive, gather.

It is given every advantage of leaving things out: no tokens, no limits, no checks, no completeness account, no merging.
It asks the same agents over the same mutual TLS.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict

from federation.dates import DateSpan
from federation.query import Query, Relation
from federation.rpc import transport
from federation.wire.translate import query_to_wire
from federation.wire.v1 import holdings_pb2 as pb


def _span(first: str | None, last: str | None) -> DateSpan | None:
    if not first:
        return None
    return DateSpan(int(first) * 10000 + 101, int(last or first) * 10000 + 1231)


async def _make(settings: dict[str, object]) -> web.Application:
    credentials = transport.Credentials(
        ca=Path(str(settings["ca"])),
        certificate=Path(str(settings["certificate"])),
        key=Path(str(settings["key"])),
    )
    addresses: dict[str, str] = settings["archives"]  # type: ignore[assignment]
    stubs = {}
    for code, address in addresses.items():
        channel = transport.channel(address, credentials, "node", code)
        stubs[code] = channel.unary_unary(
            "/federation.wire.v1.Holdings/Search",
            request_serializer=pb.SearchRequest.SerializeToString,
            response_deserializer=pb.SearchResponse.FromString,
        )

    async def search(request: web.Request) -> web.Response:
        body = await request.json()
        subject, event = body["subject"], body.get("event", {})
        query = Query(
            category=body["category"],
            purpose=body["purpose"],
            relation=Relation(body["applicant"]["relation"]),
            name=subject["name"],
            other_name=subject.get("other_name", ""),
            birth=_span(subject.get("birth"), None),
            event=_span(event.get("from"), event.get("to")),
        )
        message = pb.SearchRequest(
            query=pb.Query.FromString(query_to_wire(query)), budget_ms=body["deadline_ms"], max_candidates=50
        )
        answers = await asyncio.gather(
            *[stub(message, timeout=body["deadline_ms"] / 1000) for stub in stubs.values()],
            return_exceptions=True,
        )
        found: dict[str, dict[str, Any]] = {}
        for code, answer in zip(stubs, answers, strict=True):
            if isinstance(answer, BaseException):
                found[code] = {"error": type(answer).__name__}
            else:
                found[code] = {
                    "candidates": [MessageToDict(pb.Candidate.FromString(one)) for one in answer.candidates]
                }
        return web.json_response({"archives": found})

    app = web.Application()
    app.router.add_post("/v1/searches", search)
    return app


def main() -> None:
    """Serve on loopback until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path, help="JSON: ca, certificate, key, archives {code: address}")
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    web.run_app(
        _make(json.loads(args.settings.read_text())),
        host="127.0.0.1",
        port=args.port,
        print=None,
        access_log=None,
    )


if __name__ == "__main__":
    main()
