"""Witnesses cosign one history: the answers of tlog-witness, and what happens to a fork."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.suites.registry import suite
from federation.tlog.checkpoint import Checkpoint, Quorum
from federation.tlog.cosigning import Cosigner
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.merkle import leaf_hash
from federation.tlog.note import SecondSigner, Signer, signed_note
from federation.tlog.witness import Witness, WitnessAnswer, WitnessRequest, witnessed
from tests.fakes.tlog import LEAVES, LOG, NOW_MS, WITNESSES, decided, tree_of

NOW_S = NOW_MS // 1_000
QUORUM = Quorum(2, tuple(one.key for one in WITNESSES))
FORK = [leaf_hash(b"fork"), *LEAVES[1:]]


@pytest.fixture
def witness(tmp_path):
    with Witness(tmp_path / "witness.sqlite", WITNESSES[0], witnessed([LOG.key])) as opened:
        yield opened


def head(tree, signer=LOG):
    return signed_note(Checkpoint(LOG.name, tree.size, tree.root()).text(), signer)


def request(old, tree, *, proof=None, signer=LOG):
    proof = (tree.consistency(old) if 0 < old <= tree.size else ()) if proof is None else proof
    return str(WitnessRequest(old, tuple(proof), head(tree, signer))).encode()


def test_a_growing_log_is_cosigned_with_the_time(witness):
    for old, size in ((0, 5), (5, 5), (5, 300), (300, 1_100)):
        tree = tree_of(size)
        answer = witness.add_checkpoint(request(old, tree), NOW_S + size)
        assert answer.status == 200
        cosigned = head(tree).with_lines(answer.lines())
        assert Quorum(1, QUORUM.witnesses).check(cosigned) == {WITNESSES[0].key: NOW_S + size}
        assert Checkpoint.parse(witness.seen(LOG.name).text).size == size


def test_a_log_that_must_sign_twice_is_cosigned_from_the_day_on_only_then(tmp_path):
    second = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))
    asked = {LOG.name: ([second.key], NOW_S)}
    with Witness(tmp_path / "w.sqlite", WITNESSES[0], witnessed([LOG.key]), asked) as opened:
        assert opened.add_checkpoint(request(0, tree_of(5)), NOW_S - 1).status == 200
        assert opened.add_checkpoint(request(5, tree_of(9)), NOW_S).status == 403
        tree = tree_of(9)
        both = signed_note(Checkpoint(LOG.name, 9, tree.root()).text(), LOG, second)
        body = str(WitnessRequest(5, tuple(tree.consistency(5)), both)).encode()
        assert opened.add_checkpoint(body, NOW_S).status == 200


def test_each_refusal_has_its_status_and_changes_nothing(witness):
    tree, later = tree_of(5), tree_of(9)
    assert witness.add_checkpoint(request(0, tree), NOW_S).status == 200
    forked = tree_of(FORK[:9])
    stranger = Signer.generate(LOG.name)
    other_log = signed_note(Checkpoint("log.example/elsewhere", 9, later.root()).text(), LOG)
    for status, body in (
        (400, b""),
        (400, b"old 5\n\n"),
        (400, request(5, later).replace(b"old 5", b"old 05")),
        (400, request(5, later).replace(b"old 5", b"old -5")),
        (400, b"old 5\n" + b"A" * 43 + b"=\n" * 64 + b"\n" + str(head(later)).encode()),
        (400, b"x" * 100_000),
        (400, request(10, later)),
        (404, str(WitnessRequest(5, (), other_log)).encode()),
        (403, request(5, later, signer=stranger)),
        (409, request(0, later)),
        (409, request(4, later)),
        (409, request(5, tree_of(FORK[:5]))),  # the same size, another root
        (422, request(5, forked)),
        (422, request(5, later, proof=())),
        (422, request(5, later, proof=(*later.consistency(5), LEAVES[0]))),
    ):
        answer = witness.add_checkpoint(body, NOW_S)
        assert answer.status == status, body[:60]
        assert answer.body == ("5\n" if status == 409 else "")
        assert Checkpoint.parse(witness.seen(LOG.name).text).root == tree.root()
    assert witness.add_checkpoint(request(5, later), NOW_S).status == 200


def test_the_first_sight_of_a_log_needs_no_proof_and_takes_none(witness):
    assert witness.add_checkpoint(request(0, tree_of(9), proof=LEAVES[:1]), NOW_S).status == 422
    assert witness.seen(LOG.name) is None
    assert witness.add_checkpoint(request(0, tree_of(9)), NOW_S).status == 200


def test_two_histories_at_once_only_one_is_cosigned(witness):
    bodies = [request(0, tree_of(9)), request(0, tree_of(FORK[:9]))] * 10
    both = threading.Barrier(2)
    signed = witness._signer.sign

    def slowly(*arguments):  # two that have both checked would meet here
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.2)
        return signed(*arguments)

    witness._signer.sign = slowly
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: witness.add_checkpoint(body, NOW_S), bodies))
    witness._signer.sign = signed
    cosigned = {body for body, answer in zip(bodies, answers, strict=True) if answer.status == 200}
    assert len(cosigned) == 1


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_of_two_forks_at_most_one_gets_the_quorum(tmp_path_factory, data):
    """Whatever order forks reach witnesses in: with a majority only one of them is ever fully cosigned."""
    count = data.draw(st.integers(1, 5))
    signers = [Signer.generate(f"witness.example/{number}", WITNESSES[0].key.kind) for number in range(count)]
    quorum = Quorum(count // 2 + 1, tuple(one.key for one in signers))
    assert quorum.excludes_forks
    folder = tmp_path_factory.mktemp("fork")
    witnesses = [Witness(folder / f"{n}.sqlite", one, witnessed([LOG.key])) for n, one in enumerate(signers)]
    notes = {name: head(tree_of(leaves[:9])) for name, leaves in (("honest", LEAVES), ("fork", FORK))}
    meetings = [(name, number) for name in notes for number in range(count)]
    for name, number in data.draw(st.permutations(meetings)):
        body = str(WitnessRequest(0, (), notes[name])).encode()
        notes[name] = notes[name].with_lines(witnesses[number].add_checkpoint(body, NOW_S).lines())
    met = [name for name, note in notes.items() if len(quorum.cosigners(note)) >= quorum.least]
    assert len(met) <= 1
    for one in witnesses:
        one.close()


@pytest.fixture
def log(tmp_path):
    with EvidenceLog(tmp_path / "evidence.sqlite", LOG) as opened:
        yield opened


@pytest.fixture
def three(tmp_path):
    opened = [Witness(tmp_path / f"{one.name[-1]}.sqlite", one, witnessed([LOG.key])) for one in WITNESSES]
    yield {one._signer.key: one for one in opened}
    for one in opened:
        one.close()


def links(witnesses):
    return {key: lambda body, one=one: one.add_checkpoint(body, NOW_S) for key, one in witnesses.items()}


def test_a_log_collects_cosignatures_and_puts_them_into_its_proofs(log, three):
    cosigner = Cosigner(log, QUORUM, links(three))
    for size in (3, 300, 301):
        log.append([decided(number) for number in range(log.size, size)])
        result = cosigner.collect(log.checkpoint(NOW_MS + size * 2_000))
        assert (result.quorum_met, result.silent, result.refused) == (True, [], {})
    assert (
        len(log.prove(0, QUORUM).verify(leaf_hash(log.entry_at(0).commitment()), LOG.key, QUORUM).cosigned)
        == 3
    )
    fresh = Cosigner(log, QUORUM, links(three))  # after a restart the witnesses say what they know
    log.append([decided(999)])
    assert fresh.collect(log.checkpoint(NOW_MS + 10_000_000)).quorum_met


def test_a_silent_witness_is_named_and_the_others_are_enough(log, three):
    def dead(_body):
        raise ConnectionError

    mixed = links(three) | {WITNESSES[1].key: dead}
    log.append([decided(1)])
    result = Cosigner(log, QUORUM, mixed).collect(log.checkpoint(NOW_MS))
    assert result.quorum_met
    assert result.silent == [WITNESSES[1].name]
    two_dead = mixed | {WITNESSES[0].key: lambda _body: WitnessAnswer(500)}
    log.append([decided(2)])
    result = Cosigner(log, QUORUM, two_dead).collect(log.checkpoint(NOW_MS + 5_000))
    assert not result.quorum_met
    assert result.refused == {WITNESSES[0].name: "status_500"}


def test_witnesses_that_answer_nonsense_are_refused_by_name(log, three):
    nonsense = {
        WITNESSES[0].key: lambda _body: WitnessAnswer(200, "garbage"),
        WITNESSES[1].key: lambda _body: WitnessAnswer(409, "many\n"),
        WITNESSES[2].key: lambda _body: WitnessAnswer(200, str(WITNESSES[2].sign("other\n", 5)) + "\n"),
    }
    log.append([decided(1)])
    result = Cosigner(log, QUORUM, nonsense).collect(log.checkpoint(NOW_MS))
    assert not result.quorum_met
    assert result.refused == {
        WITNESSES[0].name: Flaw.MALFORMED_NOTE,
        WITNESSES[1].name: Flaw.MALFORMED_PROOF,
        WITNESSES[2].name: Flaw.BAD_SIGNATURE,
    }


def test_a_log_restored_from_an_old_backup_is_refused(log, three, tmp_path):
    log.append([decided(number) for number in range(10)])
    log.checkpoint(NOW_MS)
    log._connection.execute("vacuum into ?", (str(tmp_path / "backup.sqlite"),))
    log.append([decided(number) for number in range(10, 20)])
    Cosigner(log, QUORUM, links(three)).collect(log.checkpoint(NOW_MS + 5_000))
    with EvidenceLog(tmp_path / "backup.sqlite", LOG) as restored:
        restored.append([decided(100)])
        early = Cosigner(restored, QUORUM, links(three)).collect(restored.checkpoint(NOW_MS + 9_000))
        assert set(early.refused.values()) == {Flaw.HISTORY_SHORTENED}
        restored.append([decided(number) for number in range(101, 110)])  # as long as the true one
        same = Cosigner(restored, QUORUM, links(three)).collect(restored.checkpoint(NOW_MS + 19_000))
        assert set(same.refused.values()) == {Flaw.HISTORY_REWRITTEN}
        restored.append([decided(number) for number in range(110, 140)])
        late = Cosigner(restored, QUORUM, links(three)).collect(restored.checkpoint(NOW_MS + 29_000))
        assert set(late.refused.values()) == {Flaw.HISTORY_REWRITTEN}
        assert not late.quorum_met


def test_a_witness_signs_with_a_cosignature_key(tmp_path):
    with pytest.raises(EvidenceError) as caught:
        Witness(tmp_path / "w.sqlite", LOG, {})
    assert caught.value.flaw is Flaw.MALFORMED_KEY


def test_a_witness_watches_what_the_roster_says(witness):
    witness.watch({})
    assert witness.add_checkpoint(request(0, tree_of(5)), NOW_S).status == 404
    witness.watch(witnessed([LOG.key]))
    assert witness.add_checkpoint(request(0, tree_of(5)), NOW_S).status == 200
