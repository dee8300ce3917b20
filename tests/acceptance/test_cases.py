"""A case from end to end, through real processes: asked at the gateway, decided at an archive's desk, told to the caller."""

import json
import re
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from federation.service_hours import WEEKDAYS
from loadtest.fleet import Archive, Fleet, FleetError
from node_agent.desk.store import Store
from tests.fakes.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cases"), pytest.mark.timeout(300)]

HOLDER, DEPUTY, OTHER = "330483", "330400", "330421"
ROWS = (
    "archival_code,category,name,id_number,birth_date,other_name,event_date,place,digitised\n"
    "T001-ZY·HY·1999·Y-0001-001,marriage,欧阳试验,330483197001010017,1970-01-01,司徒样本,1999-05-05,330483,是\n"
)
REQUEST = {
    "purpose": "marriage_proof",
    "category": "marriage",
    "applicant": {"relation": "AGENT"},
    "subject": {"name": "欧阳试验", "birth": "1970", "other_name": "司徒样本"},
    "event": {"from": "1999", "to": "1999"},
    "scope": {"regions": ["3304"]},
    "window": "330402",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    archives = [
        Archive(HOLDER, "桐乡市档案馆", deputy=DEPUTY),
        Archive(DEPUTY, "嘉兴市档案馆", dials_in=True),
        Archive(OTHER, "嘉善县档案馆"),
    ]
    running = Fleet(folder, archives, gateway_settings={"requests_per_minute": 100000})
    running.prepare()
    catalogue = folder / "330483-婚姻.csv"
    catalogue.write_text(ROWS, "utf-8")
    running.node("import", str(catalogue), "--data", str(running.data(HOLDER)), "--json")
    for code in (DEPUTY, OTHER):
        empty = folder / f"{code}-婚姻.csv"
        empty.write_text(
            ROWS.replace("欧阳试验", "慕容样例" if code == OTHER else "端木样例").replace(
                "司徒样本", "尉迟样例"
            ),
            "utf-8",
        )
        running.node("import", str(empty), "--data", str(running.data(code)), "--json")
    for code in (HOLDER, DEPUTY, OTHER):
        for name, role in (("沈甲", "reviewer"), ("陆乙", "reviewer"), ("顾丙", "lead")):
            running.user(code, name, role)
    with running:
        running.unattended = [accept(running, f"unattended-{place}") for place in range(2)]
        yield running


def accept(fleet, key, **changes):
    status, case = fleet.request("/v1/cases", {**REQUEST, **changes}, headers={"Idempotency-Key": key})
    assert status == 202, case
    return case["id"]


def case_of(fleet, case_id):
    status, case = fleet.request(f"/v1/cases/{case_id}")
    assert status == 200, case
    return case


def until_state(fleet, case_id, *states, seconds=PATIENCE_S):
    return until(lambda: (case := case_of(fleet, case_id))["state"] in states and case, seconds=seconds)


def at_desk(fleet, case_id, *states, code=HOLDER, seconds=PATIENCE_S):
    """The item at an archive's desk once it stands so."""

    def look():
        items = {
            one["case"]: one for one in (*fleet.desk(code, "list"), *fleet.desk(code, "list", "--ended"))
        }
        item = items.get(case_id)
        return item if item is not None and item["state"] in states else None

    return until(look, seconds=seconds)


def test_a_case_goes_from_search_to_delivery_and_counts_its_minutes(fleet):
    case_id = accept(fleet, "life-1")
    assert at_desk(fleet, case_id, "waiting")["name"] == "欧阳试验"
    shown = fleet.desk(HOLDER, "show", case_id)[0]
    assert shown["record"]["names"] == ["欧阳试验", "司徒样本"]
    row = shown["record"]["catalogue_row"]
    assert {"heading": "name", "text": "欧阳试验"} in row["cells"], row
    fleet.desk(HOLDER, "claim", case_id, "--as", "沈甲")
    until_state(fleet, case_id, "in_review")
    fleet.desk(HOLDER, "approve", case_id, "--as", "沈甲")
    case = until_state(fleet, case_id, "issued")
    assert case["decision"]["number"] == at_desk(fleet, case_id, "issued")["number"]
    status, document = fleet.request(f"/v1/cases/{case_id}/document")
    assert (status, document["archive"], document["decision"]["archival_code"]) == (
        200, HOLDER, "T001-ZY·HY·1999·Y-0001-001",
    )  # fmt: skip
    case = until_state(fleet, case_id, "delivered")
    assert {"pick_up", "review"} <= case["clock"]["stages_s"].keys()
    assert case["clock"]["is_met"]
    assert case["clock"]["target_s"] == 600


def journal(fleet, case_id):
    """(event, actor, seq) of the case's journal, from its event stream."""
    asked = urllib.request.Request(
        f"{fleet.gateway_url}/v1/cases/{case_id}/events",
        headers={"Authorization": f"Bearer {fleet.mint_token()}", "Accept": "text/event-stream"},
    )
    lines = []
    with urllib.request.urlopen(asked, timeout=10) as stream:
        for raw in stream:
            if raw.startswith(b"data: "):
                lines.append(json.loads(raw[6:]))
                if lines[-1]["state"] in {"delivered", "withdrawn"}:
                    break
    return [(line["event"], line["actor"]) for line in lines]


def test_a_withdrawal_reaches_the_reviewer(fleet):
    case_id = accept(fleet, "withdrawn-1")
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "claim", case_id, "--as", "沈甲")
    until_state(fleet, case_id, "in_review")
    status, _case = fleet.request(f"/v1/cases/{case_id}/withdrawal", {})
    assert status == 200
    assert at_desk(fleet, case_id, "closed")["reason"] == "withdrawn"
    with pytest.raises(FleetError, match="illegal_transition"):
        fleet.desk(HOLDER, "approve", case_id, "--as", "沈甲")


def test_evidence_is_asked_for_and_given_while_the_clock_stands_still(fleet):
    case_id = accept(fleet, "evidence-1")
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "ask", case_id, "--as", "沈甲", "--for", "mandate", "principal_id")
    case = until_state(fleet, case_id, "awaiting_evidence")
    assert [one["kind"] for one in case["evidence_wanted"]] == ["mandate", "principal_id"]
    assert case["clock"]["is_paused"]
    proof = {"kind": "mandate", "digest": "ab" * 32}
    status, _case = fleet.request(f"/v1/cases/{case_id}/evidence", {"evidence": [proof]})
    assert status == 200
    at_desk(fleet, case_id, "waiting")
    shown = fleet.desk(HOLDER, "show", case_id)[0]
    assert [one["kind"] for one in shown["proofs"]] == ["mandate"]
    fleet.desk(HOLDER, "refuse", case_id, "--as", "陆乙", "--reason", "not_entitled")
    case = until_state(fleet, case_id, "refused")
    assert case["reason"] == "not_entitled"
    assert "陆乙" not in json.dumps(case, ensure_ascii=False)  # who decided stays at the archive


def test_a_referral_goes_on_to_the_other_holder(fleet):
    case_id = accept(fleet, "referred-1")
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "refer", case_id, "--as", "沈甲", "--to", OTHER)
    at_desk(fleet, case_id, "waiting", code=OTHER)
    with pytest.raises(FleetError, match="referred_in_a_circle"):
        fleet.desk(OTHER, "refer", case_id, "--as", "沈甲", "--to", HOLDER)
    fleet.desk(OTHER, "approve", case_id, "--as", "沈甲", "--archival-code", "手填-001")
    case = until_state(fleet, case_id, "issued")
    assert (case["holder"], case["decision"]["archival_code"]) == (OTHER, "手填-001")
    assert at_desk(fleet, case_id, "referred")["reason"] == OTHER


def test_a_referral_to_nobody_comes_back_to_the_desk(fleet):
    case_id = accept(fleet, "referred-2")
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "refer", case_id, "--as", "沈甲", "--to", "330499")
    assert at_desk(fleet, case_id, "waiting")["reason"] == "not_a_member"
    assert until_state(fleet, case_id, "dispatched")["holder"] == HOLDER
    fleet.desk(HOLDER, "approve", case_id, "--as", "沈甲")
    until_state(fleet, case_id, "issued")


def test_a_silent_page_loses_its_claim_and_the_case_is_free_again(fleet):
    case_id = accept(fleet, "lease-1")
    at_desk(fleet, case_id, "waiting")
    fleet.desk(HOLDER, "claim", case_id, "--as", "沈甲")
    until_state(fleet, case_id, "in_review")
    store = Store(fleet.data(HOLDER), HOLDER)
    with store.writing(0) as tx:  # as if the lease had been given long ago
        item = tx.newest(case_id)
        item.lease_until_ms = 1
        tx.save(item)
    store.close()
    until_state(fleet, case_id, "dispatched")
    fleet.desk(HOLDER, "approve", case_id, "--as", "陆乙")
    until_state(fleet, case_id, "issued")


def test_decisions_made_while_the_line_is_cut_arrive_once_when_it_is_back(fleet):
    """The gateway is away: the desk works on; the gateway is back: everything arrives, once."""
    case_id = accept(fleet, "offline-1")
    at_desk(fleet, case_id, "waiting")
    fleet.stop_one("gateway", signal.SIGKILL)
    try:
        fleet.desk(HOLDER, "claim", case_id, "--as", "沈甲")
        fleet.desk(HOLDER, "approve", case_id, "--as", "沈甲")
        assert at_desk(fleet, case_id, "approved")["number"]
    finally:
        fleet.start_gateway()
    fleet.wait_connected([HOLDER, DEPUTY, OTHER])
    until_state(fleet, case_id, "issued")
    status, _document = fleet.request(f"/v1/cases/{case_id}/document")
    assert status == 200
    events = [event for event, _actor in journal(fleet, case_id)]
    assert [events.count(one) for one in ("approved", "issued", "delivered")] == [1, 1, 1]


def test_the_page_sees_the_queue_acts_on_what_it_saw_and_is_told_who_was_quicker(fleet):
    case_id = accept(fleet, "page-1")
    at_desk(fleet, case_id, "waiting")
    token = fleet.user(HOLDER, "沈甲")
    other = fleet.user(HOLDER, "陆乙")
    status, queue = fleet.desk_request(HOLDER, "/desk/queue", token=token)
    item = next(one for one in queue["items"] if one["case"] == case_id)
    assert (status, queue["user"], item["name"]) == (200, "沈甲", "欧阳试验")
    status, claimed = fleet.desk_request(
        HOLDER, f"/desk/cases/{case_id}/claim", {"version": item["version"]}, token=token
    )
    assert (status, claimed["reviewer"]) == (200, "沈甲")
    status, problem = fleet.desk_request(
        HOLDER, f"/desk/cases/{case_id}/approve", {"version": item["version"]}, token=other
    )
    assert (status, problem["reason"], problem["case"]["reviewer"]) == (409, "taken", "沈甲")
    status, _item = fleet.desk_request(
        HOLDER,
        f"/desk/cases/{case_id}/refuse",
        {"version": claimed["version"], "reason": "secret"},
        token=token,
    )
    assert status == 200
    status, history = fleet.desk_request(HOLDER, f"/desk/cases/{case_id}/history", token=token)
    done = [(one["actor"], one["action"]) for one in history["actions"]]
    assert ("沈甲", "claim") in done
    assert ("沈甲", "refuse") in done
    status, problem = fleet.desk_request(HOLDER, "/desk/queue", token="lantai-desk-made-up")
    assert (status, problem["reason"]) == (401, "token_invalid")
    until_state(fleet, case_id, "refused")


def test_the_documentation_shows_what_is_answered(fleet):
    """The two answers written in docs/desk.md have the members the desk gives, and the same values where they can."""
    text = (Path(__file__).resolve().parents[2] / "docs/desk.md").read_text("utf-8")
    written = [
        json.loads(re.search(f"<!-- {name} -->\n```json\n(.*?)```", text, re.DOTALL)[1])
        for name in ("claimed", "taken")
    ]
    case_id = accept(fleet, "documented-1")
    at_desk(fleet, case_id, "waiting")
    _status, claimed = fleet.desk_request(
        HOLDER, f"/desk/cases/{case_id}/claim", {"version": 1}, token=fleet.user(HOLDER, "沈甲")
    )
    _status, taken = fleet.desk_request(
        HOLDER, f"/desk/cases/{case_id}/claim", {"version": 1}, token=fleet.user(HOLDER, "陆乙")
    )
    changing = {"case", "received", "target_until", "until", "left_s", "lease_until"}
    for shown, given in zip([*written, written[1]["case"]], [claimed, taken, taken["case"]], strict=True):
        assert shown.keys() == given.keys()
        assert {key: value for key, value in shown.items() if key not in changing} == {
            key: value for key, value in given.items() if key not in changing
        }
    fleet.request(f"/v1/cases/{case_id}/withdrawal", {})


def test_push_tells_of_a_new_case_and_resumes_where_it_was_cut(fleet):
    token = fleet.user(HOLDER, "沈甲")
    _status, queue = fleet.desk_request(HOLDER, "/desk/queue", token=token)
    case_id = accept(fleet, "push-1")
    first = events_of(
        fleet, token, queue["seq"], lambda one: (one["case"], one["action"]) == (case_id, "received")
    )
    fleet.desk(HOLDER, "claim", case_id, "--as", "陆乙")  # by another process, while nobody listens
    later = events_of(
        fleet, token, first[-1]["seq"], lambda one: (one["case"], one["action"]) == (case_id, "claim")
    )
    assert later[-1]["actor"] == "陆乙"
    seqs = [one["seq"] for one in (*first, *later)]
    assert seqs == sorted(set(seqs))
    fleet.desk(HOLDER, "refuse", case_id, "--as", "陆乙", "--reason", "secret")


def events_of(fleet, token, after, until):
    """Events after a sequence number, up to the first for which `until` is true."""
    asked = urllib.request.Request(
        f"{fleet.desk_url(HOLDER)}/desk/events",
        headers={"Authorization": f"Bearer {token}", "Last-Event-ID": str(after)},
    )
    seen = []
    with urllib.request.urlopen(asked, timeout=20) as stream:
        for raw in stream:
            if raw.startswith(b"data: "):
                seen.append(json.loads(raw[6:]))
                if until(seen[-1]):
                    return seen
    raise AssertionError("the stream ended")


def test_nothing_personal_in_logs_or_metrics_of_the_desk(fleet):
    with urllib.request.urlopen(fleet.agent_metrics_url(HOLDER), timeout=5) as answered:
        metrics = answered.read().decode()
    assert "agent_desk_items" in metrics
    assert 'agent_desk_actions_total{action="approve",by="person"}' in metrics
    for name, text in (
        ("metrics", metrics),
        *((code, fleet.log(code)) for code in (HOLDER, OTHER, "gateway")),
    ):
        assert not [
            one for one in ("欧阳试验", "司徒样本", "沈甲", "陆乙", "330483197001010017") if one in text
        ], name


def test_a_case_nobody_picks_up_goes_to_the_deputy_who_decides_and_the_holder_issues(fleet):
    """Two cases lay untouched since the beginning: at four fifths of picking up, the deputy archive sees them too."""
    decided, raced = fleet.unattended
    at_desk(fleet, decided, "waiting", code=DEPUTY, seconds=100)
    shown = fleet.desk(DEPUTY, "show", decided)[0]
    assert (shown["on_behalf_of"], shown["record"]) == (HOLDER, None)
    fleet.desk(DEPUTY, "approve", decided, "--as", "沈甲")
    case = until_state(fleet, decided, "issued")
    assert (case["holder"], case["deputy"]) == (HOLDER, DEPUTY)
    item = at_desk(fleet, decided, "issued")
    assert (item["decided_by"], item["number"]) == ("deputy", case["decision"]["number"])
    assert at_desk(fleet, decided, "approved", code=DEPUTY)["on_behalf_of"] == HOLDER
    # whoever claims first has it: the other is told, and gets it back when it is given back
    at_desk(fleet, raced, "waiting", code=DEPUTY)
    fleet.desk(HOLDER, "claim", raced, "--as", "沈甲")
    assert at_desk(fleet, raced, "closed", code=DEPUTY)["reason"] == "taken"
    fleet.desk(HOLDER, "release", raced, "--as", "沈甲")
    at_desk(fleet, raced, "waiting", code=DEPUTY)
    fleet.desk(DEPUTY, "refuse", raced, "--as", "沈甲", "--reason", "not_entitled")
    until_state(fleet, raced, "refused")
    assert at_desk(fleet, raced, "closed")["reason"] == "taken"
    told = [
        one["detail"]["rung"] for one in fleet.desk(HOLDER, "history", decided) if one["action"] == "notified"
    ]
    assert told == sorted(set(told)) == [0, 1, 2]


def test_closed_hours_are_announced_counted_and_promised_honestly(fleet):
    """The archive closes for a week: the gateway hears of it and promises no minutes that it can not keep."""
    path = fleet.data(OTHER) / "archive.toml"
    before = path.read_text("utf-8")
    path.write_text(before + CLOSED, "utf-8")
    fleet.stop_one(OTHER)
    fleet.start_agent(OTHER)
    until(lambda: (fleet.request(f"/v1/archives/{OTHER}")[1].get("service_hours") or {}).get("closures"))
    assert fleet.request(f"/v1/archives/{OTHER}")[1]["release_rule"]["enabled"] is False
    case_id = accept(
        fleet, "closed-1", subject={"name": "慕容样例", "birth": "1970", "other_name": "尉迟样例"}
    )
    case = until_state(fleet, case_id, "dispatched", "awaiting_selection")
    if case["state"] == "awaiting_selection":
        ref = next(one["ref"] for one in case["candidates"] if one["archive"] == OTHER)
        fleet.request(f"/v1/cases/{case_id}/selection", {"ref": ref})
        case = until_state(fleet, case_id, "dispatched")
    assert case["holder"] == OTHER
    assert case["estimated_minutes"] > 24 * 60
    assert case["clock"]["service_s"] == 0
    assert case["clock"]["counted_s"] > 0
    fleet.request(f"/v1/cases/{case_id}/withdrawal", {})


def _at(seconds_from_now):
    return time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() + 8 * 3600 + seconds_from_now))


ALL_DAY = ", ".join(f'{day} = ["00:00-24:00"]' for day in WEEKDAYS)
CLOSED = f"""
[hours]
weekly = {{ {ALL_DAY} }}
closures = [["{_at(-3600)}", "{_at(7 * 86_400)}"]]
"""
