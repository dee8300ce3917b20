"""Values of the case core as rows of its tables, and rows as values again."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.cases.case import Case, Entry, Stopped, StoppedCase, Task, decode_data, encode_data
from gateway.cases.states import Kind, State

Row = dict[str, Any]

_decode_spent = msgspec.json.Decoder(dict[str, int]).decode


def of_case(case: Case, raw: bytes) -> Row:
    """`raw` is the case encoded."""
    return {
        "id": case.id,
        "client": case.client,
        "created_ms": case.created_ms,
        "version": case.version,
        "state": case.state.value,
        "stage": case.stage.value,
        "holder": case.holder,
        "ended_ms": case.ended_ms or None,
        "wake_at": case.wake_at_ms or None,
        "data": raw.decode(),
        "kept": 0,
    }


def of_entry(case_id: str, entry: Entry) -> Row:
    return {
        "case_id": case_id,
        "seq": entry.seq,
        "at_ms": entry.at_ms,
        "kind": entry.kind.value,
        "actor": entry.actor,
        "state": entry.state.value,
        "stage": entry.stage,
        "data": encode_data(entry.data).decode(),
    }


def of_task(task: Task, now_ms: int, owner: str, visible_at: int) -> Row:
    """A task ordered now: nobody's where `owner` is "", due, or up for another owner, at `visible_at`."""
    return {
        "id": task.id,
        "case_id": task.case_id,
        "kind": task.kind,
        "target": task.target,
        "visible_at": visible_at,
        "owner": owner,
        "fence": task.fence,
        "attempts": task.attempts,
        "dead": 0,
        "payload": encode_data(task.payload).decode(),
        "ordered_ms": now_ms,
    }


def of_result(case: Case, stopped: Stopped, now_ms: int) -> Row:
    """The case's clock has stopped now."""
    return {
        "case_id": case.id,
        "holder": case.holder,
        "scope": stopped.scope,
        "outcome": stopped.outcome,
        "state": case.state.value,
        "stopped_ms": now_ms,
        "counted_ms": stopped.counted_ms,
        "spent": encode_data(case.spent_ms).decode(),
    }


def task(row: Any) -> Task:
    """DecodeError or UnicodeError when nobody can read its payload."""
    return Task(
        row.id,
        row.case_id,
        row.kind,
        row.target,
        row.visible_at,
        decode_data(row.payload),
        row.attempts,
        row.fence,
        row.ordered_ms,
    )


def entry(row: Any) -> Entry:
    return Entry(
        row.seq, row.at_ms, Kind(row.kind), row.actor, State(row.state), row.stage, decode_data(row.data)
    )


def stopped_case(row: Any) -> StoppedCase:
    """DecodeError or UnicodeError when nobody can read what it spent."""
    return StoppedCase(
        row.outcome, row.scope, row.state, row.stopped_ms, row.counted_ms, _decode_spent(row.spent)
    )
