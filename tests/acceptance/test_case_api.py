"""Cases over the public API of a real gateway process; the archives and the platform do as the tests tell them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from federation import mail
from gateway.edge.server import openapi
from loadtest.gateways import REQUEST, Gateway
from loadtest.scripted import (
    ScriptedArchive,
    ScriptedArchives,
    approve_at_once,
    one_record,
    receive_only,
)
from tests.fakes.contract import Contract
from tests.fakes.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("case api"), pytest.mark.timeout(180)]

HOLDER, OTHER, THIRD = "330483", "330421", "330424"
SECRET = bytes(range(32))
CONTRACT = Contract(openapi())


class Platform(ThreadingHTTPServer):
    """A platform's call-back server; `status` is what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.status = 200
        platform = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                platform.got.append(({key.lower(): value for key, value in self.headers.items()}, body))
                self.send_response(platform.status)
                self.end_headers()

            def log_message(self, *_about: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def about(self, case: str) -> list[dict[str, Any]]:
        return [one for _h, body in list(self.got) if (one := json.loads(body))["data"]["case"] == case]


class World:
    """One gateway, three archives, one platform that wants calls."""

    def __init__(self, gateway: Gateway, archives: ScriptedArchives, platform: Platform) -> None:
        self.gateway, self.archives, self.platform = gateway, archives, platform
        self.holder, self.other, self.third = archives.archives
        self.token, self.foreign = gateway.token("try-out"), gateway.token("somebody-else")
        self.hooked = gateway.token("platform")
        self.keys = 0

    def reset(self) -> None:
        for one, records in ((self.holder, (one_record(),)), (self.other, ()), (self.third, ())):
            one.records, one.delay_s, one.silent, one.takes, one.script = (
                records,
                0.0,
                False,
                True,
                approve_at_once,
            )
        self.platform.status = 200

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any, Any]:
        """(status, headers, body), the body held to the contract."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            "Authorization": f"Bearer {token or self.token}",
            "Content-Type": "application/json",
            **(headers or {}),
        }
        asked = urllib.request.Request(self.gateway.url + path, data=data, headers=sent, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=40) as answer:
                status, got, raw = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            status, got, raw = error.code, error.headers, error.read()
        parsed = json.loads(raw) if raw and "json" in got.get("Content-Type", "") else raw.decode()
        CONTRACT.hold(method, path, status, got, raw)
        return status, got, parsed

    def accept(self, *, token: str = "", **changes: Any) -> dict[str, Any]:
        self.keys += 1
        status, _headers, body = self.ask(
            "POST",
            "/v1/cases",
            {**REQUEST, **changes},
            token=token,
            headers={"Idempotency-Key": f"key-{self.keys}"},
        )
        assert status == 202, body
        return dict(body)

    def case(self, case: dict[str, Any], token: str = "") -> dict[str, Any]:
        status, _headers, body = self.ask("GET", f"/v1/cases/{case['id']}", token=token)
        assert status == 200, body
        return dict(body)

    def reaches(self, case: dict[str, Any], state: str, token: str = "") -> dict[str, Any]:
        return dict(
            until(lambda: (now := self.case(case, token))["state"] == state and now, f"never {state}")
        )

    def tell(self, case: dict[str, Any], said: mail.FromDesk, by: ScriptedArchive | None = None) -> str:
        """What the gateway's receipt said: "" = taken."""
        desk = by or self.holder
        name = self.archives.call(lambda: desk.tell(case["id"], said))
        return str(until(lambda: name in desk.receipts and (desk.receipts[name] or "taken"), "no receipt"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    platform = Platform()
    archives = ScriptedArchives(ScriptedArchive(HOLDER), ScriptedArchive(OTHER), ScriptedArchive(THIRD))
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt.algorithms import ECAlgorithm

    jwk = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key(), as_dict=True)
    inline = ", ".join(f'{key} = "{jwk[key]}"' for key in ("kty", "crv", "x", "y"))
    secret = "whsec_" + base64.b64encode(SECRET).decode()
    clients = (
        f'[[client]]\nid = "platform"\nscope = "cases"\njwk = {{ {inline} }}\n'
        f'webhook = "http://127.0.0.1:{platform.server_port}/hook"\nwebhook_secret = "{secret}"\n'
        'webhook_networks = ["127.0.0.1/32"]\n'
    )
    with archives:
        gateway = Gateway(tmp_path_factory.mktemp("api"), archives.roster(), clients=clients)
        try:
            gateway.start()
            made = World(gateway, archives, platform)
            until(
                lambda: all(one["connected"] for one in made.ask("GET", "/v1/archives")[2]["archives"]),
                "archives did not connect",
            )
            yield made
        finally:
            gateway.stop()
            platform.shutdown()
            platform.server_close()


@pytest.fixture(autouse=True)
def fresh(world: World) -> None:
    world.reset()


# accepting -----------------------------------------------------------------------------------------------------


def test_a_case_is_accepted_told_where_to_look_and_goes_to_its_end(world: World):
    status, headers, body = world.ask("POST", "/v1/cases", REQUEST, headers={"Idempotency-Key": "whole"})
    assert status == 202
    assert headers["Location"] == f"/v1/cases/{body['id']}" == body["links"]["self"]
    assert headers["Retry-After"]
    assert headers["ETag"] == f'W/"{body["version"]}"'
    issued = world.reaches(body, "issued")
    assert issued["holder"] == HOLDER
    assert issued["clock"]["target_s"] == 600, "window and holder are in one city"
    assert issued["completeness"]["verdict"] == "complete"
    assert not issued["clock"]["is_stopped"]
    status, _headers, document = world.ask("GET", f"/v1/cases/{body['id']}/document")
    assert (status, document["kind"], document["archive"]) == (200, "approval_notice", HOLDER)
    ended = world.reaches(body, "delivered")
    assert ended["clock"]["is_stopped"]
    assert ended["clock"]["is_met"]
    again = world.case(ended)
    assert again["clock"] == ended["clock"], "the minutes of a stopped case stand still"


def test_the_idempotency_key(world: World):
    key = {"Idempotency-Key": "idem"}
    first = world.ask("POST", "/v1/cases", REQUEST, headers=key)
    second = world.ask("POST", "/v1/cases", REQUEST, headers=key)
    assert (first[0], second[0]) == (202, 202)
    assert first[2]["id"] == second[2]["id"]
    other = {**REQUEST, "purpose": "inheritance"}
    assert world.ask("POST", "/v1/cases", other, headers=key)[2]["reason"] in {
        "idempotency_mismatch",
        "unknown_purpose",
    }
    other = {**REQUEST, "event": {"from": "1986", "to": "1990"}}
    status, _h, body = world.ask("POST", "/v1/cases", other, headers=key)
    assert (status, body["reason"]) == (422, "idempotency_mismatch")
    status, _h, body = world.ask("POST", "/v1/cases", REQUEST)
    assert (status, body["reason"]) == (400, "idempotency_key_missing")
    theirs = world.ask("POST", "/v1/cases", REQUEST, headers=key, token=world.foreign)
    assert theirs[0] == 202
    assert theirs[2]["id"] != first[2]["id"], "keys are each platform's own"


def test_a_platform_sees_only_its_own_cases(world: World):
    case = world.accept()
    own = f"/v1/cases/{case['id']}"
    for method, path, body in (
        ("GET", own, None), ("GET", f"{own}/document", None), ("GET", f"{own}/events", None),
        ("POST", f"{own}/selection", {"ref": None}), ("POST", f"{own}/withdrawal", {}),
        ("POST", f"{own}/evidence", {"evidence": [{"kind": "id_card"}]}),
    ):  # fmt: skip
        status, _h, told = world.ask(method, path, body, token=world.foreign)
        assert (status, told["reason"]) == (404, "unknown_case")
    for name in ("nothing", "%00", "01a213ea-697f-7c65-aa31-b0d5ef7bf851", "'; DROP TABLE cases", "a" * 3000):
        status, _h, told = world.ask("GET", f"/v1/cases/{urllib.request.quote(name)}")
        assert (status, told["reason"]) == (404, "unknown_case"), name


def test_wrong_bodies_are_named(world: World):
    for body, reason in (
        (b"{", "malformed_json"), (b"\xff", "malformed_text"), ({**REQUEST, "more": 1}, "unknown_field"),
        ({**REQUEST, "window": "999999"}, "unknown_region"), ({**REQUEST, "scope": {"regions": ["3301"]}}, "nobody_in_scope"),
        ({**REQUEST, "scope": {"archives": ["999999"]}}, "unknown_archive"), ({**REQUEST, "subject": {"name": "钱*"}}, "wildcard"),
    ):  # fmt: skip
        status, _h, told = world.ask("POST", "/v1/cases", body, headers={"Idempotency-Key": "wrong"})
        assert told["reason"] == reason
        assert 400 <= status < 500


# waiting and following -----------------------------------------------------------------------------------------


def test_etag_and_waiting(world: World):
    world.holder.script = receive_only
    case = world.accept()
    own = f"/v1/cases/{case['id']}"
    until(
        lambda: stream(world, case, most=world.case(case)["version"])[-1]["event"] == "received",
        "never received",
    )
    _s, headers, _b = world.ask("GET", own)
    known = headers["ETag"]
    for given in (known, known.removeprefix("W/"), f'"x", {known}', "*"):
        status, _h, body = world.ask("GET", own, headers={"If-None-Match": given})
        assert (status, body) == (304, "")
    answers: list[Any] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            world.ask("GET", own, headers={"If-None-Match": known, "Prefer": "wait=30"})
        )
    )
    waiting.start()
    assert world.tell(case, mail.Claimed(group=1)) == "taken"
    waiting.join(30)
    status, headers, body = answers[0]
    assert (status, body["state"]) == (200, "in_review")
    assert headers["Preference-Applied"] == "wait=30"
    status, _h, body = world.ask("GET", own, headers={"If-None-Match": headers["ETag"], "Prefer": "wait=1"})
    assert status == 304, "nothing new within a second"


def stream(world: World, case: dict[str, Any], after: str = "", most: int = 100) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {world.token}", **({"Last-Event-ID": after} if after else {})}
    asked = urllib.request.Request(f"{world.gateway.url}/v1/cases/{case['id']}/events", headers=headers)
    found: list[dict[str, Any]] = []
    raw = b""
    with urllib.request.urlopen(asked, timeout=40) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["X-Trace-Id"]
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Accel-Buffering"] == "no"
        for line in answer:
            raw += line
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                if len(found) == most:
                    break
        CONTRACT.hold("GET", f"/v1/cases/{case['id']}/events", 200, answer.headers, raw)
    return found


def test_events_resume_where_they_broke_off_and_end_with_the_case(world: World):
    case = world.accept()
    world.reaches(case, "issued")
    first = stream(world, case, most=2)
    rest = stream(world, case, after=str(first[-1]["seq"]), most=4)
    assert [one["seq"] for one in [*first, *rest]] == [1, 2, 3, 4, 5, 6]
    assert [one["event"] for one in [*first, *rest]] == [
        "accepted", "located", "received", "claimed", "approved", "issued",
    ]  # fmt: skip
    world.ask("GET", f"/v1/cases/{case['id']}/document")
    last = stream(world, case, after="6")[-1]
    assert last["event"] == "delivered", "and the stream ends by itself"
    resumed = {"Last-Event-ID": str(last["seq"])}
    status, _h, body = world.ask("GET", f"/v1/cases/{case['id']}/events", headers=resumed)
    assert (status, body) == (204, ""), "an EventSource would come back for ever"
    status, _h, body = world.ask("GET", f"/v1/cases/{case['id']}/events", headers={"Last-Event-ID": "soon"})
    assert (status, body["reason"]) == (422, "out_of_range")


# selecting -----------------------------------------------------------------------------------------------------


def test_a_person_chooses_only_where_there_is_a_choice(world: World):
    world.other.records = (one_record("r2", 1988),)
    case = world.reaches(world.accept(), "awaiting_selection")
    assert {one["archive"] for one in case["candidates"]} == {HOLDER, OTHER}
    assert all("*" in one["name"] for one in case["candidates"]), "only masked names before approval"
    assert all(one["explanation"].startswith("姓名一致；") for one in case["candidates"])
    in_english = world.ask("GET", f"/v1/cases/{case['id']}", headers={"Accept-Language": "en"})[2]
    assert all(one["explanation"].startswith("name equal; ") for one in in_english["candidates"])
    path = case["links"]["selection"]
    status, _h, body = world.ask("POST", path, {"ref": "330483.nothing"})
    assert (status, body["reason"]) == (422, "unknown_candidate")
    [chosen] = [one["ref"] for one in case["candidates"] if one["archive"] == OTHER]
    key = {"Idempotency-Key": "choice"}
    assert world.ask("POST", path, {"ref": chosen}, headers=key)[0] == 200
    status, _h, body = world.ask("POST", path, {"ref": chosen}, headers=key)
    assert status == 200, "sent again because the answer was lost"
    assert body["holder"] == OTHER
    status, _h, body = world.ask("POST", path, {"ref": None}, headers=key)
    assert (status, body["reason"]) == (422, "idempotency_mismatch")
    status, _h, body = world.ask("POST", path, {"ref": chosen})
    assert (status, body["reason"]) == (409, "illegal_transition")
    world.reaches(case, "issued")
    assert list(world.other.dispatches[case["id"], 1]), "it went to the chosen one"
    assert (case["id"], 1) not in world.holder.dispatches


def test_none_fits_over_a_complete_search_is_no_record(world: World):
    world.other.records = (one_record("r2", 1988),)
    case = world.reaches(world.accept(), "awaiting_selection")
    status, _h, body = world.ask("POST", case["links"]["selection"], {"ref": None})
    assert (status, body["state"]) == (200, "no_record")
    status, _h, document = world.ask("GET", f"/v1/cases/{case['id']}/document")
    assert (status, document["kind"], document["verdict"]) == (200, "no_record_statement", "complete")


def test_none_of_the_first_candidates_brings_the_next_ones(world: World):
    world.other.records = tuple(one_record(f"r{number}", 1988) for number in range(2, 26))
    case = world.reaches(world.accept(), "awaiting_selection")
    first = {one["ref"] for one in case["candidates"]}
    assert len(first) == 20
    status, _h, body = world.ask("POST", case["links"]["selection"], {"ref": None, "version": 1})
    assert (status, body["reason"]) == (409, "candidates_changed")
    status, _h, body = world.ask(
        "POST", case["links"]["selection"], {"ref": None, "version": case["version"]}
    )
    assert (status, body["state"]) == (200, "locating")
    rest = {one["ref"] for one in world.reaches(body, "awaiting_selection")["candidates"]}
    assert (len(rest), len(first | rest)) == (5, 25)
    status, _h, body = world.ask("POST", case["links"]["selection"], {"ref": None})
    assert (status, body["state"]) == (200, "no_record")


# locating ------------------------------------------------------------------------------------------------------


def test_no_record_is_said_only_when_everyone_has_answered(world: World):
    world.holder.records = ()
    ended = world.reaches(world.accept(), "no_record")
    assert ended["completeness"]["verdict"] == "complete"
    assert {one["archive"] for one in ended["completeness"]["outcomes"]} == {HOLDER, OTHER, THIRD}


def test_an_archive_that_is_away_is_named_and_asked_again_the_moment_it_is_back(world: World):
    world.holder.records = ()
    world.archives.run(world.third.down())
    until(lambda: not world.ask("GET", f"/v1/archives/{THIRD}")[2]["connected"], "still connected")
    case = world.accept()
    waiting = until(
        lambda: (now := world.case(case)).get("completeness", {}).get("gaps") and now, "the gap was not named"
    )
    assert waiting["state"] == "locating"
    assert [gap["archive"] for gap in waiting["completeness"]["gaps"]] == [THIRD]
    assert waiting["completeness"]["verdict"] == "partial"
    status, _h, body = world.ask("GET", f"/v1/cases/{case['id']}/document")
    assert (status, body["reason"]) == (409, "no_document"), "nothing says no record before all have answered"
    world.archives.run(world.third.up())
    ended = world.reaches(case, "no_record")
    assert ended["completeness"]["verdict"] == "complete"
    assert ended["completeness"]["round"] > 1


def test_a_slow_archive_is_given_more_time_and_its_answer_is_a_new_revision(world: World):
    world.holder.records, world.third.records = (), (one_record("slow"),)
    world.third.delay_s = 2.6  # above a round's two seconds
    issued = world.reaches(world.accept(), "issued")
    assert issued["holder"] == THIRD
    assert issued["completeness"]["round"] > 1


# desks ---------------------------------------------------------------------------------------------------------


def test_evidence_pauses_the_clock_and_reaches_the_desk(world: World):
    world.holder.script = receive_only
    case = world.reaches(world.accept(), "dispatched")
    assert world.tell(case, mail.EvidenceWanted(group=1, items=("mandate", "no such kind"))) == "taken"
    asked = world.reaches(case, "awaiting_evidence")
    assert asked["clock"]["is_paused"]
    assert [one["kind"] for one in asked["evidence_wanted"]] == ["mandate", "other"]
    digest = hashlib.sha256(b"scan").hexdigest()
    given = {"evidence": [{"kind": "mandate", "digest": digest}]}
    status, _h, body = world.ask("POST", asked["links"]["evidence"], given)
    assert (status, body["state"]) == (200, "in_review")
    assert body["clock"]["paused_s"] > 0
    heard = until(
        lambda: [one for _case, one in world.holder.heard if isinstance(one, mail.Evidence)], "never heard"
    )
    assert heard[-1].proofs[0].digest == digest


def test_withdrawal_reaches_the_desk_and_a_decision_after_it_is_refused_by_name(world: World):
    world.holder.script = receive_only
    case = world.reaches(world.accept(), "dispatched")
    path = case["links"]["withdrawal"]
    for _ in range(2):
        status, _h, body = world.ask("POST", path, {})
        assert (status, body["state"]) == (200, "withdrawn"), "a second time is the same"
    until(
        lambda: any(
            one == case["id"] and isinstance(said, mail.Withdrawn) for one, said in world.holder.heard
        ),
        "the desk was not told",
    )
    assert world.tell(case, mail.Approved(group=1, number="late")) == "illegal_transition"
    assert world.case(case)["state"] == "withdrawn"


def test_duplicate_and_wrong_decisions(world: World):
    world.holder.script = receive_only
    case = world.reaches(world.accept(), "dispatched")
    assert world.tell(case, mail.Approved(group=1, number="x"), by=world.other) == "wrong_archive"
    assert world.tell(case, mail.Refused(group=7, reason="secret")) == "illegal_transition"
    assert world.tell(case, mail.Approved(group=1, number="n1")) == "taken"
    assert world.tell(case, mail.Approved(group=1, number="n1")) == "taken", "the same message again"
    assert world.tell(case, mail.Refused(group=1, reason="secret")) == "illegal_transition"
    assert world.case(case)["state"] == "issuing"
    events = [one["event"] for one in stream(world, case, most=4)]
    assert events == ["accepted", "located", "received", "approved"]
    assert world.tell({"id": "nobody's"}, mail.Claimed(group=1)) == "taken", (
        "old news of nothing: not to be repeated"
    )
    assert world.tell({"id": "nobody's\0"}, mail.Approved(group=1, number="x")) == "unknown_case"


def test_a_referral_goes_on_to_the_other_holder_and_only_to_members(world: World):
    world.holder.script = receive_only
    case = world.reaches(world.accept(), "dispatched")
    assert world.tell(case, mail.Referred(group=1, archive="999999")) == "not_a_member"
    assert world.tell(case, mail.Referred(group=1, archive=OTHER)) == "taken"
    issued = world.reaches(case, "issued")
    assert issued["holder"] == OTHER
    assert len(world.other.dispatches[case["id"], 2]) == 1


def test_a_refusal_says_why_in_the_callers_language_and_is_delivered_by_looking(world: World):
    world.holder.script = lambda _archive, _case, asked: [
        mail.Refused(group=asked.group, reason="not_entitled")
    ]
    case = world.accept()
    refused = world.reaches(case, "refused")
    assert refused["reason"] == "not_entitled"
    assert "无权" in refused["detail"]
    _s, _h, english = world.ask("GET", f"/v1/cases/{case['id']}", headers={"Accept-Language": "en"})
    assert "entitled" in english["detail"]
    assert english["clock"]["is_stopped"]


# platforms -----------------------------------------------------------------------------------------------------


def test_calls_are_signed_both_ways_and_a_refusal_is_delivered_by_its_call(world: World):
    world.holder.script = lambda _archive, _case, asked: [mail.Refused(group=asked.group, reason="secret")]
    case = world.accept(token=world.hooked)
    until(
        lambda: any(one["data"]["state"] == "refused" for one in world.platform.about(case["id"])), "no call"
    )
    ended = until(
        lambda: (now := world.case(case, world.hooked))["clock"]["is_stopped"] and now, "not delivered"
    )
    assert ended["state"] == "refused"
    public = command(world, "key").strip()
    for headers, body in list(world.platform.got):
        CONTRACT.hold_call(headers, body)
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        v1, v1a = headers["webhook-signature"].split(" ")
        assert v1 == "v1," + base64.b64encode(hmac.digest(SECRET, signed, "sha256")).decode()
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public.removeprefix("whpk_")))
        key.verify(base64.b64decode(v1a.removeprefix("v1a,")), signed)
        assert "钱" not in body.decode()
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    names = [headers["webhook-id"] for headers, _body in world.platform.got]
    assert len(set(names)) == len(names)


def command(world: World, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "hooks", *arguments, "--config", str(world.gateway.config)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return done.stdout


def test_dead_letters_are_listed_and_sent_again_beside_the_running_gateway(world: World):
    world.holder.script = receive_only
    world.platform.status = 410
    case = world.accept(token=world.hooked)
    until(
        lambda: (
            sum(
                json.loads(line)["case_id"] == case["id"]
                for line in command(world, "list", "--json").splitlines()
            )
            == 3
        ),
        "not all became dead letters",
        seconds=90,
    )
    called = len(world.platform.about(case["id"]))
    world.platform.status = 200
    assert "dead letters" in command(world, "list", "--to", "platform")
    command(world, "replay", "--to", "platform")
    until(lambda: len(world.platform.about(case["id"])) >= called + 3, "were not sent again")
    until(lambda: command(world, "list", "--json", "--to", "platform") == "", "they are still dead")


# the whole -----------------------------------------------------------------------------------------------------


def test_the_scorecard_and_the_metrics_tell_what_happened(world: World):
    world.ask("GET", f"/v1/cases/{world.reaches(world.accept(), 'issued')['id']}/document")
    status, _h, card = world.ask("GET", f"/v1/archives/{HOLDER}/scorecard")
    assert status == 200
    assert card["cases"] >= 1
    assert card["met_share"] == 1.0
    assert card["unreadable"] == 0
    assert card["stages"]["pick_up"]["mean_s"] >= 0
    assert world.ask("GET", "/v1/archives/999999/scorecard")[0] == 404
    text = str(world.gateway.get("/metrics")[1])
    for edge in ("600.0", "900.0"):
        assert f'gw_case_seconds_bucket{{le="{edge}",scope="in_city"}}' in text
        assert f'gw_case_stage_seconds_bucket{{le="{edge}",stage="review"}}' in text
    for name in (
        "gw_case_open", "gw_case_closed_total", "gw_task_oldest_due_seconds", "gw_lease_lost_total",
        "gw_outbox_oldest_seconds", "gw_store_commit_seconds_count", "gw_store_up", "gw_clock_jumps_total",
    ):  # fmt: skip
        assert name in text, name


def test_sessions_up_time_is_on_the_scorecard(world: World):
    card = until(
        lambda: (
            (got := world.ask("GET", f"/v1/archives/{HOLDER}/scorecard")[2])["availability"]["watched_s"]
            and got
        ),
        "nothing was watched",
        seconds=60,
    )
    assert 0.5 < card["availability"]["share"] <= 1.0


def test_nobodys_name_is_in_the_log(world: World):
    # the digits of a time or of a trace may make any year
    log = re.sub(r'"(timestamp|trace)":"[^"]*"|"ms":[0-9.]+', "", world.gateway.log())
    assert "request" in log
    for word in ("钱试验", "王样本", "钱*明", "1963"):
        assert word not in log


def test_a_restart_with_another_roster_breaks_no_open_case(tmp_path: Path):
    """One archive has left, one has joined: open cases go on, and what is no longer known is said."""
    holder, leaving, joining = ScriptedArchive(HOLDER), ScriptedArchive(OTHER), ScriptedArchive(THIRD)
    with ScriptedArchives(holder, leaving, joining) as archives:
        old = "".join(part for part in re.split(r"(?=\[\[archive)", archives.roster()) if THIRD not in part)
        new = "".join(part for part in re.split(r"(?=\[\[archive)", archives.roster()) if OTHER not in part)
        archives.run(leaving.down())
        joining.records = (one_record(),)
        gateway = Gateway(tmp_path, old)
        try:
            gateway.start()
            token = gateway.token()
            status, case = gateway.request(
                "/v1/cases", REQUEST, token=token, headers={"Idempotency-Key": "k"}
            )
            assert status == 202
            until(lambda: gateway.get(f"/v1/cases/{case['id']}", token)[1].get("completeness"), "never asked")
            gateway.kill()
            (tmp_path / "roster.toml").write_text(new.replace("epoch = 1", "epoch = 2"), "utf-8")
            gateway.start()
            issued = until(
                lambda: (
                    (now := gateway.get(f"/v1/cases/{case['id']}", token)[1])["state"] == "issued" and now
                ),
                "the open case broke",
            )
            assert issued["holder"] == THIRD, "who joined was asked too"
            assert issued["completeness"]["verdict"] == "partial"
            [gap] = issued["completeness"]["gaps"]
            assert (gap["archive"], gap["reason"]) == (OTHER, "not_a_member")
        finally:
            gateway.stop()


def test_a_stopping_gateway_answers_whoever_waits_and_ends_in_time(tmp_path: Path):
    holder = ScriptedArchive(HOLDER, [one_record()])
    holder.script = receive_only
    with ScriptedArchives(holder) as archives:
        gateway = Gateway(tmp_path, archives.roster())
        try:
            gateway.start()
            token = gateway.token()
            _s, case = gateway.request("/v1/cases", REQUEST, token=token, headers={"Idempotency-Key": "k"})
            until(
                lambda: gateway.get(f"/v1/cases/{case['id']}", token)[1]["state"] == "dispatched",
                "never dispatched",
            )
            headers = {"Authorization": f"Bearer {token}"}
            own = f"{gateway.url}/v1/cases/{case['id']}"
            ends: list[str] = []

            def wait(path: str, more: dict[str, str]) -> None:
                asked = urllib.request.Request(own + path, headers={**headers, **more})
                with urllib.request.urlopen(asked, timeout=60) as answer:
                    with contextlib.suppress(ValueError):
                        answer.read()
                    ends.append(path)

            waiting = [
                threading.Thread(target=wait, args=args)
                for args in (("", {"Prefer": "wait=60"}), ("/events", {"Last-Event-ID": "0"}))
            ]
            for one in waiting:
                one.start()
            until(lambda: gateway.metric("gw_http_requests_total") > 0, "no metrics")
            asyncio.run(
                asyncio.sleep(0.5)
            )  # both are waiting by now, or are answered at once: either is right
            began = time.monotonic()
            assert gateway.stop() == 0
            assert time.monotonic() - began < 20
            for one in waiting:
                one.join(20)
            assert sorted(ends) == ["", "/events"], "whoever waited has an answer, not a broken connection"
        finally:
            gateway.stop()
