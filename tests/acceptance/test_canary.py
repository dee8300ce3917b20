"""Canaries: a name and numbers planted in every flow and every error, and searched for in whatever could leak them.

A small fleet of its own, one archive dialled and one dialling in; every log, metric and answer of every process is read.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter

import pytest

from loadtest.fleet import Archive, Fleet
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("canary"), pytest.mark.timeout(300)]

DIALLED, DIALS_IN = "330483", "330400"
NAME, SPOUSE, ID, CERTIFICATE = "金丝雀", "芦花鸡", "330483197001010017", "嘉桐字第198807号"
SHAPES = [
    shape
    for word in (NAME, SPOUSE, ID, CERTIFICATE)
    for shape in (
        word, urllib.parse.quote(word), json.dumps(word)[1:-1], repr(word.encode())[2:-1], word.encode("gbk").hex(), word.encode().hex(),
    )
]  # fmt: skip
"""The canaries as they are, and as URLs, JSON, Python and hexadecimal would write them."""
ROWS = (
    "archival_code,category,name,id_number,birth_date,other_name,event_date,place,certificate_no,digitised\n"
    f"T001-ZY·HY·1988·Y-0001-001,marriage,{NAME},{ID},1970-01-01,{SPOUSE},1988-05-05,330483,{CERTIFICATE},是\n"
)
QUESTION = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "SELF"},
    "subject": {"name": NAME, "id_number": ID, "birth": "1970", "other_name": SPOUSE},
    "event": {"from": "1986", "to": "1990", "place": "330483", "certificate_no": CERTIFICATE},
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("canary")
    running = Fleet(
        folder,
        [Archive(DIALLED, "桐乡市档案馆"), Archive(DIALS_IN, "嘉兴市档案馆", dials_in=True)],
        gateway_settings={"requests_per_minute": 100000},
    )
    running.prepare()
    for code in (DIALLED, DIALS_IN):
        catalogue = folder / f"{code}.csv"
        catalogue.write_text(ROWS + ROWS.splitlines()[1].replace("1970-01-01", "1970-13-45") + "\n", "utf-8")
        running.node("import", str(catalogue), "--data", str(running.data(code)), "--json")
    with running:
        yield running


def said(fleet, method, path, body=None, headers=None, token=""):
    """Everything a caller gets back: status, headers and body as one text."""
    token = token or fleet.mint_token()
    asked = urllib.request.Request(
        fleet.gateway_url + path,
        data=body if isinstance(body, bytes | None) else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return f"{answer.status} {answer.headers}\n{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.headers}\n{error.read().decode()}"


def changed(**parts):
    return {**QUESTION, **parts}


def raw(fleet, data):
    """What the gateway's port says to bytes that are no request."""
    port = int(fleet.gateway_url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(data)
        sock.settimeout(10)
        heard = b""
        try:
            while piece := sock.recv(65536):
                heard += piece
                if b"\r\n\r\n" in heard and b"problem" not in heard:
                    break
        except TimeoutError:
            pass
    return heard.decode("utf-8", "replace")


def test_a_planted_person_stands_in_no_log_no_metric_and_no_error(fleet):
    quoted = urllib.parse.quote(NAME)
    key = {"Idempotency-Key": "canary-1"}
    found = said(fleet, "POST", "/v1/searches", QUESTION)
    assert '"decision":"likely"' in found
    accepted = said(fleet, "POST", "/v1/cases", QUESTION, key)
    case = json.loads(accepted.split("\n\n", 1)[1])["id"]
    answers = [
        found, accepted,
        said(fleet, "POST", "/v1/searches", QUESTION, {"Accept": "text/event-stream"}),
        said(fleet, "POST", "/v1/searches", changed(subject={**QUESTION["subject"], "name": NAME + "*"})),
        said(fleet, "POST", "/v1/searches", changed(subject={**QUESTION["subject"], "id_number": ID + "9"})),
        said(fleet, "POST", "/v1/searches", changed(subject={**QUESTION["subject"], "birth": NAME})),
        said(fleet, "POST", "/v1/searches", changed(subject={**QUESTION["subject"], NAME: ID})),
        said(fleet, "POST", "/v1/searches", changed(**{NAME: SPOUSE})),
        said(fleet, "POST", "/v1/searches", changed(category=NAME, purpose=ID)),
        said(fleet, "POST", "/v1/searches", changed(event={"from": ID, "place": NAME})),
        said(fleet, "POST", "/v1/searches", changed(scope={"regions": [NAME], "archives": [ID]})),
        said(fleet, "POST", "/v1/searches", changed(scope={"regions": [ID[:6]]}, deadline_ms=NAME)),
        said(fleet, "POST", "/v1/searches", {"cursor": NAME + ID}),
        said(fleet, "POST", "/v1/searches", f'{{"{NAME}": {ID}'.encode()),
        said(fleet, "POST", "/v1/searches", NAME.encode("gbk") + b"\xff"),
        said(fleet, "POST", "/v1/searches", QUESTION, {"Content-Type": f"text/{quoted}"}),
        said(fleet, "POST", "/v1/searches", QUESTION, {"Accept": f"text/{quoted}", "Accept-Language": quoted}),
        said(fleet, "POST", "/v1/searches", QUESTION, token=quoted),
        said(fleet, "PUT", f"/v1/searches?name={quoted}&id={ID}", QUESTION),
        said(fleet, "GET", f"/{quoted}/{ID}"),
        said(fleet, "GET", f"/v1/archives/{quoted}?id={ID}"),
        said(fleet, "GET", f"/v1/archives/{quoted}/scorecard"),
        said(fleet, "POST", "/oauth2/token", f"grant_type={quoted}&client_assertion={ID}".encode(), {"Content-Type": "application/x-www-form-urlencoded"}),
        said(fleet, "POST", "/oauth2/token", f"{quoted}={ID}".encode() + b"&%ff=\xff", {"Content-Type": "application/x-www-form-urlencoded"}),
        said(fleet, "POST", "/v1/cases", QUESTION, key),
        said(fleet, "POST", "/v1/cases", changed(window=NAME), key),
        said(fleet, "POST", "/v1/cases", changed(event={"from": NAME}), {"Idempotency-Key": ID}),
        said(fleet, "POST", "/v1/cases", QUESTION, {"Idempotency-Key": quoted + " " * 3}),
        said(fleet, "GET", f"/v1/cases/{quoted}"),
        said(fleet, "GET", f"/v1/cases/{case}", headers={"Prefer": f"wait={ID}", "If-None-Match": quoted}),
        said(fleet, "POST", f"/v1/cases/{case}/selection", {"ref": NAME + ID}),
        said(fleet, "POST", f"/v1/cases/{case}/selection", {NAME: ID}),
        said(fleet, "POST", f"/v1/cases/{case}/evidence", {"proofs": [{"kind": NAME, "text": ID}]}),
        said(fleet, "POST", f"/v1/cases/{ID}/withdrawal", {}),
        said(fleet, "GET", f"/v1/cases/{case}/document?{quoted}"),
        raw(fleet, f"GET /{NAME} HTTP/1.1\r\n\r\n".encode()),
        raw(fleet, f"GET / HTTP/1.1\r\nHost: x\r\nbad header {NAME}{ID}\r\n\r\n".encode()),
        raw(fleet, f"{NAME} {ID}\r\n\r\n".encode()),
        raw(fleet, f"POST /v1/searches HTTP/1.1\r\nHost: x\r\nContent-Length: {ID}{NAME}\r\n\r\n".encode()),
        raw(fleet, f"POST /v1/searches HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{NAME}\r\n".encode()),
    ]  # fmt: skip
    fleet.send(DIALLED, signal.SIGSTOP)  # and once in the flow of a failure
    try:
        answers.append(said(fleet, "POST", "/v1/searches", changed(deadline_ms=500)))
    finally:
        fleet.send(DIALLED, signal.SIGCONT)
    said(fleet, "POST", f"/v1/cases/{case}/withdrawal", {})
    assert Counter(answer.startswith("5") for answer in answers)[True] == 0
    assert sum("malformed_request" in answer for answer in answers) >= 4
    for number, answer in enumerate(answers):
        assert not [shape for shape in SHAPES if shape in answer], f"answer {number} tells a canary"
    texts = {name: fleet.log(name) for name in ("gateway", DIALLED, DIALS_IN)}
    urls = (
        f"{fleet.gateway_url}/metrics",
        fleet.agent_metrics_url(DIALLED),
        fleet.agent_metrics_url(DIALS_IN),
    )
    for url in urls:
        with urllib.request.urlopen(url, timeout=5) as answered:
            texts[url] = answered.read().decode()
    assert "gw_refusals_total" in texts[urls[0]]
    assert texts["gateway"].count("/v1/cases") >= 5
    for name, text in texts.items():
        assert not [shape for shape in SHAPES if shape in text], f"{name} tells a canary"
        for line in text.splitlines():
            assert name in urls or line.startswith("{"), f"{name} logs what is no JSON line: {line[:200]}"


# what happens to the processes while searches run -------------------------------------------------------------------


class Load:
    """Threads that search one after the other until told to stop; what they were told, counted."""

    def __init__(self, fleet, workers=6, **changes):
        self.told, self._stop, self._fleet = Counter(), threading.Event(), fleet
        self._body = changed(**changes)
        self._token = fleet.mint_token()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(workers)]

    def _run(self):
        while not self._stop.is_set():
            try:
                status, answer = self._fleet.request("/v1/searches", self._body, token=self._token)
            except OSError as error:
                refused = "refused" in str(error).lower()
                self.told["refused" if refused else f"lost: {error}"] += 1
                time.sleep(0.02)
                continue
            if status == 200:
                for one in answer["completeness"]["outcomes"]:
                    self.told[one["archive"], one["outcome"]] += 1
                self.told[answer["completeness"]["verdict"]] += 1
            else:
                self.told[answer["reason"]] += 1

    def __enter__(self):
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_error):
        self._stop.set()
        for one in self._threads:
            one.join(15)


@pytest.mark.parametrize(("code", "other"), [(DIALLED, DIALS_IN), (DIALS_IN, DIALLED)])
def test_an_agent_killed_under_load_is_one_gap_and_comes_back(fleet, code, other):
    with Load(fleet) as load:
        until(lambda: load.told["complete"] > 20)
        fleet.stop_one(code, signal.SIGKILL)
        until(lambda: load.told["partial"] > 20)
        fleet.start_agent(code)
        fleet.wait_connected([code])
        before = load.told["complete"]
        until(lambda: load.told["complete"] > before + 20)
    assert {
        outcome
        for archive, outcome in (key for key in load.told if isinstance(key, tuple))
        if archive == other
    } == {"hit"}
    assert {key[1] for key in load.told if key[0] == code} <= {
        "hit",
        "unreachable",
        "circuit_open",
        "timeout",
    }


@pytest.mark.parametrize("code", [DIALLED, DIALS_IN])
def test_an_agent_stopped_in_order_under_load_finishes_what_it_was_asked(fleet, code):
    """SIGTERM: what it has been asked is answered; afterwards it is named as gone, and nothing hangs on it."""
    with Load(fleet) as load:
        until(lambda: load.told["complete"] > 20)
        assert fleet.stop_one(code) == 0
        until(lambda: load.told["partial"] > 5)
        fleet.start_agent(code)
        fleet.wait_connected([code])
    outcomes = {key[1] for key in load.told if key[0] == code}
    assert outcomes <= {"hit", "overloaded", "unreachable", "circuit_open"}
    assert "Traceback" not in fleet.log(code)


def running(fleet):
    """Requests under way, by the gateway's own count."""
    with urllib.request.urlopen(fleet.gateway_url + "/metrics", timeout=5) as answered:
        lines = answered.read().decode().splitlines()
    up = next(line for line in lines if line.startswith("gw_http_requests_running "))
    return float(up.split()[1])


def test_a_gateway_stopped_in_order_loses_no_search_under_way(fleet):
    """SIGTERM: every search that was taken is answered in full; one that comes now is refused by name; then the door closes."""
    told = []
    token = fleet.mint_token()
    fleet.send(DIALLED, signal.SIGSTOP)  # so that searches take as long as they may
    try:

        def search():
            told.append(fleet.request("/v1/searches", changed(deadline_ms=4000), token=token))

        under_way = [threading.Thread(target=search) for _ in range(6)]
        for one in under_way:
            one.start()
        until(lambda: running(fleet) >= 6)
        fleet.send("gateway", signal.SIGTERM)
        until(lambda: "draining" in fleet.request("/v1/searches", QUESTION, token=token)[1].values())
        for one in under_way:
            one.join(15)
        assert [status for status, _answer in told] == [200] * 6
        assert {answer["completeness"]["verdict"] for _status, answer in told} == {"partial"}
        assert fleet.stop_one("gateway") == 0
    finally:
        fleet.send(DIALLED, signal.SIGCONT)
    assert "Traceback" not in fleet.log("gateway")
    fleet.start_gateway()
    fleet.wait_connected([DIALLED, DIALS_IN])
