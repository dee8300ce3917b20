"""The register of short codes over both databases, filled by what archives' desks say."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from federation import mail, short_code
from federation.mail import Paper
from gateway.adapters.register import StoredRegister
from gateway.cases.upkeep import Keep
from gateway.cases.writer import ThreadedWriter
from gateway.evidence.register import registered
from tests.fakes.cases import HOLDER, CountingObserver
from tests.fakes.evidence_sides import NUMBER, sides

URI = "https://gateway.example/v1/status-lists/330483"


def issued(code: str = "", **changes) -> mail.Issued:
    paper = Paper(code or short_code.new(), "2026-11-25", URI, 7)
    said = {"number": NUMBER, "group": 1, "document": "ab" * 32, "form": "certified_copy", "paper": paper}
    return mail.Issued(**{**said, **changes})


async def test_on_both_databases_a_code_is_kept_once_and_found(store):
    writer = ThreadedWriter(store, CountingObserver())
    register, first = StoredRegister(store, writer), registered(HOLDER, "case-1", issued())
    await asyncio.gather(*[register.keep(replace(first, case_id=f"case-{number}")) for number in range(1, 4)])
    assert await register.by_code(first.short_code) == first
    assert await register.by_number(HOLDER, NUMBER) == first
    await writer.close()


@contextlib.asynccontextmanager
async def registering(folder, counts=None):
    async with sides(folder, counts=counts) as both:
        register = StoredRegister(both.core.store, both.core.writer)
        both.evidence._register = register
        case = await both.accept("1")
        while not both.logged(case, "dispatched"):
            await asyncio.sleep(0.01)
        assert await both.say(case, mail.Approved(number="2026-1", group=1)) == ""
        yield both, register, case


async def test_what_an_archive_says_it_issued_is_found_by_its_code_before_the_archive_is_receipted(tmp_path):
    async with registering(tmp_path) as (both, register, case):
        message = issued()
        assert await both.say(case, message) == ""
        found = await register.by_code(message.paper.short_code)
        assert found == registered(HOLDER, case.id, message)
        assert (found.archive, found.number, found.issued_on) == (HOLDER, NUMBER, "2026-11-25")
        assert (found.status.uri, found.status.index) == (URI, 7)
        assert await register.by_number(HOLDER, NUMBER) == found
        assert await register.by_number("330402", NUMBER) is None
        assert await register.by_code(short_code.new()) is None
        assert both.core.store.case(case.id).decision["short_code"] == message.paper.short_code


async def test_a_code_stays_what_it_was_first_said_to_be(tmp_path):
    async with registering(tmp_path) as (both, register, case):
        message = issued()
        assert await both.say(case, message) == ""
        await register.keep(registered(HOLDER, "another", issued(message.paper.short_code)))
        assert (await register.by_code(message.paper.short_code)).case_id == case.id


async def test_what_could_not_be_registered_is_not_receipted_and_comes_again(tmp_path):
    async with registering(tmp_path) as (both, register, case):
        keep, message, answers = register.keep, issued(), []

        def broken(_one):
            future = asyncio.get_running_loop().create_future()
            future.set_exception(OSError("disk full"))
            return future

        register.keep = broken
        name = mail.mail_id("x")
        both.core.cases.desk_said(HOLDER, name, case.id, mail.write(message), answers.append)
        while not both.logged(case, "document_issued"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert answers == []
        register.keep = keep
        both.core.cases.desk_said(HOLDER, name, case.id, mail.write(message), answers.append)
        while not answers:
            await asyncio.sleep(0.01)
        assert answers == [""]
        assert await register.by_code(message.paper.short_code) is not None


async def test_forgetting_leaves_the_register_alone(tmp_path):
    async with registering(tmp_path) as (both, register, case):
        message = issued()
        assert await both.say(case, message) == ""
        await both.core.cases.delivered(both.core.store.case(case.id))
        await both.core.writer.call(
            lambda store: store.tidy(Keep(tasks=-1, personal_data=-1, requests=-1, messages=-1))
        )
        await both.core.writer.call(
            lambda store: store.tidy(Keep(tasks=-1, personal_data=-1, requests=-1, messages=-1))
        )
        assert both.core.store.case(case.id).forgotten_ms
        assert await register.by_code(message.paper.short_code) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"paper": None},
        {"paper": Paper("0" * 14 + "1", "2026-11-25", URI, 7)},
        {"paper": Paper(short_code.grouped(short_code.new()), "2026-11-25", URI, 7)},
        {"paper": Paper(short_code.new(), "2026-11-25<b>", URI, 7)},
        {"paper": Paper(short_code.new(), "2026-11-25", URI, -1)},
        {"paper": Paper(short_code.new(), "2026-11-25", "x" * 600, 7)},
        {"number": "330402-2026-000001"},
        {"number": f"{HOLDER}-2026-王芳"},
        {"form": "passport"},
    ],
)  # fmt: skip
def test_what_no_archive_writes_is_not_registered(changes):
    assert registered(HOLDER, "case-1", issued(**changes)) is None
    assert registered(HOLDER, "case-1", issued()) is not None
