"""The courier between real logs and real witnesses over the real bulk stream: cosignatures come back, forks are seen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from federation.bulk.answering import BulkAnswering
from federation.reasons import Reason, Refusal
from federation.rpc import transport
from federation.rpc.links import HOLDINGS, open_handler, stream_handler
from federation.suites.registry import suite
from federation.tlog.event import Event, EventKind
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.note import Note, SecondSigner, SignatureLine, Signer
from federation.tlog.reconcile import Account
from federation.trust import SecondSuite, TrustList
from gateway.adapters.carrier import Carrier
from gateway.evidence.log import GatewayLog
from gateway.evidence.reconciling import FOLDER, Reconciler, Stated, check_signed, compare, path_of
from gateway.evidence.witnesses import OWN, Courier
from gateway.search.roster import Member, Roster
from tests.fakes.evidence_sides import Counts, Side

CODES = ("330400", "330483", "330421")
PLAIN = transport.Credentials(plaintext_on_loopback=True)


class Told(Counts):
    def __init__(self) -> None:
        super().__init__()
        self.cosigned_by: Counter[str] = Counter()
        self.forks: list[tuple[str, str]] = []
        self.results = {}
        self.why: list[str] = []

    def cosigned(self, log: str) -> None:
        self.cosigned_by[log] += 1

    def witness_failed(self, log: str, why: str) -> None:
        self.why.append(f"{log} {why}")

    def fork(self, log: str, why: str) -> None:
        self.forks.append((log, why))

    def reconciled(self, archive, result) -> None:
        self.results[archive] = result

    def not_reconciled(self, archive: str, why: str) -> None:
        self.why.append(f"{archive} {why}")


def decided(case: str, archive: str = "330483", number: int = 1) -> Event:
    fields = {"digest": f"{number:064x}", "archive": archive, "outcome": "approved"}
    return Event(
        EventKind.DECIDED, f"mail:{number:032x}", time.time_ns() // 1_000_000 - 3_600_000, case, fields
    )


class Federation:
    """Three archives served over gRPC, one gateway log; trust list and roster name them all."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.sides = {code: Side(folder, code) for code in CODES}
        self.signer = Signer.generate("lantai.lantai/gateway/gateway")
        self.told = Told()
        self.servers = []
        self.away: set[str] = set()

    async def __aenter__(self):
        signers = [self.signer, *[side.log_signer for side in self.sides.values()]]
        members = []
        for code, side in self.sides.items():
            side.open(signers, [one.witness_signer for one in self.sides.values()])
            members.append(Member(code, code, f"127.0.0.1:{await self._serve(side)}"))
        self.carrier = Carrier(Roster(1, tuple(members)), PLAIN)
        self.open_log()
        return self

    def open_log(self) -> None:
        self.log = GatewayLog(
            self.folder / "gateway" / "evidence.sqlite",
            self.signer,
            lambda: time.time_ns() // 1_000_000,
            self.told,
        )
        self.courier = Courier(self._trust(), CODES, self.carrier, self.connected, self.log, self.told)

    def connected(self, code: str) -> bool:
        return code not in self.away

    async def _serve(self, side: Side) -> int:
        async def answer(link, _context=None):
            await BulkAnswering(link, side.code, side.shelf).run()

        async def nobody(_link, _context):
            raise AssertionError

        server = transport.server()
        server.add_generic_rpc_handlers((open_handler(HOLDINGS, nobody, {"Bulk": stream_handler(answer)}),))
        port = transport.listen(server, "127.0.0.1:0", PLAIN)
        await server.start()
        self.servers.append(server)
        return port

    def _trust(self) -> TrustList:
        def key(use, signer):
            return {
                "id": use, "use": use, "suite": "intl-1", "alg": "Ed25519", "vkey": str(signer.key),
                "not_before": "2026-01-01T00:00:00Z", "not_after": "2036-01-01T00:00:00Z",
            }  # fmt: skip

        archives = [
            {
                "code": code,
                "name": code,
                "keys": [key("log", side.log_signer), key("witness", side.witness_signer)],
            }
            for code, side in self.sides.items()
        ]
        tree = {
            "version": 1, "federation": "lantai", "epoch": 1, "issued_at": "2026-01-01T00:00:00Z", "archives": archives,
            "gateways": [{"name": "gateway", "keys": [key("log", self.signer)]}], "witnesses": [], "tsas": [],
        }  # fmt: skip
        return TrustList.load(json.dumps(tree).encode())

    def cosigners(self, text: bytes | str) -> set[str]:
        note = Note.parse(text)
        return {line.name.rpartition("/")[2] for line in note.signatures if "/witness/" in line.name}

    async def __aexit__(self, *_error) -> None:
        await self.carrier.stop()
        for server in self.servers:
            await server.stop(0)
        self.log.close()
        for side in self.sides.values():
            side.close()


async def test_every_log_is_cosigned_by_others_and_never_by_its_own_archive(tmp_path):
    async with Federation(tmp_path) as federation:
        side = federation.sides["330483"]
        await side.log._append(decided("case-1"))
        await federation.log.note(decided("case-1"))
        await federation.courier.round()
        assert federation.told.why == []
        assert federation.told.forks == []
        assert federation.cosigners(side.fetch("log/checkpoint")) == {"330400", "330421"}
        assert federation.cosigners(str(federation.log.newest())) == set(CODES)
        asked = Counter(federation.told.cosigned_by)
        await federation.courier.round()
        assert federation.told.cosigned_by == asked, "nothing happened: nobody is asked"
        await side.log._append(decided("case-1", number=2))
        await federation.courier.round()
        assert federation.told.cosigned_by["330483"] == asked["330483"] + 2
        assert federation.told.forks == []


async def test_an_archive_that_is_away_is_not_waited_for(tmp_path):
    async with Federation(tmp_path) as federation:
        federation.away = {"330421"}
        await federation.log.note(decided("case-1"))
        await federation.courier.round()
        assert federation.cosigners(str(federation.log.newest())) == {"330400", "330483"}
        assert federation.told.why == []


@pytest.mark.parametrize("is_new_process", [True, False])
@pytest.mark.parametrize("grown", [0, 1, 2, 5])
async def test_a_restored_backup_of_the_gateways_log_is_noticed(tmp_path, grown, is_new_process):
    """Whether it is shorter than what was seen, as long, or longer, and whether the courier remembers or not."""
    async with Federation(tmp_path) as federation:
        await federation.log.note(decided("case-1", number=1))
        federation.log.close()
        backup = tmp_path / "backup"
        shutil.copytree(tmp_path / "gateway", backup)
        federation.open_log()
        for number in (2, 3):
            await federation.log.note(decided("case-1", number=number))
        await federation.courier.round()
        assert federation.told.forks == []
        seen = dict(federation.courier._seen)
        federation.log.close()
        shutil.rmtree(tmp_path / "gateway")
        shutil.copytree(backup, tmp_path / "gateway")
        federation.open_log()
        if not is_new_process:
            federation.courier._seen = seen
        for number in range(grown):
            await federation.log.note(decided("case-2", number=10 + number))
        await federation.courier.round()
        why = "history_shortened" if grown < 2 else "history_rewritten"
        assert set(federation.told.forks) == {(OWN, why)}
        assert len(federation.told.forks) == 3, "each witness sees it"


async def test_a_restored_backup_of_an_archives_log_is_noticed(tmp_path):
    async with Federation(tmp_path) as federation:
        side = federation.sides["330483"]
        for number in range(3):
            await side.log._append(decided("case-1", number=number))
        await federation.courier.round()
        side.log.close()
        for name in ("evidence.sqlite", "evidence.sqlite-wal", "evidence.sqlite-shm"):
            (side.folder / name).unlink(missing_ok=True)
        signers = [federation.signer, *[one.log_signer for one in federation.sides.values()]]
        side.witness.close()
        side.open(signers, [one.witness_signer for one in federation.sides.values()])
        federation.courier = Courier(
            federation._trust(),
            CODES,
            _Direct(federation),
            federation.connected,
            federation.log,
            federation.told,
        )
        await side.log._append(decided("case-1", number=9))
        await federation.courier.round()
        assert set(federation.told.forks) == {("330483", "history_shortened")}


async def test_a_log_that_can_not_be_read_for_a_moment_is_no_other_history(tmp_path, monkeypatch):
    """A disk that is full or locked is not a log that was rewritten: for that, issuing is to be stopped."""
    async with Federation(tmp_path) as federation:
        log = federation.sides["330483"].log
        for number in (1, 2):
            await log._append(decided("case-1", number=number))
            if number == 1:
                await federation.courier.round()
        whole = log._log.consistency

        def once(*_given):
            monkeypatch.setattr(log._log, "consistency", whole)
            raise EvidenceError(Flaw.LOG_UNAVAILABLE, "database is locked")

        monkeypatch.setattr(log._log, "consistency", once)
        await federation.courier.round()
        assert federation.told.forks == []
        assert "330483 store_unavailable" in federation.told.why
        await federation.courier.round()
        assert federation.told.forks == []
        assert len(federation.told.why) == 1


class _Direct:
    """Objects without a stream: the shelf as it is now."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation

    async def fetch(self, archive: str, name: str, most: int, body: bytes = b"") -> bytes:
        return self._federation.sides[archive].fetch(name, body)


async def test_two_gateways_that_carry_the_same_log_raise_no_alarm(tmp_path):
    async with Federation(tmp_path) as federation:
        other = Courier(
            federation._trust(),
            CODES,
            federation.carrier,
            federation.connected,
            federation.log,
            federation.told,
        )
        side = federation.sides["330483"]
        for number in range(6):
            await side.log._append(decided("case-1", number=number))
            await asyncio.gather(federation.courier.round(), other.round())
        assert federation.told.forks == []
        assert federation.cosigners(side.fetch("log/checkpoint")) == {"330400", "330421"}


async def test_a_witness_that_answers_nonsense_ends_nothing(tmp_path):
    async with Federation(tmp_path) as federation:
        await federation.log.note(decided("case-1"))

        class Nonsense:
            async def fetch(self, _archive, name, _most, _body=b""):
                if name.startswith("witness/"):
                    return b"not a number\n\xff"
                raise Refusal(Reason.NOT_FOUND)

        courier = Courier(
            federation._trust(), CODES, Nonsense(), federation.connected, federation.log, federation.told
        )
        await courier.round()
        assert federation.told.forks == []
        assert len(federation.told.why) == 3


async def test_an_event_dropped_on_either_side_is_reported_within_one_run(tmp_path):
    async with Federation(tmp_path) as federation:
        side = federation.sides["330483"]
        for case, here, there in (("case-1", True, True), ("case-2", True, False), ("case-3", False, True)):
            if here:
                await federation.log.note(decided(case))
            if there:
                await side.log._append(decided(case))
        reconciler = Reconciler(tmp_path / "gateway" / "evidence.sqlite", CODES, federation.carrier, federation.connected,
            lambda: time.time_ns() // 1_000_000, federation.told, trust=federation._trust(),
        )  # fmt: skip
        serving = asyncio.create_task(reconciler.run())
        reconciler.ask()
        async with asyncio.timeout(30):
            while set(federation.told.results) != set(CODES):
                await asyncio.sleep(0.01)
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        result = federation.told.results["330483"]
        assert {(one.request, one.missing) for one in result.differences} == {
            ("case-2", "theirs"),
            ("case-3", "ours"),
        }
        assert result.counts() == {
            "agreed": 1,
            "missing_here": 1,
            "missing_there": 1,
            "differs": 0,
            "open": 0,
        }
        assert federation.told.results["330400"].ok
        stated = Stated.read(path_of(tmp_path / "gateway" / FOLDER, "330483"))
        assert compare([federation.log._reader], stated).counts() == result.counts(), (
            "the file gives the same"
        )


async def test_no_alarm_for_what_is_under_way_or_older_than_the_window(tmp_path):
    async with Federation(tmp_path) as federation:
        side, now = federation.sides["330483"], time.time_ns() // 1_000_000
        young = Event(EventKind.DECIDED, "mail:01", now, "case-1", dict(decided("x").fields))
        await side.log._append(young)
        # one side's old event lies just before the window, the other's just after it
        edge = now - 3 * 86_400_000 + 3_600_000
        for log, at in ((side.log, edge - 1_000), (None, edge + 1_000)):
            event = Event(EventKind.DECIDED, "mail:02", at, "case-old", dict(decided("x").fields))
            await (federation.log.note(event) if log is None else log._append(event))
        reconciler = Reconciler(
            tmp_path / "gateway" / "evidence.sqlite",
            CODES,
            federation.carrier,
            federation.connected,
            lambda: now,
            federation.told,
        )
        result = await reconciler.reconcile("330483")
        assert result is not None
        assert (result.ok, result.open, result.agreed) == (True, 1, 1)


async def test_what_is_no_account_is_named_once_however_often_it_is_tried(tmp_path):
    async with Federation(tmp_path) as federation:

        class Nonsense:
            def __init__(self):
                self.come = 0

            async def fetch(self, *given):
                self.come += 1
                return await federation.carrier.fetch(*given) if self.come == 3 else b"{}"

        reconciler = Reconciler(
            tmp_path / "gateway" / "evidence.sqlite",
            CODES,
            Nonsense(),
            federation.connected,
            lambda: 1,
            federation.told,
        )
        for _ in range(2):
            assert await reconciler.reconcile("330483") is None
        assert federation.told.why == ["330483 malformed_event"]
        assert await reconciler.reconcile("330483") is not None
        assert await reconciler.reconcile("330483") is None
        assert federation.told.why == ["330483 malformed_event"] * 2  # after it was well it is news


async def test_an_account_is_believed_only_beside_a_log_signed_as_the_list_asks(tmp_path):
    """Nobody's key, another log's words, and one suite where two are asked for: each is told by name."""
    now_ms = time.time_ns() // 1_000_000
    async with Federation(tmp_path) as federation:
        side = federation.sides["330483"]
        await side.log._append(decided("case-1"))
        await federation.log.note(decided("case-1"))
        trust = federation._trust()

        async def told(trust) -> list[str]:
            federation.told.why.clear()
            reconciler = Reconciler(tmp_path / "gateway" / "evidence.sqlite", CODES, federation.carrier,
                federation.connected, lambda: now_ms, federation.told, trust=trust,
            )  # fmt: skip
            result = await reconciler.reconcile("330483")
            assert (result is None) == bool(federation.told.why)
            return list(federation.told.why)

        assert await told(trust) == []
        party, other = trust.parties["330483"], trust.parties["330421"]
        strange = {**party.keys, "log": replace(other.keys["log"], issuer="330483")}
        assert await told(with_party(trust, replace(party, keys=strange))) == ["330483 wrong_origin"]
        at = datetime.fromtimestamp(now_ms / 1_000, UTC)
        for change in ({"compromised_at": at}, {"not_after": at}, {"not_before": at + timedelta(days=1)}):
            stolen = replace(party.keys["log"], **change)
            keys = {**party.keys, "log": stolen}
            assert await told(with_party(trust, replace(party, keys=keys))) == ["330483 unknown_signer"]
        second = SecondSigner(side.log_signer.name, suite("sm-1").generate("SM2"))
        beside = replace(party.keys["log"], id="log-sm", suite="sm-1", alg="SM2", vkey=str(second.key))
        since = datetime.fromtimestamp(now_ms / 1_000, UTC)
        for day, why in ((since + timedelta(hours=1), []), (since, ["330483 second_signature_missing"])):
            asked = replace(
                party, keys={**party.keys, "log-sm": beside}, second_suite=SecondSuite("sm-1", day)
            )
            assert await told(with_party(trust, asked)) == why
        side.log._log._signers = (side.log_signer, second)
        assert await told(with_party(trust, asked)) == []
        account = side.log.open("account/0", b"")
        stated = Account.read(account.read(0, account.size))
        note = Note.parse(side.log.open("checkpoint", b"").read(0, 1 << 16))
        with pytest.raises(EvidenceError, match="not_included"):
            check_signed(note, "330483", replace_index(stated, 99), trust, now_ms / 1_000)
        # whoever stole the key writes a line under the name of the party's other log, whose key nobody stole
        new = Signer.generate(f"{side.log_signer.name}-2").key
        keys = {
            "log": replace(party.keys["log"], compromised_at=at),
            "log-2": replace(party.keys["log"], id="log-2", vkey=str(new)),
        }
        both = with_party(trust, replace(party, keys=party.keys | keys))
        forged = note.with_lines([SignatureLine(new.name, new.key_id, bytes(64))])
        with pytest.raises(EvidenceError, match="unknown_signer"):
            check_signed(forged, "330483", stated, both, now_ms / 1_000)


def with_party(trust, party) -> TrustList:
    return replace(trust, parties=trust.parties | {party.id: party})


def replace_index(account: Account, index: int) -> Account:
    """The same account, told of a place further on in the log."""
    ((request, (line,)),) = account.requests.items()
    return Account(account.origin, {request: [structs.replace(line, index=index)]})
