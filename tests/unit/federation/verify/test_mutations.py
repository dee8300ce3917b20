"""Ten thousand damaged documents: none accepted, none crashing the verifier, none holding it up."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from federation.credential.certificate import present
from federation.sealing import open_package, open_sealed, seal
from federation.suites.registry import suite
from federation.tlog.checkpoint import Checkpoint, open_checkpoint
from federation.tlog.flaws import EvidenceError
from federation.tlog.merkle import leaf_hash
from federation.tlog.note import Note, SecondSigner, signed_note
from federation.verify.challenge import Challenge
from federation.verify.documents import verify
from federation.verify.report import Report, Verdict, VerifyError
from tests.fakes.issuing import NOW, Archive, statuses, trust_of
from tests.fakes.timing import is_held_up
from tests.fakes.tlog import LOG
from tests.unit.federation.test_sealing import ARCHIVE as SENDER
from tests.unit.federation.test_sealing import TRUST as SENDERS
from tests.unit.federation.test_sealing import WINDOW, binding, packed

ARCHIVE, HOLDER = Archive(), suite("intl-1").generate("ES256")
TRUST = trust_of(ARCHIVE.entry())
STATUS = statuses(TRUST, ARCHIVE.status_token())
CHECKPOINT = Checkpoint(LOG.name, 5, leaf_hash(b"root"))
MOST_CPU_S = 0.2
EACH = 2_500


def mutated(data: bytes, random: Random) -> bytes:
    """One accident or attack: a bit, a byte, a swap, a cut, a repeat, a foreign run."""
    at, length = random.randrange(len(data)), random.randrange(1, 40)
    match random.randrange(8):
        case 0 | 1 | 2:
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 3:
            return data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        case 4:
            return data[:at] + data[at + length :]
        case 5:
            return data[:at] + data[at : at + length] + data[at:]
        case 6:
            return (
                data[:at]
                + random.choice((b"~", b".", b'"', b"A" * 30, b"\x00", b"\xff" * 9, b"{}"))
                + data[at:]
            )
        case _:
            other = random.randrange(len(data))
            low, high = sorted((at, other))
            return (
                data[:low]
                + data[high : high + 1]
                + data[low + 1 : high]
                + data[low : low + 1]
                + data[high + 1 :]
            )


def assert_refused(accepts: Callable[[bytes], bool], damaged: bytes) -> None:
    assert not accepts(damaged), damaged


def assert_none_passes(original: bytes, accepts: Callable[[bytes], bool], seed: int) -> None:
    assert accepts(original), "the undamaged document must pass, or nothing is proved"
    random = Random(seed)
    for _ in range(EACH):
        damaged = mutated(original, random)
        if damaged.strip(b"\r\n\t") == original.strip(b"\r\n\t"):
            continue
        assert not is_held_up(partial(assert_refused, accepts, damaged), MOST_CPU_S), damaged


def judged(report: Report) -> bool:
    assert "internal" not in report.reasons
    return report.verdict is not Verdict.INVALID


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        "qr", "dual qr", "presentation", "flattened", "dual flattened", "status jwt", "status cwt", "dual status", "package",
        "dual package", "dual checkpoint",
    ],
)  # fmt: skip
def test_no_damaged_document_passes(kind: str) -> None:
    dual = Archive("330400", "嘉兴市档案馆", second_suite="sm-1")
    dual_trust = trust_of(dual.entry())
    challenge = None if kind in {"qr", "dual qr"} else Challenge("agency", "n")  # paper answers none

    def door(data: bytes, trust: Any = TRUST, status: Any = STATUS) -> bool:
        return judged(verify(data, trust, status, NOW, challenge=challenge))

    def list_at_hand(data: bytes | str, trust: Any = TRUST) -> bool:
        try:
            statuses(trust, data)
        except VerifyError:
            return False
        return True

    def jwt_at_hand(data: bytes) -> bool:
        return list_at_hand(data.decode("latin-1"))

    def unsealed(data: bytes) -> bool:
        try:
            open_sealed(data, WINDOW, binding(), SENDERS)
        except VerifyError:
            return False
        return True

    dual_status = statuses(dual_trust, dual.status_token())

    def dual_door(data: bytes) -> bool:
        return door(data, dual_trust, dual_status)

    def opened(data: bytes) -> bool:
        try:
            open_package(data, binding(issuer=dual.code), dual_trust, at=NOW)
        except VerifyError:
            return False
        return True

    def checkpoint(data: bytes) -> bool:
        """Whether both signatures of the log hold, and the checkpoint is read as it was written."""
        try:
            return open_checkpoint(Note.parse(data), LOG.key, second=[log_sm.key]) == CHECKPOINT
        except EvidenceError:
            return False

    shown = present(
        ARCHIVE.credential(HOLDER), show=["marital_status"], holder_key=HOLDER, audience="agency", nonce="n", at=NOW
    )  # fmt: skip
    dual_shown = present(
        dual.credential(HOLDER), show=["marital_status"], holder_key=HOLDER, audience="agency", nonce="n", at=NOW
    )  # fmt: skip
    log_sm = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))
    token = ARCHIVE.status_token()
    assert isinstance(token, str)
    original, accepts = {
        "qr": (ARCHIVE.qr().encode(), door),
        "dual qr": (dual.qr().encode(), dual_door),
        "presentation": (shown.compact().encode(), door),
        "flattened": (shown.flattened().encode(), door),
        "status jwt": (token.encode(), jwt_at_hand),
        "status cwt": (ARCHIVE.status_token(cwt=True), list_at_hand),
        "dual flattened": (dual_shown.flattened().encode(), dual_door),
        "dual status": (dual.status_token(), lambda data: list_at_hand(data, dual_trust)),
        "dual package": (packed(binding(issuer=dual.code), dual), opened),
        "dual checkpoint": (str(signed_note(CHECKPOINT.text(), LOG, log_sm)).encode(), checkpoint),
        "package": (seal(packed(archive=SENDER), binding(), WINDOW.public), unsealed),
    }[kind]
    assert_none_passes(original, accepts, seed=len(kind))
