"""The real HTTP edge over fake archives, on loopback; every answer it gives is held to the published contract."""

from __future__ import annotations

import json
import time
from typing import Any, Self

from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from federation.http.limits import RateLimit
from gateway.edge.server import Edge, Health, openapi
from gateway.edge.tokens import ALGORITHM, Clients, SigningKey, Tokens, _Key
from gateway.search.roster import Member, Roster
from gateway.search.search import Searches
from tests.fakes.contract import Contract
from tests.fakes.holdings import Behaviour, FakeHoldings, candidate, manifest

ISSUER, AUDIENCE = "https://gateway.lantai", "lantai"
CODES = ("330402", "330421", "330483")
ROSTER = Roster(3, tuple(Member(code, f"{code}馆", f"127.0.0.1:{4000 + n}") for n, code in enumerate(CODES)))
QUESTION: dict[str, Any] = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "SELF"},
    "subject": {"name": "錢偉明", "id_number": None, "birth": "1963", "other_name": "王芳"},
    "event": {"from": "1985", "to": "1990", "place": "330483"},
    "scope": {"regions": ["3304"]},
    "deadline_ms": 2000,
}
CONTRACT = Contract(openapi())


class _Nobody:
    def searched(self, seconds: float, verdict: str, asked: int) -> None: ...
    def outcome(self, archive: str, outcome: str) -> None: ...
    def event(self, name: str) -> None: ...


class _AsServed(TestServer):
    """A test server whose handlers go on when a caller hangs up, as aiohttp's own runner has it."""

    async def _make_runner(self, **options: Any) -> Any:
        return await super()._make_runner(**{**options, "handler_cancellation": False})


class Gateway:
    """One edge with its keys and archives; `client` speaks to it."""

    def __init__(self, *, per_minute: int = 60_000, behaviours: dict[str, Behaviour] | None = None) -> None:
        self.key = SigningKey(ec.generate_private_key(ec.SECP256R1()))
        self.tokens = Tokens(self.key, ISSUER, AUDIENCE)
        self.platform = ec.generate_private_key(ec.SECP256R1())
        self.health = Health(ticked_at=time.monotonic())
        self.holdings = FakeHoldings(
            behaviours or {"330483": Behaviour((candidate("r1"),))}, {code: manifest(code) for code in CODES}
        )
        clients = Clients({"platform": (_Key(ALGORITHM, self.platform.public_key()), "search")})
        searches = Searches(ROSTER, self.holdings, _Nobody(), clock=time.monotonic)
        self.edge = Edge(
            searches, self.holdings, self.tokens, clients, RateLimit(per_minute, time.monotonic), self.health
        )
        self.client: TestClient[Any, Any]

    async def __aenter__(self) -> Self:
        self.client = TestClient(_AsServed(self.edge.app()))
        await self.client.start_server()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.client.close()

    async def ask(
        self,
        body: Any = None,
        *,
        method: str = "POST",
        path: str = "/v1/searches",
        token: str | None = "",
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, Any, Any]:
        """(status, headers, body as JSON or text) of one request, checked against the contract."""
        if token == "":
            token = self.tokens.mint("platform")
        sent = {"Content-Type": "application/json"} if method == "POST" else {}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        data = raw if raw is not None else (json.dumps(body).encode() if body is not None else None)
        async with self.client.request(
            method, path, data=data, headers={**sent, **(headers or {})}
        ) as answer:
            text = await answer.read()
            CONTRACT.hold(method, path, answer.status, answer.headers, text)
            if "json" in answer.content_type:
                return answer.status, answer.headers, json.loads(text)
            return answer.status, answer.headers, text.decode()


def public_jwk(key: Any) -> dict[str, Any]:
    return dict(ECAlgorithm.to_jwk(key.public_key(), as_dict=True))
