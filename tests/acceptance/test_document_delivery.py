"""From an approval to the certificate in the caller's hands, through real processes: delivered, resumed, sealed, away, and
the note that no record is held.
"""

import base64
import contextlib
import hashlib
import html
import http.client
import json
import signal
import socket
import urllib.error
import urllib.request
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pypdfium2
import pytest
import zxingcpp
from PIL import Image

from federation.sealing import Binding, open_sealed, recipient_name
from federation.short_code import grouped, new
from federation.suites.registry import suite
from federation.tlog.reader import LogReader
from federation.trust import TrustList
from federation.verify.documents import verify
from federation.verify.report import Verdict
from federation.verify.status_lists import StatusLists
from loadtest.fleet import Archive, Fleet
from loadtest.provision import provision
from tests.acceptance.test_cases import at_desk, case_of, until_state
from tests.fakes.documents import need_fonts
from tests.fakes.edge import CONTRACT
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("documents"), pytest.mark.timeout(300)]

HOLDER, NOTER, PLAIN = "330483", "330402", "330421"
NAMES = {HOLDER: "桐乡市档案馆", NOTER: "南湖区档案馆", PLAIN: "嘉善县档案馆"}
ROWS = (
    "archival_code,category,name,id_number,birth_date,other_name,event_date,place,digitised\n"
    "{code}-ZY·HY·1999·Y-0001-001,marriage,{name},,1970-01-01,{other},1999-05-05,{code},是\n"
)
PEOPLE = {HOLDER: ("欧阳試驗", "司徒樣本"), NOTER: ("端木样例", "尉迟样例"), PLAIN: ("慕容样例", "尉迟样本")}
REQUEST = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "AGENT"},
    "subject": {"name": "欧阳试验", "birth": "1970", "other_name": "司徒样本"},
    "event": {"from": "1999", "to": "1999"},
    "scope": {"regions": ["3304"]},
    "window": NOTER,
}
PDF, SEALED = "application/pdf", "application/vnd.lantai.sealed"


def fill(fleet, code):
    """Import the one record of an archive, and give its desk a user."""
    name, other = PEOPLE[code]
    csv = fleet.folder / f"{code}-婚姻.csv"
    csv.write_text(ROWS.format(code=code, name=name, other=other), "utf-8")
    fleet.node("import", str(csv), "--data", str(fleet.data(code)), "--json")
    fleet.user(code, "沈甲")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    need_fonts()
    folder = tmp_path_factory.mktemp("documents")
    running = Fleet(
        folder,
        [
            Archive(HOLDER, NAMES[HOLDER]),
            Archive(NOTER, NAMES[NOTER], dials_in=True),
            Archive(PLAIN, NAMES[PLAIN]),
        ],
        gateway_settings={"requests_per_minute": 100000, "trust_list": "trust.json"},
    )
    running.prepare()
    issuing = (HOLDER, NOTER)
    provision(folder, [(code, NAMES[code], running.data(code)) for code in issuing])
    for code in PEOPLE:
        fill(running, code)
        if code in issuing:
            with (running.data(code) / "archive.toml").open("a", encoding="utf-8") as settings:
                settings.write(f'[documents]\ngateway = "{running.gateway_url}"\n')
    running.trust = TrustList.load((folder / "trust.json").read_bytes())
    with running:
        yield running


def fetch(fleet, path, headers=None):
    """(status, headers, bytes) of one GET."""
    token = fleet._token = getattr(fleet, "_token", "") or fleet.mint_token()
    connection = http.client.HTTPConnection(urlsplit(fleet.gateway_url).netloc, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **(headers or {})})
        answer = connection.getresponse()
        body = answer.read()
        CONTRACT.hold("GET", path, answer.status, answer.headers, body)
        assert answer.headers["X-Trace-Id"]
        return answer.status, answer.headers, body
    finally:
        connection.close()


def ask(fleet, key, **changes):
    """A case's number, and the body it was asked with."""
    body = {**REQUEST, **changes}
    status, case = fleet.request("/v1/cases", body, headers={"Idempotency-Key": key})
    assert status == 202, case
    return case["id"]


def issued(fleet, key, **changes):
    """A case whose document the holder has issued."""
    case_id = ask(fleet, key, **changes)
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "claim", case_id, "--as", "沈甲")
    fleet.desk(HOLDER, "approve", case_id, "--as", "沈甲")
    return until_state(fleet, case_id, "issued", seconds=60.0)


def check(fleet, data):
    """The verification report of something delivered, by the holders' own status lists."""

    def status_list(code):  # a gateway that was just started fetches them first
        status, _headers, token = fetch(fleet, f"/v1/status-lists/{code}")
        return token.decode() if status == 200 else ""

    lists = [until(lambda code=code: status_list(code)) for code in (HOLDER, NOTER)]
    return verify(data, fleet.trust, StatusLists(fleet.trust, lists), datetime.now(UTC))


def test_the_certificate_reaches_the_caller_verifies_and_stops_the_clock_with_its_last_byte(fleet):
    case = issued(fleet, "plain-1")
    assert case["decision"]["form"] == "recorded_facts"
    described = fetch(fleet, case["links"]["document"], {"Accept": "application/json"})
    assert json.loads(described[2])["decision"]["document"] == case["decision"]["document"]
    status, headers, text = fetch(fleet, case["links"]["credential"])
    assert (status, headers["Content-Type"]) == (200, "text/plain")
    assert check(fleet, text).verdict is Verdict.VALID
    assert case_of(fleet, case["id"])["state"] == "issued"  # neither of them is the document
    status, headers, data = fetch(fleet, case["links"]["document"])
    digest = hashlib.sha256(data)
    assert (status, headers["Content-Type"], headers["Content-Length"]) == (200, PDF, str(len(data)))
    assert headers["ETag"] == f'"{digest.hexdigest()}"' == f'"{case["decision"]["document"]}"'
    assert headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    report = check(fleet, data)
    assert report.verdict is Verdict.VALID, report.as_json()
    assert report.number == case["decision"]["number"]
    assert "欧阳試驗" in str(report.facts)  # the register's characters, not the question's
    done = until_state(fleet, case["id"], "delivered")
    assert done["clock"]["is_stopped"]
    assert fetch(fleet, case["links"]["document"])[2] == data  # again: the same bytes
    again = case_of(fleet, case["id"])
    assert (again["version"], again["clock"]["counted_s"]) == (done["version"], done["clock"]["counted_s"])


def resumed(fleet, case, begun, digest):
    """The rest of a document after `begun`, asked for as a client that resumes does, until it comes."""
    headers = {"Range": f"bytes={len(begun)}-", "If-Range": f'"{digest}"'}

    def more():
        status, said, rest = fetch(fleet, case["links"]["document"], headers)
        assert status in {206, 503}, rest[:200]
        return (said, rest) if status == 206 else None

    return until(more)


def copied(fleet, key):
    """A case whose document is a copy of scanned pages: more megabytes than any socket takes at once."""
    scans = fleet.data(HOLDER) / "scans" / f"{HOLDER}-ZY·HY·1999·Y-0001-001"
    if not scans.exists():
        scans.mkdir(parents=True)
        for number in range(1, 5):
            Image.effect_noise((1654, 2339), 120).save(scans / f"{number}.png")
    case_id = ask(fleet, key)
    seen = at_desk(fleet, case_id, "waiting")["version"]
    token, own = fleet.user(HOLDER, "沈甲"), f"/desk/cases/{case_id}"
    version = fleet.desk_request(HOLDER, f"{own}/claim", {"version": seen}, token=token)[1]["version"]
    pages = [{"file": f"{number}.png"} for number in range(1, 5)]
    status, said = fleet.desk_request(
        HOLDER, f"{own}/approve", {"version": version, "pages": pages}, token=token
    )
    assert status == 200, said
    return until_state(fleet, case_id, "issued", seconds=60.0)


@pytest.mark.parametrize("victim", ["gateway", HOLDER])
def test_killed_in_the_middle_of_a_download_the_rest_is_the_same_bytes(fleet, victim):
    case = copied(fleet, f"killed-{victim}")
    assert case["decision"]["form"] == "certified_copy"
    digest = case["decision"]["document"]
    connection = http.client.HTTPConnection(urlsplit(fleet.gateway_url).netloc, timeout=60)
    connection.connect()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    token = fleet.mint_token()
    connection.request("GET", case["links"]["document"], headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    size = int(answer.headers["Content-Length"])
    assert size > 6_000_000
    begun = answer.read(1_000_000)
    assert case_of(fleet, case["id"])["state"] == "issued"  # what was written so far is not the document
    fleet.stop_one(victim, signal.SIGKILL)
    if victim == "gateway":
        with contextlib.suppress(http.client.IncompleteRead, ConnectionError):
            while piece := answer.read1(65_536):
                begun += piece
        assert len(begun) < size
        fleet.start_gateway()
        connection.close()
        assert case_of(fleet, case["id"])["state"] == "issued"
        said, rest = resumed(fleet, case, begun, digest)
        assert said["Content-Range"] == f"bytes {len(begun)}-{size - 1}/{size}"
    else:
        fleet.start_agent(victim)
        rest = answer.read()  # the gateway itself goes on where the stream was lost
        connection.close()
    assert hashlib.sha256(begun + rest).hexdigest() == digest
    until_state(fleet, case["id"], "delivered")
    assert fetch(fleet, case["links"]["document"], {"Range": f"bytes={size}-"})[0] == 416
    fleet.wait_connected(NAMES)
    assert check(fleet, begun + rest).verdict is Verdict.VALID


def test_while_the_holder_is_away_the_case_stays_issued_and_says_when_to_come_again(fleet):
    case = issued(fleet, "away-1")
    fleet.stop_one(HOLDER, signal.SIGKILL)
    try:
        status, headers, body = fetch(fleet, case["links"]["document"])
        assert (status, json.loads(body)["reason"]) == (503, "holder_unreachable")
        assert int(headers["Retry-After"]) > 0
        assert case_of(fleet, case["id"])["state"] == "issued"
    finally:
        fleet.start_agent(HOLDER)
        fleet.wait_connected([HOLDER])
    assert fetch(fleet, case["links"]["document"])[0] == 200
    until_state(fleet, case["id"], "delivered")


def test_a_sealed_package_opens_with_the_callers_key_and_the_gateway_never_had_the_text(fleet):
    chosen = suite("intl-1")
    window, other = chosen.generate(chosen.sealing), chosen.generate(chosen.sealing)
    wishes = {"language": "en", "public_key": chosen.jwk(window.public)}
    body = {**REQUEST, "delivery": wishes}
    case = issued(fleet, "sealed-1", delivery=wishes)
    assert fetch(fleet, f"/v1/cases/{case['id']}/credential")[0] == 409  # it travels inside
    status, headers, data = fetch(fleet, case["links"]["document"])
    assert (status, headers["Content-Type"]) == (200, SEALED)
    digest = hashlib.sha256(json.dumps(body).encode()).digest()  # of the body as Fleet.request sends it
    binding = Binding(HOLDER, case["id"], digest, recipient_name(window.public))
    package = open_sealed(data, window, binding, fleet.trust, at=datetime.now(UTC))
    certificate = package["document.pdf"].content
    assert check(fleet, certificate).verdict is Verdict.VALID
    with pytest.raises(Exception, match="cannot_open"):
        open_sealed(data, other, binding, fleet.trust, at=datetime.now(UTC))
    kept = [
        path.read_bytes()
        for path in fleet.folder.glob("*")
        if path.is_file() and path.name.startswith("gateway")
    ]
    kept += [path.read_bytes() for path in (fleet.folder / "data").rglob("*") if path.is_file()]
    assert len(kept) > 3
    for place in range(0, len(data) - 64, len(data) // 5):
        assert not any(
            data[place : place + 64] in one for one in kept
        )  # nor the sealed bytes: it only carried them
    assert not any(b"%PDF" in one or "欧阳試驗".encode() in one for one in kept)


def test_a_phones_key_gets_a_credential_of_its_own(fleet):
    chosen = suite("intl-1")
    keys = [chosen.jwk(chosen.generate("ES256").public) for _ in range(2)]
    case = issued(fleet, "phone-1", delivery={"holder_keys": keys})
    status, headers, text = fetch(fleet, case["links"]["credential"])
    assert (status, headers["Content-Type"]) == (200, "application/dc+sd-jwt")
    assert len(text.decode().splitlines()) == 2


def page(fleet, path, **form):
    """(status, text) of the page for people: no token, no script, forms as a browser sends them."""
    asked = urllib.request.Request(fleet.gateway_url + path)
    if form:
        ((name, value),) = form.items()
        said = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'.encode()
        if name != "file":
            said = said.replace(b'; filename="x"', b"")
        asked.data = said + (value if isinstance(value, bytes) else value.encode()) + b"\r\n--b--\r\n"
        asked.add_header("Content-Type", "multipart/form-data; boundary=b")
    try:
        answer = urllib.request.urlopen(asked, timeout=60)
    except urllib.error.HTTPError as refused:
        answer = refused
    with answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        body = answer.read()
        CONTRACT.hold("GET", urlsplit(answer.url).path, answer.status, answer.headers, body)
        return answer.status, html.unescape(body.decode())


def test_whoever_received_the_paper_checks_it_by_its_code_its_file_and_its_qr_text(fleet):
    case = issued(fleet, "paper-1")
    data = fetch(fleet, case["links"]["document"])[2]
    check(fleet, data)  # the status lists are there
    code, number = case["decision"]["short_code"], case["decision"]["number"]
    picture = pypdfium2.PdfDocument(data)[0].render(scale=150 / 72).to_pil()
    read = [one.text for one in zxingcpp.read_barcodes(picture)]
    (address,) = [one for one in read if one.startswith("http")]
    (text,) = [one for one in read if one.startswith("AC1:")]
    assert address == f"{fleet.gateway_url}/verify/{code}"
    for status, seen in (page(fleet, f"/verify/{code}"), page(fleet, "/verify", code=grouped(code).lower())):
        assert status == 200
        assert all(one in seen for one in ("有效", "桐乡市档案馆", number, "状态截至")), seen
        assert "欧阳" not in seen
    for sent in ({"file": data}, {"text": text}):
        status, seen = page(fleet, "/verify", **sent)
        assert status == 200
        assert all(one in seen for one in ("核验通过", number, "欧阳試驗")), seen
    altered = bytearray(data)
    altered[len(data) // 2] ^= 1
    assert "核验未通过" in page(fleet, "/verify", file=bytes(altered))[1]
    assert "核验未通过" in page(fleet, "/verify", text=text[:-1] + ("A" if text[-1] != "A" else "B"))[1]
    assert page(fleet, f"/verify/{new()}")[0] == 404

    def uses():
        with LogReader(fleet.folder / "data" / "evidence.sqlite") as log:
            return [one.read().fields for one in log.of_request(case["id"]) if one.kind == "verified"]

    used = until(lambda: len(found := uses()) == 2 and found)  # by its code; file and text are one
    assert {one["outcome"] for one in used} == {"valid"}
    assert sorted(one.get("reason", "") for one in used) == ["", "short_code"]
    fleet.stop_one("gateway", signal.SIGKILL)
    fleet.stop_one(HOLDER)
    fleet.start_gateway()
    status, seen = page(fleet, f"/verify/{code}")  # years later, after any restart, while the archive is away
    assert status == 200
    assert "有效" in seen
    fleet.start_agent(HOLDER)
    fleet.wait_connected(NAMES)
    fleet.node(
        "documents", "revoke", number, "--reason", "issued_in_error", "--data", str(fleet.data(HOLDER))
    )
    fleet.stop_one(HOLDER)
    fleet.start_agent(HOLDER)  # its list is fetched when it comes back
    fleet.wait_connected(NAMES)
    until(lambda: "已撤销" in page(fleet, f"/verify/{code}")[1])
    for name in ("gateway", HOLDER):
        assert code not in fleet.log(name)
        assert "欧阳" not in fleet.log(name)


def test_a_document_whose_case_is_withdrawn_before_it_was_fetched_is_revoked_by_itself(fleet):
    case = issued(fleet, "withdrawn-1")
    assert "有效" in page(fleet, f"/verify/{case['decision']['short_code']}")[1]
    status, said = fleet.request(f"/v1/cases/{case['id']}/withdrawal", {})
    assert (status, said["state"]) == (200, "withdrawn")
    folder = str(fleet.data(HOLDER))

    def standing():
        shown = fleet.node("documents", "show", case["decision"]["number"], "--data", folder)
        return json.loads(shown)["state"] == "revoked" and json.loads(shown)

    assert until(standing)["reason"] == "case_withdrawn"
    fleet.stop_one(HOLDER)
    fleet.start_agent(HOLDER)  # its list is fetched when it comes back
    fleet.wait_connected(NAMES)
    until(lambda: "已撤销" in page(fleet, f"/verify/{case['decision']['short_code']}")[1])

    def revoked():
        with LogReader(fleet.data(HOLDER) / "evidence.sqlite") as log:
            return [one.kind for one in log.of_request(case["id"])].count("revoked")

    assert until(revoked) == 1


NOBODY = {"name": "無名錢", "birth": "1970", "other_name": "查无此人"}


def test_over_a_complete_search_the_windows_archive_issues_the_note_and_the_clock_stops_with_it(fleet):
    case_id = ask(fleet, "nobody-1", subject=NOBODY)
    case = until_state(fleet, case_id, "no_record")
    assert not case["clock"]["is_stopped"]  # seeing that there is none is not having the note
    case = until(lambda: (one := case_of(fleet, case_id)).get("decision") and one)
    assert (case["decision"]["archive"], case["decision"]["form"]) == (NOTER, "no_record")
    status, headers, data = fetch(fleet, case["links"]["document"])
    assert (status, headers["Content-Type"]) == (200, PDF)
    report = check(fleet, data)
    assert (report.verdict, report.issuer) == (Verdict.VALID, NOTER), report.as_json()
    told = str(report.facts)
    assert all(name in told for name in NAMES.values())
    assert "无名钱" in told  # the form the matching folds to
    assert datetime.now(UTC).strftime("%Y-") in told
    done = until(lambda: (one := case_of(fleet, case_id))["clock"]["is_stopped"] and one)
    assert done["clock"]["is_met"]
    assert fetch(fleet, case["links"]["document"])[2] == data


def test_before_the_note_is_there_its_place_says_come_again(fleet):
    fleet.send(NOTER, signal.SIGSTOP)  # it is there, but does not get to it
    try:
        case_id = ask(fleet, "nobody-2", subject=NOBODY, scope={"archives": [HOLDER, PLAIN]})
        case = until_state(fleet, case_id, "no_record")
        assert case["noting"] == NOTER
        status, headers, body = fetch(fleet, case["links"]["document"])
        assert (status, json.loads(body)["reason"]) == (409, "no_document")
        assert int(headers["Retry-After"]) > 0
        status, _headers, body = fetch(fleet, case["links"]["document"], {"Accept": "application/json"})
        assert (status, json.loads(body)["kind"]) == (200, "no_record_statement")
    finally:
        fleet.send(NOTER, signal.SIGCONT)
    until(lambda: fetch(fleet, case["links"]["document"])[0] == 200)


def test_what_is_nobodys_or_somebody_elses_is_unknown(fleet):
    case = issued(fleet, "mine-1")
    token = fleet.mint_token("another-platform")
    for kind in ("document", "credential"):
        status, _headers, body = fetch(
            fleet, f"/v1/cases/{case['id']}/{kind}", {"Authorization": f"Bearer {token}"}
        )
        assert (status, json.loads(body)["reason"]) == (404, "unknown_case")
        assert fetch(fleet, f"/v1/cases/01890000-0000-7000-8000-000000000000/{kind}")[0] == 404
    assert case_of(fleet, case["id"])["state"] == "issued"
