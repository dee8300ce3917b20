"""A case from end to end, through real processes: asked at the gateway, decided at an archive's desk, told to the caller."""

import time

import pytest

from loadtest.fleet import Archive, Fleet

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


def wait_for(condition, seconds=20.0):
    """What `condition` gives as soon as that is true."""
    ends_at = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < ends_at, "did not happen in time"
        time.sleep(0.05)
    return found


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
        empty.write_text(ROWS.replace("欧阳试验", "慕容样例").replace("司徒样本", "尉迟样例"), "utf-8")
        running.node("import", str(empty), "--data", str(running.data(code)), "--json")
    for code in (HOLDER, DEPUTY, OTHER):
        for name, role in (("沈甲", "reviewer"), ("陆乙", "reviewer"), ("顾丙", "lead")):
            running.add_user(code, name, role)
    with running:
        yield running


def accept(fleet, key, **changes):
    status, case = fleet.request("/v1/cases", {**REQUEST, **changes}, headers={"Idempotency-Key": key})
    assert status == 202, case
    return case["id"]


def case_of(fleet, case_id):
    status, case = fleet.request(f"/v1/cases/{case_id}")
    assert status == 200, case
    return case


def until_state(fleet, case_id, *states, seconds=20.0):
    return wait_for(lambda: (case := case_of(fleet, case_id))["state"] in states and case, seconds)


def at_desk(fleet, case_id, *states, code=HOLDER, seconds=20.0):
    """The item at an archive's desk once it stands so."""

    def look():
        items = {
            one["case"]: one for one in (*fleet.desk(code, "list"), *fleet.desk(code, "list", "--ended"))
        }
        item = items.get(case_id)
        return item if item is not None and item["state"] in states else None

    return wait_for(look, seconds)


def test_a_case_goes_from_search_to_delivery_and_counts_its_minutes(fleet):
    case_id = accept(fleet, "life-1")
    assert at_desk(fleet, case_id, "waiting")["name"] == "欧阳试验"
    shown = fleet.desk(HOLDER, "show", case_id)[0]
    assert shown["record"]["names"] == ["欧阳试验", "司徒样本"]
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
