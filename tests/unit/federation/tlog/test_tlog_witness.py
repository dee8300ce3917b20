"""Witnesses cosign one history: the answers of tlog-witness, and what happens to a fork."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.suites.registry import suite
from federation.tlog.checkpoint import Checkpoint, Quorum
from federation.tlog.flaws import EvidenceError, Flaw
from federation.tlog.log import EvidenceLog
from federation.tlog.merkle import leaf_hash
from federation.tlog.note import SecondSigner, Signer, signed_note
from federation.tlog.witness import Witness, WitnessRequest, witnessed
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


def cosign(log, note, witnesses, known=0):
    """Ask each witness as the gateway's courier does, and keep what they sign; their statuses."""
    size = Checkpoint.parse(note.text).size
    body = str(WitnessRequest(known, log.consistency(known, Checkpoint.parse(note.text)), note)).encode()
    answers = [one.add_checkpoint(body, NOW_S) for one in witnesses.values()]
    for answer in answers:
        if answer.status == 200:
            log.add_cosignatures(size, answer.lines(), QUORUM)
    return [answer.status for answer in answers]


def test_cosignatures_go_into_the_proofs_of_a_log(log, three):
    known = 0
    for size in (3, 300, 301):
        log.append([decided(number) for number in range(log.size, size)])
        assert cosign(log, log.checkpoint(NOW_MS + size * 2_000), three, known) == [200] * 3
        known = size
    leaf = leaf_hash(log.entry_at(0).commitment())
    assert len(log.prove(0, QUORUM).verify(leaf, LOG.key, QUORUM).cosigned) == 3


def test_lines_that_are_no_witness_signature_over_the_checkpoint_are_not_kept(log, three):
    log.append([decided(1)])
    note = log.checkpoint(NOW_MS)
    with pytest.raises(EvidenceError) as caught:
        log.add_cosignatures(1, [WITNESSES[2].sign("other\n", 5)], QUORUM)
    assert caught.value.flaw is Flaw.BAD_SIGNATURE
    assert len(QUORUM.cosigners(log.latest())) == len(QUORUM.cosigners(note)) == 0


def test_a_witness_signs_with_a_cosignature_key(tmp_path):
    with pytest.raises(EvidenceError) as caught:
        Witness(tmp_path / "w.sqlite", LOG, {})
    assert caught.value.flaw is Flaw.MALFORMED_KEY


def test_a_witness_watches_what_the_roster_says(witness):
    witness.watch({})
    assert witness.add_checkpoint(request(0, tree_of(5)), NOW_S).status == 404
    witness.watch(witnessed([LOG.key]))
    assert witness.add_checkpoint(request(0, tree_of(5)), NOW_S).status == 200
