"""Archives with keys for every use, and the trust list that names them: real keys, real signatures."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from federation.credential.certificate import Certificate, Reuse, issue
from federation.credential.qr import build
from federation.credential.sd_jwt import SdJwt
from federation.credential.status_list import StatusList, sign_cwt, sign_jwt
from federation.suites.base import PrivateKey
from federation.suites.registry import suite
from federation.trust import TrustList
from federation.verify.status import State, StatusReference
from federation.verify.status_lists import StatusLists

NOW = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
USES = ("credential", "status", "delivery", "seal")


@dataclass
class Archive:
    code: str = "330483"
    name: str = "桐乡市档案馆"
    second_suite: str | None = None
    second_since: str = "2026-01-01T00:00:00Z"
    keys: dict[str, PrivateKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for use in USES:
            self.keys[f"{use}-1"] = suite("intl-1").generate("ES256")
            if self.second_suite:
                self.keys[f"{use}-sm"] = suite(self.second_suite).generate("SM2")

    @property
    def status_uri(self) -> str:
        return f"https://lantai.example/status/{self.code}/1"

    def second(self, use: str) -> tuple[PrivateKey, str] | None:
        return (self.keys[f"{use}-sm"], f"{use}-sm") if self.second_suite else None

    def entry(self, **changes: dict[str, Any]) -> dict[str, Any]:
        """The archive's entry of a trust list; `changes` by key id with `_` for `-`."""
        keys = []
        for key_id, key in self.keys.items():
            keys.append(
                {
                    "id": key_id,
                    "use": key_id.rpartition("-")[0],
                    "suite": key.suite,
                    "alg": key.alg,
                    "jwk": suite(key.suite).jwk(key.public),
                    "not_before": "2026-01-01T00:00:00Z",
                    "not_after": "2028-01-01T00:00:00Z",
                    **changes.get(key_id.replace("-", "_"), {}),
                }
            )
        entry = {"code": self.code, "name": self.name, "keys": keys}
        asked = {"suite": self.second_suite, "from": self.second_since}
        return entry | {"second_suite": asked} if self.second_suite else entry

    def certificate(self, **changes: Any) -> Certificate:
        return Certificate(
            **{
                "issuer": self.code,
                "kind": "marriage",
                "number": "330483-2026-000123",
                "facts": {
                    "name": "錢偉明",
                    "id_number": "330425********1234",
                    "marital_status": "married",
                    "other_name": "王芳",
                    "event_date": "1987-05-01",
                    "place": "桐乡市梧桐镇",
                    "archival_code": "0012-001-0034-005",
                },
                "issued_at": NOW - timedelta(days=1),
                "expires_at": NOW + timedelta(days=90),
                "digest": "ab" * 32,
                **changes,
            }
        )

    def credential(
        self, holder: PrivateKey, *, index: int = 7, reuse: Reuse | None = None, **changes: Any
    ) -> SdJwt:
        return issue(
            self.certificate(**({"reuse": reuse} if reuse else {}), **changes),
            key=self.keys["credential-1"],
            key_id="credential-1",
            holder=suite("intl-1").jwk(holder.public),
            status=StatusReference(self.status_uri, index),
            second=self.second("credential"),
        )

    def qr(self, *, index: int = 7, **changes: Any) -> str:
        return build(
            self.certificate(**changes),
            key=self.keys["credential-1"],
            key_id="credential-1",
            status=StatusReference(self.status_uri, index),
            second=self.second("credential"),
        )

    def status_token(
        self,
        states: dict[int, State] | None = None,
        *,
        at: datetime = NOW,
        cwt: bool = False,
        size: int = 1_000,
        **other: Any,
    ) -> str | bytes:
        """As JWT, as CWT, or as a CWT signed twice where the archive has two suites."""
        entries = StatusList(size)
        for index, state in (states or {}).items():
            entries.set(index, state)
        fields = {"uri": self.status_uri, "key": self.keys["status-1"], "key_id": "status-1", "at": at}
        if cwt or self.second_suite:
            return sign_cwt(entries, **fields | {"second": self.second("status")} | other)
        return sign_jwt(entries, **fields | other)


def trust_json(*entries: dict[str, Any], **other: Any) -> bytes:
    tree = {
        "version": 1,
        "federation": "lantai",
        "epoch": 1,
        "issued_at": "2026-11-01T00:00:00Z",
        "archives": list(entries),
        **other,
    }
    return json.dumps(tree, ensure_ascii=False).encode()


def trust_of(*entries: dict[str, Any], **other: Any) -> TrustList:
    return TrustList.load(trust_json(*entries, **other))


def statuses(trust: TrustList, *tokens: str | bytes, **other: Any) -> StatusLists:
    """Lists at hand, at NOW whatever this machine's clock says."""
    return StatusLists(trust, tokens, **{"clock": lambda: NOW} | other)
