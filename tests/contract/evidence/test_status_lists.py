"""The gateway's status lists through the real edge: which form of a list is believed here, and which is passed on to whom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from federation.http.limits import RateLimit
from federation.reasons import Reason, Refusal
from federation.verify.report import VerificationReason, VerifyError
from federation.verify.status import State, StatusReference
from gateway.bodies import Bodies
from gateway.edge.verification import VerificationRoutes
from gateway.evidence.statuses import CWT, JWT, StatusKeeper
from gateway.evidence.verifying import Verifying
from tests.fakes.edge import Gateway
from tests.fakes.issuing import Archive, trust_of

DUAL = Archive("330483", second_suite="sm-1")
PLAIN = Archive("330400", "嘉兴市档案馆")
ONCE = Archive("330483")
ONCE.keys.update({name: key for name, key in DUAL.keys.items() if name.endswith("-1")})
TRUST = trust_of(DUAL.entry(), PLAIN.entry())


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Shelves:
    """What the archives would send."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.held = {
            ("330483", "status/list.cwt"): DUAL.status_token({7: State.REVOKED}, at=now()),
            ("330483", "status/list"): ONCE.status_token({7: State.REVOKED}, at=now()).encode(),
            ("330400", "status/list"): PLAIN.status_token(at=now()).encode(),
        }

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        self.asked.append((archive, name))
        if (archive, name) not in self.held:
            raise Refusal(Reason.NOT_FOUND)
        return self.held[archive, name]


@contextlib.asynccontextmanager
async def serving(shelves: Shelves):
    keeper = StatusKeeper(TRUST, shelves)
    running = asyncio.create_task(keeper.run())
    routes = VerificationRoutes(
        Verifying(TRUST, keeper.sources), keeper, RateLimit(60_000, time.monotonic), Bodies(), audience="a", trust_list=b"{}"
    )  # fmt: skip
    gateway = Gateway()
    gateway.edge._beside = routes.routes()
    try:
        async with gateway as edge, asyncio.timeout(10):
            while len(shelves.asked) < 3:
                await asyncio.sleep(0.01)
            yield edge, keeper
    finally:
        running.cancel()


async def got(edge, archive: str, accept: str = "") -> tuple[int, str, bytes]:
    headers = {"Accept": accept} if accept else {}
    async with edge.client.get(f"/v1/status-lists/{archive}", headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.read()


async def test_an_archive_of_two_suites_is_believed_by_the_form_that_bears_both():
    shelves = Shelves()
    async with serving(shelves) as (edge, keeper):
        standing = keeper.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
        assert standing.state is State.REVOKED
        both, once = shelves.held["330483", "status/list.cwt"], shelves.held["330483", "status/list"]
        assert await got(edge, "330483") == (200, CWT, both)
        assert await got(edge, "330483", CWT) == (200, CWT, both)
        assert await got(edge, "330483", JWT) == (200, JWT, once)
        for accept in ("", JWT, CWT):  # of an archive of one suite there is the JWT alone
            assert await got(edge, "330400", accept) == (200, JWT, shelves.held["330400", "status/list"])
    assert ("330400", "status/list.cwt") not in shelves.asked


async def test_a_list_that_is_not_the_archives_is_neither_believed_nor_passed_on():
    shelves = Shelves()
    shelves.held["330483", "status/list"] = Archive("330483").status_token(at=now()).encode()
    async with serving(shelves) as (edge, _keeper):
        assert (await got(edge, "330483", JWT))[1] == CWT  # the false JWT is not given out


async def test_a_list_that_another_archive_signed_is_neither_believed_nor_passed_on_as_this_ones():
    shelves = Shelves()
    true, once = shelves.held["330483", "status/list.cwt"], shelves.held["330483", "status/list"]
    theirs = {
        cwt: PLAIN.status_token({7: State.SUSPENDED}, uri=DUAL.status_uri, at=now(), cwt=cwt)
        for cwt in (True, False)
    }
    async with serving(shelves) as (edge, keeper):
        for name, token in (("status/list.cwt", theirs[True]), ("status/list", theirs[False].encode())):
            held, shelves.held["330483", name] = shelves.held["330483", name], token
            assert not await keeper._fetch("330483")
            shelves.held["330483", name] = held
        assert await got(edge, "330483") == (200, CWT, true)
        assert await got(edge, "330483", JWT) == (200, JWT, once)
        shelves.held["330400", "status/list"] = theirs[False].encode()  # its own, for another's address
        assert await keeper._fetch("330400")
        assert await keeper._fetch("330483")  # and the rightful one still comes in
        standing = keeper.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
        assert standing.state is State.REVOKED


async def test_a_list_of_the_future_does_not_stand_in_the_way_of_the_next():
    shelves = Shelves()
    shelves.held["330483", "status/list.cwt"] = DUAL.status_token(at=now() + timedelta(days=300))
    keeper = StatusKeeper(TRUST, shelves)
    assert not await keeper._fetch("330483")
    assert keeper.token("330483") is None
    shelves.held["330483", "status/list.cwt"] = DUAL.status_token({7: State.REVOKED}, at=now())
    assert await keeper._fetch("330483")
    standing = keeper.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
    assert standing.state is State.REVOKED


async def test_an_older_list_takes_the_place_of_a_newer_one_nowhere(tmp_path):
    shelves, older = Shelves(), []
    keeper = StatusKeeper(TRUST, shelves, tmp_path, older.append)
    newest = {name: shelves.held["330483", name] for name in ("status/list.cwt", "status/list")}
    assert await keeper._fetch("330483")
    assert await keeper._fetch("330483")  # the same again is not older
    assert older == []
    before = now() - timedelta(minutes=40)
    stale = {
        "status/list.cwt": DUAL.status_token(at=before),
        "status/list": ONCE.status_token(at=before).encode(),
    }
    for name, newer in newest.items():  # each form alone
        shelves.held["330483", name] = stale[name]
        assert not await keeper._fetch("330483")
        shelves.held["330483", name] = newer
    assert older == ["330483", "330483"]
    for one in (keeper, StatusKeeper(TRUST, shelves, tmp_path)):
        assert one.token("330483", CWT) == (newest["status/list.cwt"], CWT)
        assert one.token("330483", JWT) == (newest["status/list"], JWT)
        standing = one.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
        assert standing.state is State.REVOKED


@pytest.mark.parametrize("code", ["330483", "330400"])
async def test_a_newer_list_that_forgot_a_revocation_takes_its_place_nowhere(tmp_path, code):
    """An archive restored from a backup of before signs what it knows, with the date of now."""
    shelves, told = Shelves(), []
    keeper = StatusKeeper(TRUST, shelves, tmp_path, forgetful=told.append)
    archive = {"330483": DUAL, "330400": PLAIN}[code]
    before, names = now() - timedelta(minutes=5), [name for one, name in shelves.held if one == code]

    def held(states, at):
        for name in names:
            signer = ONCE if (code, name) == ("330483", "status/list") else archive
            token = signer.status_token(states, at=at)
            shelves.held[code, name] = token.encode() if isinstance(token, str) else token

    held({7: State.REVOKED, 8: State.REPLACED}, before)
    assert await keeper._fetch(code)
    remembered = dict(shelves.held)
    held({7: State.REVOKED, 9: State.REVOKED}, now())
    assert not await keeper._fetch(code)
    assert told == [code]
    for one in (keeper, StatusKeeper(TRUST, shelves, tmp_path)):
        assert one.token(code)[0] == remembered[code, names[0]]
        assert one.token(code, JWT)[0] == remembered[code, "status/list"]
        for index, state in ((7, State.REVOKED), (8, State.REPLACED), (9, State.VALID)):
            assert (
                one.sources.standing(code, StatusReference(archive.status_uri, index), now()).state is state
            )
    held({7: State.REVOKED, 8: State.REVOKED, 9: State.REVOKED}, now())  # it was revoked again
    assert await keeper._fetch(code)
    assert keeper.sources.standing(code, StatusReference(archive.status_uri, 9), now()).state is State.REVOKED
    assert told == [code]


async def test_a_revocation_in_the_second_of_the_list_before_it_is_taken():
    shelves, at = Shelves(), now()
    keeper = StatusKeeper(TRUST, shelves)
    for revoked in ({}, {7: State.REVOKED}):
        shelves.held["330400", "status/list"] = PLAIN.status_token(revoked, at=at).encode()
        assert await keeper._fetch("330400")
    standing = keeper.sources.standing("330400", StatusReference(PLAIN.status_uri, 7), at)
    assert standing.state is State.REVOKED


async def test_a_list_without_the_second_signature_is_not_believed():
    shelves = Shelves()
    shelves.held["330483", "status/list.cwt"] = ONCE.status_token(cwt=True, at=now())
    shelves.asked.append(("", ""))  # its JWT is then not asked for
    async with serving(shelves) as (edge, keeper):
        assert (await got(edge, "330483"))[0] == 404
        with pytest.raises(VerifyError) as unknown:
            keeper.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
        assert unknown.value.reason is VerificationReason.STATUS_UNKNOWN


async def test_what_an_archive_said_last_is_known_to_the_next_process_while_it_is_away(tmp_path):
    shelves = Shelves()
    keeper = StatusKeeper(TRUST, shelves, tmp_path / "lists")
    for archive in ("330483", "330400"):
        assert await keeper._fetch(archive)
    (tmp_path / "lists" / "330400.jwt").write_bytes(Archive("330400").status_token(at=now()).encode())
    shelves.held.clear()
    again = StatusKeeper(TRUST, shelves, tmp_path / "lists")
    assert not await again._fetch("330483")
    standing = again.sources.standing("330483", StatusReference(DUAL.status_uri, 7), now())
    assert standing.state is State.REVOKED
    assert {form: again.token("330483", form) for form in (CWT, JWT)} == {
        form: keeper.token("330483", form) for form in (CWT, JWT)
    }
    assert again.token("330400") is None  # somebody else's signature lay there
    assert sorted(one.name for one in (tmp_path / "lists").iterdir()) == [
        "330400.jwt",
        "330483.cwt",
        "330483.jwt",
    ]


async def test_what_a_killed_gateway_left_half_written_goes_after_a_day(tmp_path):
    old, young, others = (tmp_path / name for name in ("330400.jwt.71.new", "330483.jwt.72.new", "notes.new"))
    for path in (old, young, others):
        path.write_bytes(b"half")
    for path in (old, others):
        os.utime(path, (time.time() - 90_000,) * 2)
    StatusKeeper(TRUST, Shelves(), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([young, others])
