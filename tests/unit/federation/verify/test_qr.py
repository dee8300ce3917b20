"""The QR code on paper, the status lists behind it, and readers that are not ours."""

import zlib
from datetime import timedelta
from typing import Any

import cbor2
import pytest

from federation.credential import base45, cbor, cose, qr, status_list
from federation.credential.status_list import Allocation, StatusList, sign_jwt
from federation.suites.base import PrivateKey
from federation.suites.encoding import b64u
from federation.suites.registry import suite
from federation.verify.qr import CHECKS, check_qr
from federation.verify.report import Report, Verdict, VerifyError
from federation.verify.status import State, StatusReference
from federation.verify.status_lists import ForgottenError
from tests.fakes.issuing import NOW, Archive, statuses, trust_of
from tests.fakes.timing import is_held_up

INTL = suite("intl-1")
ARCHIVE, OTHER = Archive(), Archive("330400", "嘉兴市档案馆")
TRUST = trust_of(ARCHIVE.entry(), OTHER.entry())
STATES = {9: State.REVOKED, 10: State.REPLACED}
STATUS = statuses(TRUST, ARCHIVE.status_token(STATES, successors={10: "330483-2026-000200"}))


def check(text: str, **other: Any) -> Report:
    asked = {"trust": TRUST, "status": STATUS, "at": NOW} | other
    return check_qr(text, asked["trust"], asked["status"], asked["at"])


def reason(call: Any) -> str:
    with pytest.raises(VerifyError) as caught:
        call()
    return caught.value.reason.value


def resigned(
    key: PrivateKey = ARCHIVE.keys["credential-1"],
    key_id: str = "credential-1",
    typ: str | None = None,
    **changes: Any,
) -> str:
    """The same claims with some changed, truly signed again."""
    claims = dict(qr.parse(ARCHIVE.qr()).claims)
    for name, value in changes.items():
        target, number = (claims[qr.LANTAI], int(name[1:])) if name[0] == "L" else (claims, int(name[1:]))
        target.pop(number, None)
        if value is not None:
            target[number] = value
    return qr.PREFIX + base45.encode(cose.sign(cbor.dumps(claims), key=key, key_id=key_id, typ=typ))


def test_a_full_certificate_fits_a_code_a_phone_reads_from_paper() -> None:
    import segno

    text = ARCHIVE.qr()
    assert len(qr.parse(text).message.payload) <= 260
    code = segno.make(text, error="m", boost_error=False)
    assert code.mode == "alphanumeric"
    assert code.version <= 14  # 73 modules: 0.6 mm each on 45 mm
    report = check(text)
    assert report.verdict is Verdict.VALID
    assert (report.number, report.issuer, report.valid_as_of) == ("330483-2026-000123", "330483", NOW)
    assert report.facts["facts"] == dict(ARCHIVE.certificate().facts)
    assert report.facts["digest"] == "ab" * 32


def test_a_reader_that_is_not_ours_reads_the_code_back() -> None:
    zxing = pytest.importorskip("zxingcpp")
    import io

    import segno
    from PIL import Image

    text = ARCHIVE.qr()
    picture = io.BytesIO()
    segno.make(text, error="m").save(picture, kind="png", scale=4)
    picture.seek(0)
    read = zxing.read_barcodes(Image.open(picture))
    assert [one.text for one in read] == [text]
    assert check(read[0].text).verdict is Verdict.VALID


def test_check_numbers_are_those_of_the_explanation() -> None:
    import federation.verify.qr as module

    for number, name in enumerate(CHECKS, 1):
        assert f"{number}. {name.replace('_', ' ')}:" in module.__doc__


WRONG: dict[str, tuple[Any, str]] = {
    "altered": (lambda: ARCHIVE.qr()[:-9] + ARCHIVE.qr()[-9:], "altered"),
    "signed by a stranger": (lambda: resigned(INTL.generate("ES256")), "altered"),
    "another archive's key": (lambda: resigned(OTHER.keys["credential-1"]), "altered"),
    "in another archive's name": (lambda: resigned(c1="330400"), "altered"),
    "an archive nobody knows": (lambda: resigned(c1="330499"), "wrong_issuer"),
    "a key for status lists": (lambda: resigned(ARCHIVE.keys["status-1"], "status-1"), "wrong_usage"),
    "an unknown key": (lambda: resigned(key_id="x"), "unknown_key"),
    "another algorithm": (lambda: resigned(INTL.generate("Ed25519")), "wrong_algorithm"),
    "another type of token": (lambda: resigned(typ="application/statuslist+cwt"), "wrong_type"),
    "expired": (lambda: ARCHIVE.qr(expires_at=NOW), "expired"),
    "not yet valid": (lambda: ARCHIVE.qr(issued_at=NOW + timedelta(hours=1)), "not_yet_valid"),
    "signed before its key": (lambda: resigned(c6=0), "key_not_yet_valid"),
    "signed after its key": (lambda: resigned(c6=4_000_000_000), "key_expired"),
    "time out of the calendar": (lambda: resigned(c6=2**62), "malformed"),
    "revoked": (lambda: ARCHIVE.qr(index=9), "revoked"),
    "replaced": (lambda: ARCHIVE.qr(index=10), "replaced"),
    "past the list": (lambda: ARCHIVE.qr(index=10**6), "wrong_status_list"),
    "no number": (lambda: resigned(L1=None), "malformed"),
    "no status": (lambda: resigned(L4=None), "malformed"),
    "odd status": (lambda: resigned(L4=[-1, "x"]), "malformed"),
    "odd digest": (lambda: resigned(L3=b"short"), "malformed"),
    "something more": (lambda: resigned(L9=1), "malformed"),
    "a claim more": (lambda: resigned(c7=b"x"), "malformed"),
    "no issuer": (lambda: resigned(c1=None), "missing_claim"),
    "a fact twice": (lambda: resigned(L2={0: "甲", "name": "乙"}), "malformed"),
    "lower case": (lambda: ARCHIVE.qr().lower(), "wrong_type"),
    "no prefix": (lambda: ARCHIVE.qr()[4:], "wrong_type"),
    "nothing": (lambda: "AC1:", "malformed"),
    "no base45": (lambda: "AC1:" + ":" * 99, "malformed"),
    "too long": (lambda: "AC1:" + "0" * 5_000, "too_large"),
    "another tag": (lambda: "AC1:" + base45.encode(cbor2.dumps(cbor2.CBORTag(98, [b"", {}, b"", b""]))), "wrong_type"),
    "no tag": (lambda: "AC1:" + base45.encode(cbor2.dumps([b"", {}, b"", b""])), "wrong_type"),
    "not canonical": (lambda: "AC1:" + base45.encode(b"\xd2\x98\x04" + base45.decode(ARCHIVE.qr()[4:])[2:]), "not_canonical"),
    "an unprotected header more": (lambda: "AC1:" + base45.encode(_with_unprotected({99: 1})), "malformed"),
}  # fmt: skip


def _with_unprotected(header: dict[int, Any]) -> bytes:
    parts = cbor2.loads(base45.decode(ARCHIVE.qr()[4:])).value
    return cbor2.dumps(cbor2.CBORTag(18, [parts[0], header, *parts[2:]]), canonical=True)


@pytest.mark.parametrize("name", [name for name in WRONG if name != "altered"])
def test_each_wrong_code_has_its_own_answer(name: str) -> None:
    make, named = WRONG[name]
    report = check(make())
    assert report.verdict is Verdict.INVALID
    assert report.reasons == (named,), report.as_json()


def test_every_character_of_the_code_is_protected() -> None:
    text = ARCHIVE.qr()
    for at in range(4, len(text)):
        other = base45.ALPHABET[(base45.ALPHABET.index(text[at]) + 1) % 45]
        assert check(text[:at] + other + text[at + 1 :]).verdict is Verdict.INVALID


# --- status lists ---


@pytest.mark.parametrize("cwt", [False, True])
def test_a_list_speaks_for_its_issuer_while_it_is_fresh(cwt: bool) -> None:
    lists = statuses(TRUST, ARCHIVE.status_token(STATES, cwt=cwt, successors={10: "no 2"}))
    reference = StatusReference(ARCHIVE.status_uri, 7)
    standing = lists.standing("330483", reference, NOW + timedelta(hours=23))
    assert (standing.state, standing.as_of, standing.successor) == (State.VALID, NOW, None)
    assert lists.standing("330483", StatusReference(ARCHIVE.status_uri, 10), NOW).successor == "no 2"
    assert reason(lambda: lists.standing("330400", reference, NOW)) == "status_unknown"
    assert reason(lambda: lists.standing("330483", StatusReference("elsewhere", 7), NOW)) == "status_unknown"
    assert reason(lambda: lists.standing("330483", reference, NOW + timedelta(hours=24))) == "status_too_old"


def test_the_verifier_does_not_believe_a_list_for_longer_than_its_own_policy() -> None:
    lists = statuses(TRUST, ARCHIVE.status_token(lifetime=timedelta(days=3_650)))
    late = NOW + timedelta(hours=25)
    assert (
        reason(lambda: lists.standing("330483", StatusReference(ARCHIVE.status_uri, 7), late))
        == "status_too_old"
    )
    patient = statuses(TRUST, ARCHIVE.status_token(lifetime=timedelta(days=3_650)), oldest=timedelta(days=7))
    assert patient.standing("330483", StatusReference(ARCHIVE.status_uri, 7), late).state is State.VALID


def test_the_newer_list_counts_whatever_order_they_come_in() -> None:
    old = ARCHIVE.status_token(at=NOW - timedelta(hours=1))
    new = ARCHIVE.status_token({7: State.REVOKED})
    for tokens in ([old, new], [new, old]):
        lists = statuses(TRUST, *tokens)
        assert lists.standing("330483", StatusReference(ARCHIVE.status_uri, 7), NOW).state is State.REVOKED


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_list_that_forgot_a_revocation_takes_the_place_of_none(bits: int) -> None:
    """As an archive signs it that was restored from a backup: its word of now would make valid what it had revoked."""

    def token(states: dict[int, State], minutes: int, size: int = 1_000) -> str:
        entries = StatusList(size, bits)
        for index, state in states.items():
            entries.set(index, state)
        at = NOW - timedelta(minutes=minutes)
        key = ARCHIVE.keys["status-1"]
        return sign_jwt(entries, uri=ARCHIVE.status_uri, key=key, key_id="status-1", at=at)

    ended = State.REVOKED if bits == 1 else State.REPLACED
    old = token({7: State.REVOKED, 8: ended}, 60)
    for forgetful in (token({7: State.REVOKED}, 5), token({}, 5), token({7: State.REVOKED}, 5, 8)):
        for first, second in ((old, forgetful), (forgetful, old)):
            lists = statuses(TRUST, first)
            with pytest.raises(ForgottenError) as forgotten:
                lists.add(second)
            assert forgotten.value.reason == "wrong_status_list"
            for index, state in ((7, State.REVOKED), (8, ended), (9, State.VALID)):
                standing = lists.standing("330483", StatusReference(ARCHIVE.status_uri, index), NOW)
                assert (standing.state, standing.as_of) == (state, NOW - timedelta(hours=1))
            assert lists.add(token({7: State.REVOKED, 8: State.REVOKED, 9: State.REVOKED}, 1))
            assert (
                lists.standing("330483", StatusReference(ARCHIVE.status_uri, 9), NOW).state is State.REVOKED
            )


def test_a_suspension_may_end() -> None:
    lists = statuses(TRUST, ARCHIVE.status_token({7: State.SUSPENDED}, at=NOW - timedelta(hours=1)))
    assert lists.add(ARCHIVE.status_token())
    assert lists.standing("330483", StatusReference(ARCHIVE.status_uri, 7), NOW).state is State.VALID


def test_lists_of_others_are_refused_by_name() -> None:
    lists = statuses(TRUST)
    stranger = Archive("330499")
    assert reason(lambda: lists.add(stranger.status_token())) == "altered"
    assert reason(lambda: lists.add(ARCHIVE.status_token(key_id="status-9"))) == "unknown_key"
    assert (
        reason(
            lambda: lists.add(ARCHIVE.status_token(key=ARCHIVE.keys["credential-1"], key_id="credential-1"))
        )
        == "unknown_key"
    )
    assert (
        reason(lambda: lists.add(ARCHIVE.status_token(at=NOW - timedelta(days=3_000)))) == "key_not_yet_valid"
    )
    others = OTHER.status_token(uri=ARCHIVE.status_uri)
    for at_the_door in (
        lambda: lists.add(others, issuer="330483"),
        lambda: lists.check_signer(others, "330483"),
    ):
        assert reason(at_the_door) == "wrong_status_list"
    assert reason(lambda: lists.add(ARCHIVE.qr())) == "malformed"
    assert reason(lambda: lists.add(base45.decode(ARCHIVE.qr()[4:]))) == "wrong_type"


def test_a_list_of_another_archive_for_the_same_address_spoils_nothing() -> None:
    ours = ARCHIVE.status_token({9: State.REVOKED})
    theirs = OTHER.status_token({7: State.REVOKED}, uri=ARCHIVE.status_uri, at=NOW + timedelta(minutes=1))
    for tokens in ([ours, theirs], [theirs, ours]):
        lists = statuses(TRUST, *tokens)
        assert lists.standing("330483", StatusReference(ARCHIVE.status_uri, 7), NOW).state is State.VALID
        assert lists.standing("330483", StatusReference(ARCHIVE.status_uri, 9), NOW).state is State.REVOKED
    alone = statuses(TRUST, theirs)  # of an archive whose own list did not come: nobody can tell
    assert check(ARCHIVE.qr(), status=alone).verdict is Verdict.UNKNOWN


def test_a_list_dated_in_the_future_is_refused_and_puts_off_none_that_comes_later() -> None:
    lists = statuses(TRUST)
    for future in (timedelta(minutes=5, seconds=1), timedelta(days=300)):
        token = ARCHIVE.status_token(at=NOW + future)
        for at_the_door in (
            lambda token=token: lists.add(token),
            lambda token=token: lists.check_signer(token, "330483"),
        ):
            assert reason(at_the_door) == "not_yet_valid"
    lists.add(ARCHIVE.status_token())
    assert check(ARCHIVE.qr(), status=lists).verdict is Verdict.VALID
    ahead = NOW + timedelta(minutes=5)  # a clock that goes a little before ours
    lists.add(ARCHIVE.status_token({7: State.REVOKED}, at=ahead))
    assert check(ARCHIVE.qr(), status=lists).reasons == ("revoked",)


def bomb(size: int) -> bytes:
    """A zlib stream of `size` zero bytes: one flushed block of a megabyte, repeated."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = squeezer.compress(bytes(1 << 20)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + block * (size >> 20)


def test_a_list_that_would_inflate_to_a_gigabyte_is_bounded() -> None:
    import resource

    compressed = bomb(1 << 30)
    assert len(compressed) < 2 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def refused() -> None:
        assert reason(lambda: StatusList.inflate(compressed, 2)) == "too_large"

    assert not is_held_up(refused, 0.2)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KB


@pytest.mark.parametrize(
    ("lst", "bits", "named"),
    [
        (b"no zlib", 2, "malformed"),
        (zlib.compress(bytes(10))[:-1], 2, "malformed"),
        (zlib.compress(bytes(10)) + b"more", 2, "malformed"),
        (zlib.compress(bytes(10)), 3, "malformed"),
        (b"", 2, "malformed"),
    ],
)
def test_odd_lists_are_refused(lst: bytes, bits: int, named: str) -> None:
    assert reason(lambda: StatusList.inflate(lst, bits)) == named


@pytest.mark.parametrize(
    "payload",
    [
        {"sub": "x", "iat": 1, "exp": 2, "status_list": {"bits": 2, "lst": 5}},
        {"sub": "x", "iat": 1, "exp": 2, "status_list": {"bits": 2}},
        {"sub": "x", "iat": 1, "exp": 2, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}, "successors": [1]},
        {"sub": "x", "iat": 1, "exp": 2, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}, "successors": {"a": "b"}},
        {"sub": 1, "iat": 1, "exp": 2, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}},
        {"sub": "x", "exp": 2, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}},
        {"sub": "x", "iat": 1, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}},
        {"sub": "x", "iat": "1", "exp": 2, "status_list": {"bits": 2, "lst": "eNo76fITAAPfAgc"}},
    ],
)  # fmt: skip
def test_odd_list_tokens_are_refused(payload: dict[str, Any]) -> None:
    from federation.credential import jws

    token = jws.sign(
        {"typ": status_list.JWT_TYPE, "kid": "k"}, jws.compact_json(payload), ARCHIVE.keys["status-1"]
    )
    assert reason(lambda: status_list.parse(token)) in {"malformed", "missing_claim"}


def test_indexes_are_random_and_taken_once() -> None:
    allocation = Allocation(1_000)
    taken = [allocation.take() for _ in range(500)]
    assert len(set(taken)) == 500
    assert sorted(taken) != taken
    again = Allocation(1_000, allocation.data())
    assert not {again.take() for _ in range(300)} & set(taken)
    with pytest.raises(IndexError):
        [again.take() for _ in range(1_000)]
    assert b64u(allocation.data()) != b64u(again.data())


def test_a_million_entries_stay_small() -> None:
    entries = StatusList(1_000_000)
    for index in range(0, 1_000_000, 100):
        entries.set((index * 7_919) % 1_000_000, State.REVOKED)
    assert len(entries.compressed()) < 60_000
    token = ARCHIVE.status_token(size=1_000_000)
    assert status_list.parse(token).entries()[999_999] == 0
