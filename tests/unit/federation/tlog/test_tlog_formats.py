"""Notes, keys, checkpoints, cosignatures and proof files: published examples, round trips, and strict reading."""

import base64
import contextlib
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.suites import libcrypto
from federation.suites.registry import suite
from federation.tlog.checkpoint import Checkpoint, Quorum, open_checkpoint
from federation.tlog.event import leaf_of
from federation.tlog.event_proof import check_event
from federation.tlog.flaws import TEXTS, EvidenceError, Flaw
from federation.tlog.merkle import leaf_hash
from federation.tlog.note import KeyKind, Note, SecondSigner, SignatureLine, Signer, VerifierKey, signed_note
from federation.tlog.proof import InclusionProof
from federation.verify.report import VerificationReason, VerifyError
from tests.fakes.tlog import LEAVES, LOG, WITNESSES, decided, tree_of

GOLDEN = json.loads((Path(__file__).parents[3] / "vectors" / "tlog.json").read_text())
# the key and note of the documentation of Go's sumdb/note
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SECRET = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
)
GO_LINE = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="

SECOND = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))
QUORUM = Quorum(2, tuple(one.key for one in WITNESSES))
CHECKPOINT = Checkpoint(LOG.name, 5, leaf_hash(b"root"))


def flaw_of(call, *arguments, **options):
    with pytest.raises(EvidenceError) as caught:
        call(*arguments, **options)
    return caught.value.flaw


def test_the_note_of_gos_documentation():
    key, signer = VerifierKey.parse(GO_KEY), Signer.parse(GO_SECRET)
    assert signer.key == key
    assert str(key) == GO_KEY
    assert signer.secret() == GO_SECRET
    whole = f"{GO_TEXT}\n{GO_LINE}\n"
    note = Note.parse(whole)
    assert note.check([key]) == {key: None}
    assert str(note) == whole == str(signed_note(GO_TEXT, signer))


@pytest.mark.parametrize(
    "spoiled",
    [
        "PeterNeumann+c74f20a2+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another identifier
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+c74f20a3+BRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",  # another type
        "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10==",
        "PeterNeumann+c74f20a3",
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "",
        "x" * 2_000,
    ],
)
def test_keys_are_read_strictly(spoiled):
    assert flaw_of(VerifierKey.parse, spoiled) is Flaw.MALFORMED_KEY


@pytest.mark.parametrize(
    "spoiled",
    [
        GO_TEXT,  # no signatures
        f"{GO_TEXT}\n",
        f"{GO_TEXT}\n{GO_LINE}",  # no last newline
        f"{GO_TEXT}{GO_LINE}\n",
        f"{GO_TEXT}\n{GO_LINE.replace('—', '-')}\n",
        f"{GO_TEXT}\n{GO_LINE} more\n",
        f"{GO_TEXT}\n{GO_LINE.replace('=', '')}\n",
        f"{GO_TEXT}\n— PeterNeumann x08goA==\n\n",
        f"{GO_TEXT}\n— PeterNeumann x08gow==\n",  # an identifier alone
        f"{GO_TEXT}\r\n\n{GO_LINE}\n",
        f"\x00{GO_TEXT}\n{GO_LINE}\n",
        "",
    ],
)
def test_notes_are_read_strictly(spoiled):
    assert flaw_of(Note.parse, spoiled) is Flaw.MALFORMED_NOTE
    assert flaw_of(Note.parse, spoiled.encode()) is Flaw.MALFORMED_NOTE


def test_notes_have_bounds():
    assert flaw_of(Note.parse, "a\n" * 40_000) is Flaw.TOO_LARGE
    assert flaw_of(Note.parse, f"{GO_TEXT}\n" + f"{GO_LINE}\n" * 65) is Flaw.TOO_LARGE
    assert flaw_of(Note.parse, b"\xff\xfe\n\n") is Flaw.MALFORMED_NOTE


def test_a_wrong_line_of_a_known_key_spoils_the_note_and_one_of_an_unknown_key_does_not():
    note = signed_note(CHECKPOINT.text(), LOG)
    stranger = Signer.generate("log.example/330483")  # the same name, another key
    assert Note(note.text, (*note.signatures, *signed_note("other\n", stranger).signatures)).check([LOG.key])
    assert flaw_of(signed_note(note.text, stranger).check, [LOG.key]) is Flaw.UNKNOWN_SIGNER
    assert flaw_of(Note("other\n", note.signatures).check, [LOG.key]) is Flaw.BAD_SIGNATURE
    both = signed_note(note.text, WITNESSES[0], LOG)
    wrong = SignatureLine(LOG.name, LOG.key.key_id, bytes(64))
    assert (
        flaw_of(Note(note.text, (both.signatures[0], wrong)).check, [LOG.key, WITNESSES[0].key])
        is Flaw.BAD_SIGNATURE
    )
    short = SignatureLine(LOG.name, LOG.key.key_id, b"x")
    assert flaw_of(Note(note.text, (short,)).check, [LOG.key]) is Flaw.BAD_SIGNATURE


def test_a_cosignature_says_when_and_does_not_pass_as_a_plain_signature():
    text = CHECKPOINT.text()
    line = WITNESSES[0].sign(text, 1_795_000_000)
    assert WITNESSES[0].key.verify(text, line.data) == 1_795_000_000
    later = (1_795_000_001).to_bytes(8, "big") + line.data[8:]
    assert flaw_of(WITNESSES[0].key.verify, text, later) is Flaw.BAD_SIGNATURE
    assert (
        flaw_of(WITNESSES[0].key.verify, text, (2**63).to_bytes(8, "big") + line.data[8:])
        is Flaw.BAD_SIGNATURE
    )
    as_log = VerifierKey(WITNESSES[0].name, KeyKind.LOG, WITNESSES[0].key.public)
    assert as_log.key_id != WITNESSES[0].key.key_id
    assert flaw_of(as_log.verify, text, line.data[8:]) is Flaw.BAD_SIGNATURE


def test_a_log_of_two_suites_signs_twice_and_others_read_it_as_before():
    both = Note.parse(str(signed_note(CHECKPOINT.text(), LOG, SECOND)))
    assert both.check([LOG.key]) == {LOG.key: None}
    assert open_checkpoint(both, LOG.key, second=[SECOND.key]) == CHECKPOINT
    once = signed_note(CHECKPOINT.text(), LOG)
    assert open_checkpoint(once, LOG.key) == CHECKPOINT
    for keys in ([SECOND.key], []):
        assert flaw_of(open_checkpoint, once, LOG.key, second=keys) is Flaw.SECOND_SIGNATURE_MISSING
    other = SecondSigner(LOG.name, suite("sm-1").generate("SM2"))
    foreign = signed_note(CHECKPOINT.text(), LOG, other)
    assert flaw_of(open_checkpoint, foreign, LOG.key, second=[SECOND.key]) is Flaw.SECOND_SIGNATURE_MISSING
    wrong = SignatureLine(LOG.name, SECOND.key.key_id, other.sign(CHECKPOINT.text()).data)
    spoilt = once.with_lines([wrong])
    assert flaw_of(open_checkpoint, spoilt, LOG.key, second=[SECOND.key]) is Flaw.BAD_SIGNATURE
    alone = signed_note(CHECKPOINT.text(), SECOND)  # the second does not stand for the first
    assert flaw_of(open_checkpoint, alone, LOG.key, second=[SECOND.key]) is Flaw.UNKNOWN_SIGNER


def test_a_key_of_the_second_suite_is_written_under_a_type_of_its_own():
    text = str(SECOND.key)
    assert VerifierKey.parse(text) == SECOND.key
    raw = base64.b64decode(text.split("+", 2)[2])
    assert raw.startswith(b"\xfflantai/sm2-with-sm3/v1\x04")
    assert len(raw) == 1 + 22 + 65
    written = base64.b64encode(b"\xff" + raw[23:]).decode()  # without the name of the type
    assert flaw_of(VerifierKey.parse, f"{LOG.name}+{text.split('+')[1]}+{written}") is Flaw.MALFORMED_KEY
    off_curve = VerifierKey(LOG.name, KeyKind.SM2, b"\x04" + bytes(64))
    assert flaw_of(off_curve.verify, "text\n", bytes(64)) is Flaw.BAD_SIGNATURE
    assert flaw_of(Signer, LOG.name, KeyKind.SM2, bytes(32)) is Flaw.MALFORMED_KEY


def test_a_machine_without_the_suite_says_so(monkeypatch):
    note = signed_note(CHECKPOINT.text(), LOG, SECOND)

    def absent():
        raise VerifyError(VerificationReason.UNSUPPORTED_SUITE, "libcrypto 3", open=True)

    monkeypatch.setattr(libcrypto, "_library", absent)
    assert open_checkpoint(note, LOG.key) == CHECKPOINT
    assert flaw_of(open_checkpoint, note, LOG.key, second=[SECOND.key]) is Flaw.UNSUPPORTED_SUITE


def test_the_cosignature_example_of_the_specification_reads():
    line = (
        "— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0"
        "xUe+mbIUBkBIfZ+qnA=="
    )
    read = SignatureLine.parse(line)
    assert str(read) == line
    assert (read.name, len(read.data)) == ("witness.example.com/w1", 8 + 64)
    assert int.from_bytes(read.data[:8], "big") == 1_679_315_147  # as its text says


def test_the_checkpoint_examples_of_the_specification_read():
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = Checkpoint.parse(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20_852_163)
    assert checkpoint.text() == text
    assert Checkpoint.parse(text + "extension 1\n").extensions == ("extension 1",)


ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="


@pytest.mark.parametrize(
    "spoiled",
    [
        f"\n5\n{ROOT}\n",
        f"a\n05\n{ROOT}\n",
        f"a\n+5\n{ROOT}\n",
        f"a\n-1\n{ROOT}\n",
        f"a\n٥\n{ROOT}\n",
        f"a\n9223372036854775808\n{ROOT}\n",
        f"a\n5\n{ROOT[:-4]}\n",
        f"a\n5\n{ROOT}",
        f"a\n5\n{ROOT}\n\n",
        "a\n5\n",
        "",
    ],
)
def test_checkpoints_are_read_strictly(spoiled):
    assert flaw_of(Checkpoint.parse, spoiled) is Flaw.MALFORMED_CHECKPOINT


def test_a_checkpoint_of_another_log_is_refused_though_its_signature_is_good():
    other = Signer.generate("log.example/330424")
    assert open_checkpoint(signed_note(CHECKPOINT.text(), LOG), LOG.key) == CHECKPOINT
    borrowed = signed_note(CHECKPOINT.text(), other)  # signs another log's tree
    assert flaw_of(open_checkpoint, borrowed, other.key) is Flaw.WRONG_ORIGIN
    successor = Signer.generate("log.example/330483-2")
    changed = signed_note(CHECKPOINT.text(), successor)
    assert open_checkpoint(changed, [LOG.key, successor.key]) == CHECKPOINT


def test_quorum_counts_witnesses_not_lines():
    note = signed_note(CHECKPOINT.text(), LOG)
    one = note.with_lines([WITNESSES[0].sign(note.text, 5)])
    assert flaw_of(QUORUM.check, note) is Flaw.QUORUM_MISSING
    assert flaw_of(QUORUM.check, one) is Flaw.QUORUM_MISSING
    again = Note(note.text, (*one.signatures, WITNESSES[0].sign(note.text, 6)))
    assert flaw_of(QUORUM.check, again) is Flaw.QUORUM_MISSING
    two = one.with_lines([WITNESSES[2].sign(note.text, 7)])
    assert QUORUM.check(two) == {WITNESSES[0].key: 5, WITNESSES[2].key: 7}
    assert flaw_of(Quorum, 4, QUORUM.witnesses) is Flaw.QUORUM_MISSING
    assert flaw_of(Quorum, 1, (LOG.key,)) is Flaw.MALFORMED_KEY
    twin = Signer("witness.example/twin", KeyKind.WITNESS, bytes([1]) * 32)
    assert flaw_of(Quorum, 2, (WITNESSES[0].key, twin.key)) is Flaw.MALFORMED_KEY


def proven(size=300, index=17, extra=b"", leaves=None):
    tree = tree_of(leaves or size)
    note = signed_note(Checkpoint(LOG.name, size, tree.root()).text(), LOG, SECOND)
    note = note.with_lines(one.sign(note.text, 1_795_000_000 + n) for n, one in enumerate(WITNESSES))
    return LEAVES, InclusionProof(index, tree.inclusion(index), note, extra)


@pytest.mark.parametrize("extra", [b"", b"opaque \x00 bytes"])
def test_a_proof_file_reads_as_written_and_verifies(extra):
    leaves, proof = proven(extra=extra)
    again = InclusionProof.parse(str(proof).encode())
    assert again == proof
    verified = again.verify(leaves[17], LOG.key, QUORUM)
    assert verified.checkpoint.size == 300
    assert len(verified.cosigned) == 3
    assert flaw_of(again.verify, leaves[18], LOG.key, QUORUM) is Flaw.NOT_INCLUDED
    assert flaw_of(again.verify, leaves[17], Signer.generate(LOG.name).key) is Flaw.UNKNOWN_SIGNER
    strangers = Quorum(1, (Signer.generate("witness.example/9", KeyKind.WITNESS).key,))
    assert flaw_of(again.verify, leaves[17], LOG.key, strangers) is Flaw.QUORUM_MISSING
    beyond = InclusionProof(300, proof.hashes, proof.note)
    assert flaw_of(beyond.verify, leaves[17], LOG.key) is Flaw.NOT_INCLUDED


@pytest.mark.slow
def test_ten_thousand_proof_files_with_one_changed_bit_prove_nothing():
    salt, event = bytes(range(32)), decided(1)
    leaves = [*LEAVES[:17], leaf_of(salt, event.canonical()), *LEAVES[18:300]]
    _leaves, proof = proven(index=17, extra=salt + event.canonical(), leaves=leaves)
    whole, dice = str(proof).encode(), random.Random(3)
    strict = Quorum(3, QUORUM.witnesses)
    assert check_event(whole, LOG.key, strict, second=[SECOND.key])[0] == event
    for at in dice.sample(range(len(whole) * 8), 10_000):
        raw = bytearray(whole)
        raw[at // 8] ^= 1 << at % 8
        with pytest.raises(EvidenceError):
            check_event(bytes(raw), LOG.key, strict, second=[SECOND.key])


@given(
    st.binary(max_size=400)
    | st.text(max_size=200).map(lambda text: f"c2sp.org/tlog-proof@v1\n{text}".encode())
)
def test_whatever_is_read_only_named_flaws_come_back(data):
    for read in (
        InclusionProof.parse,
        Note.parse,
        lambda raw: Checkpoint.parse(raw.decode("utf-8", "replace")),
    ):
        with contextlib.suppress(EvidenceError):
            read(data)


def test_every_flaw_has_its_texts():
    assert set(TEXTS) == set(Flaw)
    assert all(text.zh and text.en for text in TEXTS.values())


def test_golden_formats():
    """The bytes this project writes; tests/vectors/tlog.json changes only together with a format version."""
    seed = bytes.fromhex(GOLDEN["seed"])
    log = Signer(GOLDEN["log_name"], KeyKind.LOG, seed)
    witness = Signer(GOLDEN["witness_name"], KeyKind.WITNESS, seed)
    assert str(log.key) == GOLDEN["log_key"]
    assert str(witness.key) == GOLDEN["witness_key"]
    proof = InclusionProof.parse(GOLDEN["proof"])
    assert str(proof) == GOLDEN["proof"]
    leaf = bytes.fromhex(GOLDEN["leaf"])
    assert proof.verify(leaf, log.key, Quorum(1, (witness.key,))).cosigned == {witness.key: GOLDEN["time"]}
    note = signed_note(proof.note.text, log)
    assert note.with_lines([witness.sign(note.text, GOLDEN["time"])]) == proof.note


GO_ORACLE = r"""
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type question struct {
	Key, Note          string
	Size, Index, Older int64
	Leaf, OldRoot      []byte
	Record, Tree       [][]byte
	Paths              []string
}

func hashOf(b []byte) (h tlog.Hash) { copy(h[:], b); return }

func main() {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil { panic(err) }
	verifier, err := note.NewVerifier(q.Key)
	if err != nil { panic(err) }
	opened, err := note.Open([]byte(q.Note), note.VerifierList(verifier))
	if err != nil { panic(err) }
	lines := strings.Split(opened.Text, "\n")
	raw, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil { panic(err) }
	root := hashOf(raw)
	var record tlog.RecordProof
	for _, h := range q.Record { record = append(record, hashOf(h)) }
	if err := tlog.CheckRecord(record, q.Size, root, q.Index, hashOf(q.Leaf)); err != nil { panic(err) }
	var tree tlog.TreeProof
	for _, h := range q.Tree { tree = append(tree, hashOf(h)) }
	if err := tlog.CheckTree(tree, q.Size, root, q.Older, hashOf(q.OldRoot)); err != nil { panic(err) }
	for _, path := range q.Paths {
		if _, err := tlog.ParseTilePath(path); err != nil { panic(err) }
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "agreed %d", opened.Sigs[0].Hash)
	fmt.Println(out.String())
}
"""


@pytest.mark.slow
def test_go_agrees(tmp_path):
    """The reference implementation (Debian: golang-go, golang-golang-x-mod-dev) takes our note, proofs and addresses."""
    go = shutil.which("go")
    source = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb")
    if go is None or not source.is_dir():
        pytest.skip("no Go, or no golang.org/x/mod, on this machine")
    (tmp_path / "main.go").write_text(GO_ORACLE)
    environment = {
        "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "GOPATH": "/usr/share/gocode", "GO111MODULE": "off",
        "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "",
    }  # fmt: skip
    subprocess.run(
        [go, "build", "-o", "oracle", "main.go"], cwd=tmp_path, env=environment, check=True, timeout=100
    )
    for size, index, older in (
        (1, 0, 1),
        (2, 1, 1),
        (300, 17, 256),
        (1_200, 1_199, 513),
        (1_024, 700, 1_023),
    ):
        tree = tree_of(size)
        note = signed_note(Checkpoint(LOG.name, size, tree.root()).text(), LOG)
        question = {
            "Key": str(LOG.key), "Note": str(note), "Size": size, "Index": index, "Older": older,
            "Leaf": encoded(LEAVES[index]), "OldRoot": encoded(tree_of(older).root()),
            "Record": [encoded(one) for one in tree.inclusion(index)],
            "Tree": [encoded(one) for one in tree.consistency(older)],
            "Paths": ["tile/8/0/x001/x234/067", "tile/8/1/000.p/4"],
        }  # fmt: skip
        done = subprocess.run(
            [tmp_path / "oracle"], input=json.dumps(question), capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("agreed")


def encoded(data):
    return base64.b64encode(data).decode()
