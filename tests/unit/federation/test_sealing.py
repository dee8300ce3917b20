"""Sealed packages: only the right answer opens, for the right window, to the right request."""

from dataclasses import replace
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

import pytest

from federation.sealing import (
    Binding,
    Part,
    open_package,
    open_sealed,
    pack,
    recipient_key,
    recipient_name,
    seal,
)
from federation.suites.base import PrivateKey
from federation.suites.registry import suite
from federation.verify.report import VerifyError
from tests.fakes.issuing import NOW, Archive, trust_of

INTL, SM = suite("intl-1"), suite("sm-1")
ARCHIVE, OTHER = Archive(), Archive("330400", "嘉兴市档案馆")
TRUST = trust_of(ARCHIVE.entry(), OTHER.entry())
WINDOW = INTL.generate(INTL.sealing)
PARTS = (
    Part("certificate.pdf", "application/pdf", b"%PDF-2.0 ..."),
    Part("credential.txt", "application/dc+sd-jwt", b"a.b.c~"),
    Part("001.jpg", "image/jpeg", bytes(range(256)) * 20),
)


def binding(number: int = 1, window: PrivateKey = WINDOW, issuer: str = "330483") -> Binding:
    return Binding(
        issuer, f"req-{number}", sha256(f"request {number}".encode()).digest(), recipient_name(window.public)
    )


def packed(
    bound: Binding | None = None, archive: Archive = ARCHIVE, parts: tuple[Part, ...] = PARTS
) -> bytes:
    return pack(
        parts,
        bound or binding(),
        key=archive.keys["delivery-1"],
        key_id="delivery-1",
        at=NOW,
        second=archive.second("delivery"),
    )


def reason(call: Any) -> str:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value


def test_a_package_arrives_whole_and_unread() -> None:
    sealed = seal(packed(), binding(), WINDOW.public)
    assert len(sealed) == len(packed()) + 48
    for part in PARTS:
        assert part.content[:12] not in sealed
        assert part.name.encode() not in sealed
    opened = open_sealed(sealed, WINDOW, binding(), TRUST, at=NOW)
    assert opened.parts == PARTS
    assert opened["001.jpg"].media_type == "image/jpeg"
    assert opened.issued_at == NOW


@pytest.mark.parametrize("own_keys", [True, False])
def test_no_two_answers_of_a_hundred_can_be_swapped(own_keys: bool) -> None:
    """Also where a window uses one key for all its requests, and where the plain package is delivered instead."""
    windows = [INTL.generate(INTL.sealing) if own_keys else WINDOW for _ in range(100)]
    bindings = [binding(number, windows[number]) for number in range(100)]
    packages = [packed(bound) for bound in bindings]
    sealed = [
        seal(package, bound, windows[number].public)
        for number, (package, bound) in enumerate(zip(packages, bindings, strict=True))
    ]
    assert all(
        open_sealed(one, windows[n], bindings[n], TRUST).parts == PARTS for n, one in enumerate(sealed)
    )
    random = Random(8)
    for _ in range(600):
        mine, others = random.sample(range(100), 2)
        ask = partial(open_sealed, key=windows[mine], expected=bindings[mine], trust=TRUST)
        assert reason(partial(ask, sealed[others])) == "cannot_open"
        plain = partial(open_package, packages[others], bindings[mine], TRUST)
        assert reason(plain) in {"wrong_request", "wrong_recipient"}
        # a malicious carrier that could open and seal again still lacks the archive's signature
        again = INTL.seal(windows[mine].public, packages[others], bindings[mine].info())
        assert reason(partial(ask, again)) in {"wrong_request", "wrong_recipient"}


def test_the_answer_to_one_window_is_not_for_another() -> None:
    """The same request, the same archive, another key: only the recipient tells them apart."""
    other = INTL.generate(INTL.sealing)
    assert reason(lambda: open_package(packed(binding(1, other)), binding(1), TRUST)) == "wrong_recipient"


def test_another_archive_can_not_answer_for_the_holder() -> None:
    bound = binding()
    forged = pack(PARTS, bound, key=OTHER.keys["delivery-1"], key_id="delivery-1", at=NOW)
    assert reason(lambda: open_package(forged, bound, TRUST)) == "altered"
    own_name = packed(replace(bound, issuer="330400"), OTHER)
    assert reason(lambda: open_package(own_name, bound, TRUST)) == "wrong_issuer"
    assert (
        reason(
            lambda: open_package(
                pack(PARTS, bound, key=ARCHIVE.keys["credential-1"], key_id="credential-1", at=NOW),
                bound,
                TRUST,
            )
        )
        == "wrong_usage"
    )


def test_every_altered_byte_is_noticed() -> None:
    package, sealed = packed(), seal(packed(), binding(), WINDOW.public)
    for at in range(0, len(package), 37):
        wrong = bytearray(package)
        wrong[at] ^= 1
        assert reason(lambda wrong=wrong: open_package(bytes(wrong), binding(), TRUST))
    for at in range(0, len(sealed), 97):
        wrong = bytearray(sealed)
        wrong[at] ^= 1
        assert (
            reason(lambda wrong=wrong: open_sealed(bytes(wrong), WINDOW, binding(), TRUST)) == "cannot_open"
        )
    wrong = bytearray(package)
    wrong[-1] ^= 1
    assert reason(lambda: open_package(bytes(wrong), binding(), TRUST)) == "attachment_mismatch"
    assert reason(lambda: open_package(package + b"x", binding(), TRUST)) == "attachment_mismatch"
    for cut in (0, 3, 7, 8, 50, len(package) - 1):
        assert reason(lambda cut=cut: open_package(package[:cut], binding(), TRUST))


def test_packages_of_another_shape_are_refused() -> None:
    for data in (
        b"",
        b"LTP1",
        b"LTP1\xff\xff\xff\xff" + bytes(10),
        b"PK\x03\x04" + bytes(100),
        b"LTP1\x00\x00\x00\x01\x00",
    ):
        assert reason(lambda data=data: open_package(data, binding(), TRUST)) in {"malformed", "wrong_type"}
    with pytest.raises(ValueError, match="different names"):
        packed(parts=(PARTS[0], PARTS[0]))
    with pytest.raises(ValueError, match="different names"):
        packed(parts=())
    with pytest.raises(ValueError, match="another recipient"):
        seal(packed(), binding(), INTL.generate(INTL.sealing).public)


def test_the_suite_is_the_rosters_not_the_callers() -> None:
    sm_key = SM.generate(SM.sealing)
    assert recipient_key(SM.jwk(sm_key.public), "sm-1").alg == SM.sealing
    assert reason(lambda: recipient_key(SM.jwk(sm_key.public), "intl-1")) == "wrong_suite"
    assert reason(lambda: recipient_key(INTL.jwk(WINDOW.public), "sm-1")) == "wrong_suite"
    assert reason(lambda: recipient_key(INTL.jwk(INTL.generate("ES256").public), "intl-1")) == "wrong_suite"


def test_the_national_suite_seals_and_signs_beside() -> None:
    archive = Archive("330402", "南湖区档案馆", second_suite="sm-1")
    trust = trust_of(archive.entry())
    key = SM.generate(SM.sealing)
    bound = binding(1, key, "330402")
    sealed = seal(packed(bound, archive), bound, key.public)
    assert open_sealed(sealed, key, bound, trust).parts == PARTS
    without = pack(PARTS, bound, key=archive.keys["delivery-1"], key_id="delivery-1", at=NOW)
    assert reason(lambda: open_package(without, bound, trust)) == "second_signature_missing"
