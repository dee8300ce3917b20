"""From an approval to the certificate in the caller's hands, through real processes: delivered, resumed, sealed, away, and
the note that no record is held.
"""

import base64
import hashlib
import http.client
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from federation.trust import TrustList
from federation.verify.documents import verify
from federation.verify.report import Verdict
from federation.verify.status_lists import StatusLists
from loadtest.fleet import Archive, Fleet
from loadtest.provision import provision
from tests.acceptance.test_cases import at_desk, case_of, until_state
from tests.fakes.documents import need_fonts

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
    for code, (name, other) in PEOPLE.items():
        csv = folder / f"{code}-婚姻.csv"
        csv.write_text(ROWS.format(code=code, name=name, other=other), "utf-8")
        running.node("import", str(csv), "--data", str(running.data(code)), "--json")
        running.user(code, "沈甲")
        if code in issuing:
            with (running.data(code) / "archive.toml").open("a", encoding="utf-8") as settings:
                settings.write(f'[documents]\ngateway = "{running.gateway_url}"\n')
    running.trust = TrustList.load((folder / "trust.json").read_bytes())
    with running:
        yield running


def fetch(fleet, path, headers=None, *, most=None):
    """(status, headers, bytes) of one GET; with `most`, the connection is closed after that many bytes."""
    token = fleet._token = getattr(fleet, "_token", "") or fleet.mint_token()
    connection = http.client.HTTPConnection(urlsplit(fleet.gateway_url).netloc, timeout=60)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}", **(headers or {})})
        answer = connection.getresponse()
        body = answer.read() if most is None else answer.read(most)
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
    lists = [fetch(fleet, f"/v1/status-lists/{code}")[2].decode() for code in (HOLDER, NOTER)]
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
