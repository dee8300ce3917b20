"""Credentials, QR codes, status lists and sealed packages: CPU time of one core, against the bare signature inside.

The floor is what no implementation can leave out: the ES256 signatures of the same run. Peers are openvc-core for
presentations, pyhpke for sealing and GmSSL (gmssl-pyx) for SM2; all are development dependencies only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random
from statistics import median
from typing import Any

from federation import sealing
from federation.credential import qr
from federation.credential.certificate import Certificate, issue, present
from federation.credential.status_list import StatusList, sign_cwt, sign_jwt
from federation.suites.base import PrivateKey
from federation.suites.registry import suite
from federation.trust import SecondSuite, TrustList, Use, key_entry
from federation.verify.challenge import Challenge
from federation.verify.documents import verify
from federation.verify.report import Verdict
from federation.verify.status import State, StatusReference
from federation.verify.status_lists import StatusLists
from loadtest.bench import Figure, Scale

_ISSUER, _LIST = "330483", "https://lantai.example/status/330483/1"
_AGENCY, _NONCE = "https://counter.example", "7f2b9d1c"
_INTL = suite("intl-1")
Second = tuple[PrivateKey, str] | None


@dataclass(frozen=True)
class _Scene:
    """One archive, one holder, one certificate of ten claims, and the lists a verifier has."""

    keys: dict[str, PrivateKey]
    holder: PrivateKey
    certificate: Certificate
    trust: TrustList
    now: datetime

    def issue(self, second: Second = None) -> Any:
        return issue(
            self.certificate, key=self.keys["credential"], key_id="credential",
            holder=_INTL.jwk(self.holder.public), status=StatusReference(_LIST, 7), second=second,
        )  # fmt: skip

    def qr(self, second: Second = None) -> str:
        return qr.build(
            self.certificate,
            key=self.keys["credential"],
            key_id="credential",
            status=StatusReference(_LIST, 7),
            second=second,
        )

    def present(self, credential: Any) -> str:
        return present(
            credential, show=["marital_status"], holder_key=self.holder, audience=_AGENCY, nonce=_NONCE, at=self.now
        ).compact()  # fmt: skip


def run(scale: Scale) -> Iterator[Figure]:
    """Issue, show, read back, look up, seal and open."""
    rounds = 100 if scale.quick else 400
    scene = _scene()
    entries = 100_000 if scale.quick else 1_000_000
    lists = StatusLists(scene.trust, [_list(scene, entries, 0.01, sign_jwt)])
    key = scene.keys["credential"]
    message = bytes(2_048)
    signature = _INTL.sign(key, message)
    floor_sign = _cpu(lambda: _INTL.sign(key, message), rounds)
    floor_verify = _cpu(lambda: _INTL.verify(key.public, message, signature), rounds)
    yield Figure("floor: ES256 sign", floor_sign * 1e6, "µs")
    yield Figure("floor: ES256 verify", floor_verify * 1e6, "µs")

    credential, text = scene.issue(), scene.qr()
    shown = scene.present(credential)
    challenge = Challenge(_AGENCY, _NONCE)

    def check(document: str) -> None:
        report = verify(document.encode(), scene.trust, lists, scene.now, challenge=challenge)
        assert report.verdict is Verdict.VALID, report.reasons

    jobs: list[tuple[str, Callable[[], object], float, str]] = [
        ("issue a credential of ten claims", scene.issue, floor_sign, f"{len(credential.compact()):,} B"),
        ("present one claim", lambda: scene.present(credential), floor_sign, f"{len(shown):,} B"),
        ("build a QR text", scene.qr, floor_sign, f"{len(qr.parse(text).message.payload)} B signed, {len(text)} characters"),
        ("verify a QR text, 7 checks", lambda: check(text), floor_verify, ""),
        ("verify a presentation, 11 checks", lambda: check(shown), 2 * floor_verify, "two signatures"),
    ]  # fmt: skip
    slowest = 0.0
    for name, work, floor, note in jobs:
        took = _cpu(work, rounds)
        slowest = max(slowest, took) if name.startswith("verify") else slowest
        yield Figure(
            f"{name}, times its floor", took / floor, "×", note=f"{took * 1e6:,.0f} µs CPU {note}".rstrip()
        )
    yield Figure("offline verification of a text, CPU", slowest * 1e3, "ms", most=50)
    yield from _against_openvc(scene, shown, check, rounds)
    yield from _status_lists(scene, entries, rounds)
    yield from _sealing(scene, rounds)
    yield from _sm2(rounds)
    yield from _signed_twice(scene, lists, rounds)


def _against_openvc(scene: _Scene, shown: str, check: Callable[[str], None], rounds: int) -> Iterator[Figure]:
    with suppress(ImportError):
        from openvc.proof.sd_jwt import SdJwtVcProofSuite

        jwk = _INTL.jwk(scene.keys["credential"].public)
        theirs = _cpu(
            lambda: SdJwtVcProofSuite().verify(
                shown,
                public_key_jwk=jwk,
                audience=_AGENCY,
                nonce=_NONCE,
                require_key_binding=True,
                now=scene.now,
            ),
            rounds,
        )
        ours = _cpu(lambda: check(shown), rounds)
        note = f"{ours * 1e6:,.0f} µs with trust list, status and report; openvc-core {theirs * 1e6:,.0f} µs without"
        yield Figure("verify a presentation, times openvc-core", theirs / ours, "×", note=note)


def _status_lists(scene: _Scene, entries: int, rounds: int) -> Iterator[Figure]:
    for share in (0.001, 0.01, 0.05):
        token = _list(scene, entries, share, sign_jwt)
        binary = _list(scene, entries, share, sign_cwt)
        note = f"as CWT {len(binary) / 1024:,.1f} KB"
        yield Figure(f"list of {entries:,}, {share:.1%} revoked, as JWT", len(token) / 1024, "KB", note=note)
    took = _cpu(lambda: StatusLists(scene.trust, [binary]), max(10, rounds // 20))
    yield Figure("take in the largest list: check and inflate", took * 1e3, "ms", most=50)
    lists = StatusLists(scene.trust, [binary])
    random = Random(3)
    reference = [StatusReference(_LIST, random.randrange(entries)) for _ in range(1_000)]
    took = _cpu(lambda: [lists.standing(_ISSUER, one, scene.now) for one in reference], 10) / len(reference)
    yield Figure("look up one certificate", took * 1e6, "µs")


def _sealing(scene: _Scene, rounds: int) -> Iterator[Figure]:
    window = _INTL.generate(_INTL.sealing)
    bound = sealing.Binding(
        _ISSUER, "req-1", sha256(b"request").digest(), sealing.recipient_name(window.public)
    )
    document = Random(1).randbytes(100_000)
    parts = [sealing.Part("certificate.pdf", "application/pdf", document)]

    def whole() -> bytes:
        package = sealing.pack(parts, bound, key=scene.keys["delivery"], key_id="delivery", at=scene.now)
        return sealing.seal(package, bound, window.public)

    sealed = whole()
    took = _cpu(whole, rounds)
    yield Figure(
        "pack, sign and seal 100 KB", took * 1e6, "µs", note=f"{len(sealed) - len(document)} B longer"
    )
    took = _cpu(lambda: sealing.open_sealed(sealed, window, bound, scene.trust), rounds)
    yield Figure("open and check 100 KB", took * 1e6, "µs")
    with suppress(ImportError):
        import pyhpke

        theirs = pyhpke.CipherSuite.new(
            pyhpke.KEMId.DHKEM_X25519_HKDF_SHA256, pyhpke.KDFId.HKDF_SHA256, pyhpke.AEADId.AES128_GCM
        )
        peer_key = pyhpke.KEMKey.from_jwk(_INTL.jwk(window.public))
        small = bytes(2_048)

        def peer() -> bytes:
            enc, sender = theirs.create_sender_context(peer_key, info=b"i")
            return bytes(enc + sender.seal(small))

        ours, others = _cpu(lambda: _INTL.seal(window.public, small, b"i"), rounds), _cpu(peer, rounds)
        note = f"{ours * 1e6:,.0f} µs against {others * 1e6:,.0f} µs"
        yield Figure("seal 2 KB, times pyhpke", others / ours, "×", least=1.0, note=note)


def _sm2(rounds: int) -> Iterator[Figure]:
    sm = suite("sm-1")
    key, message = sm.generate("SM2"), bytes(2_048)
    signature = sm.sign(key, message)
    sign, check = _cpu(lambda: sm.sign(key, message), rounds), _cpu(lambda: sm.verify(key.public, message, signature), rounds)  # fmt: skip
    with suppress(ImportError):
        import gmssl_pyx as gmssl

        public, secret = gmssl.sm2_key_generate()
        theirs = gmssl.sm2_sign(secret, public, message)
        their_sign = _cpu(lambda: gmssl.sm2_sign(secret, public, message), rounds)
        their_check = _cpu(lambda: gmssl.sm2_verify(public, message, theirs), rounds)
        note = f"{1 / sign:,.0f}/s against {1 / their_sign:,.0f}/s"
        yield Figure("SM2 sign 2 KB, times GmSSL", their_sign / sign, "×", least=1.0, note=note)
        note = f"{1 / check:,.0f}/s against {1 / their_check:,.0f}/s"
        yield Figure("SM2 verify 2 KB, times GmSSL", their_check / check, "×", least=1.0, note=note)


def _signed_twice(scene: _Scene, lists: StatusLists, rounds: int) -> Iterator[Figure]:
    """What a second signature (SM2) adds to texts: CPU and bytes, against the same signed once in the same run."""
    key = suite("sm-1").generate("SM2")
    second = key, "credential-second"
    archive = scene.trust.parties[_ISSUER]
    beside = replace(
        archive.keys["credential"], id=second[1], suite="sm-1", alg="SM2", jwk=suite("sm-1").jwk(key.public)
    )
    asked = replace(
        archive,
        keys={**archive.keys, beside.id: beside},
        second_suite=SecondSuite("sm-1", scene.now - timedelta(days=1)),
    )
    asking = replace(scene.trust, parties={_ISSUER: asked})
    text, both = scene.qr(), scene.qr(second)

    def check(text: str, trust: TrustList, verdict: Verdict) -> None:
        report = verify(text.encode(), trust, lists, scene.now)
        assert report.verdict is verdict, report.reasons

    for name, once, twice in (
        ("issue a credential signed twice", scene.issue, lambda: scene.issue(second)),
        ("build a QR text signed twice", scene.qr, lambda: scene.qr(second)),
        (
            "verify a QR text signed twice",
            lambda: check(text, scene.trust, Verdict.VALID),
            lambda: check(both, asking, Verdict.VALID),
        ),
    ):
        alone, more = _cpu(once, rounds), _cpu(twice, rounds)
        note = f"{(more - alone) * 1e6:,.0f} µs more"
        if "QR" in name:
            note += f", {len(both) - len(text)} characters more"
        yield Figure(f"{name}, times once", more / alone, "×", note=note)


def _scene() -> _Scene:
    now = datetime.now(UTC).replace(microsecond=0)
    keys = {use.value: _INTL.generate("ES256") for use in (Use.CREDENTIAL, Use.STATUS, Use.DELIVERY)}
    times = now - timedelta(days=30), now + timedelta(days=365)
    listed = [key_entry(name, Use(name), key.public, *times) for name, key in keys.items()]
    tree = {
        "version": 1, "federation": "bench", "epoch": 1, "issued_at": now.isoformat(),
        "archives": [{"code": _ISSUER, "name": "桐乡市档案馆", "keys": listed}],
    }  # fmt: skip
    certificate = Certificate(
        issuer=_ISSUER,
        kind="marriage",
        number="330483-2026-000123",
        facts={
            "name": "錢偉明", "id_number": "330425********1234", "birth_date": "1963-02-01", "other_name": "王芳",
            "event_date": "1987-05-01", "place": "桐乡市梧桐镇", "archival_code": "0012-001-0034-005",
            "marital_status": "married",
        },
        issued_at=now - timedelta(minutes=1),
        expires_at=now + timedelta(days=90),
        digest=sha256(b"claims and pages").hexdigest(),
    )  # fmt: skip
    trust = TrustList.load(json.dumps(tree).encode())
    return _Scene(keys, _INTL.generate("ES256"), certificate, trust, now)


def _list(scene: _Scene, size: int, revoked: float, sign: Callable[..., Any]) -> Any:
    entries, random = StatusList(size), Random(size)
    for _ in range(int(size * revoked)):
        entries.set(random.randrange(8, size), State.REVOKED)
    return sign(entries, uri=_LIST, key=scene.keys["status"], key_id="status", at=scene.now)


def _cpu(work: Callable[[], object], rounds: int) -> float:
    """Median CPU seconds of one call, over five batches, the first warming."""
    batches = []
    for number in range(6):
        began = time.process_time()
        for _ in range(max(1, rounds // 5)):
            work()
        if number:
            batches.append((time.process_time() - began) / max(1, rounds // 5))
    return median(batches)
