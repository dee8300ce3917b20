"""A federation that asks for the national suite, as real processes: issued, delivered, verified by the command; and with the
second signature taken out, refused by name.
"""

import json
import subprocess
import sys
import urllib.request
from io import BytesIO

import pytest
from pyhanko.pdf_utils.reader import PdfFileReader

from federation import second_seal
from federation.tlog.checkpoint import Checkpoint, Quorum, open_checkpoint
from federation.tlog.note import Note, Signer, VerifierKey
from federation.tlog.trusted import log_keys, second_log_keys
from federation.trust import TrustList, Use
from loadtest.fleet import Archive, Fleet
from loadtest.provision import GATEWAY_LOG_KEY
from tests.acceptance.test_document_delivery import HOLDER, NAMES, NOTER, fetch, fill, issued
from tests.fakes.documents import need_fonts, need_second_suite
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("second suite"), pytest.mark.timeout(300)]

GATEWAY = "gateway"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    need_fonts()
    need_second_suite()
    running = Fleet(
        tmp_path_factory.mktemp("sm"),
        [Archive(HOLDER, NAMES[HOLDER]), Archive(NOTER, NAMES[NOTER], dials_in=True)],
        gateway_settings={"requests_per_minute": 100000},
        documents=True,
        second_suite="sm-1",
    )
    running.prepare()
    for code in (HOLDER, NOTER):
        fill(running, code)
    running.trust = TrustList.load(running.trust_list.read_bytes())
    with running:
        yield running


def verified(fleet, *arguments: str) -> tuple[int, dict]:
    """What `lantai-verify` says of a file or text, with what the gateway publishes."""
    lists = fleet.folder / f"{HOLDER}.statuslist"
    lists.write_bytes(until(lambda: (got := fetch(fleet, f"/v1/status-lists/{HOLDER}"))[0] == 200 and got[2]))
    done = subprocess.run(
        [sys.executable, "-m", "federation.verify", *arguments, "--trust", str(fleet.trust_list),
         "--status", str(lists), "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout)


def range_of(pdf: bytes) -> list[int]:
    return [int(number) for number in PdfFileReader(BytesIO(pdf)).embedded_signatures[0].byte_range]


def test_what_is_issued_bears_both_signatures_and_with_one_taken_out_is_refused_by_name(fleet):
    case = issued(fleet, "sm-1")
    data = fetch(fleet, case["links"]["document"])[2]
    text = fetch(fleet, case["links"]["credential"])[2].decode()
    path = fleet.folder / "证明.pdf"
    path.write_bytes(data)
    for document in (str(path), text):
        status, report = verified(fleet, document)
        assert (status, report["verdict"], report["warnings"]) == (0, "valid", []), report
        passed = {one["name"] for one in report["checks"] if one["result"] == "passed"}
        assert {"second_signature", "standing"} <= passed
    stripped = second_seal.put(data, range_of(data), None)
    assert len(stripped) == len(data)
    path.write_bytes(stripped)
    status, report = verified(fleet, str(path))
    assert (status, report["reasons"]) == (1, ["second_signature_missing"])
    assert until(lambda: seen_at_gateway(fleet, data)["verdict"] == "valid")
    assert seen_at_gateway(fleet, stripped)["reasons"] == ["second_signature_missing"]


def seen_at_gateway(fleet, data: bytes) -> dict:
    """The answer of POST /v1/documents/verify."""
    asked = urllib.request.Request(
        fleet.gateway_url + "/v1/documents/verify", data=data, headers={"Content-Type": "application/pdf"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        return json.load(answer)


def test_both_sides_logs_sign_twice_are_cosigned_so_and_audited(fleet):
    issued(fleet, "sm-2")
    witness = Quorum(1, tuple(VerifierKey.parse(key.vkey) for key in fleet.trust.keys(Use.WITNESS, NOTER)))
    second = second_log_keys(fleet.trust, GATEWAY)

    def cosigned():
        status, _headers, text = fetch(fleet, "/log/checkpoint")
        return status == 200 and witness.cosigners(note := Note.parse(text)) and note

    note = until(cosigned, seconds=90)  # a round of the courier, to a witness whose list asks for both
    signer = Signer.parse((fleet.folder / GATEWAY_LOG_KEY).read_text().strip())
    assert open_checkpoint(note, signer.key, second=second) == Checkpoint.parse(note.text)
    for log, issuer in ((fleet.folder / "data", GATEWAY), (fleet.data(HOLDER), HOLDER)):
        keys = [str(key) for key in log_keys(fleet.trust, issuer)]
        beside = [str(key) for key in second_log_keys(fleet.trust, issuer)]
        audited = subprocess.run(
            [sys.executable, "-m", "federation.tlog", "audit", str(log / "evidence.sqlite"), "--key", *keys,
             "--second-key", *beside, "--json"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        told = json.loads(audited.stdout)
        assert (audited.returncode, told["ok"]) == (0, True), audited.stdout
        assert told["signed_twice"] == told["checkpoints"] > 0
