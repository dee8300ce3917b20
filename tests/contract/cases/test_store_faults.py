"""What a database may do to the store: be locked, full, in use, or gone for a moment. All are named, none is for ever."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import pytest
import sqlalchemy as sa

from federation.reasons import Reason, Refusal
from gateway.cases.case import Event
from gateway.cases.states import Kind, State
from gateway.cases.store import Done, Store, StoreError, Unit
from loadtest.case_core import make_tables
from tests.fakes.case_stores import Stores, accept, agrees, dispatched, do, lease, made, told
from tests.fakes.cases import HOLDER, found, located


def names_the_store(result: Any) -> bool:
    return (
        isinstance(result, Refusal)
        and result.reason is Reason.STORE_UNAVAILABLE
        and bool(result.retry_after_s)
    )


def impatient(store: Store) -> list[sqlite3.Connection]:
    """Connections made from now on wait for a lock 50 ms instead of ten seconds; the list of them."""
    made: list[sqlite3.Connection] = []

    @sa.event.listens_for(store.engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout=50")
        made.append(connection)

    return made


def every_call(store: Store) -> list[Any]:
    return [
        lambda: store.claim(10), lambda: store.extend([("x", 1)]), store.release_all, lambda: store.wake("x"),
    ]  # fmt: skip


def test_a_second_process_on_one_file_is_refused_by_name(file: Stores):
    first = file.open("one")
    make_tables(first)
    with pytest.raises(StoreError, match="in use by another gateway process") as told_:
        file.open("two")
    assert "PostgreSQL" in str(told_.value)
    do(first, accept())
    file.close(first)
    assert file.open("two").case("case-00001") is not None


def test_a_locked_file_is_named_and_work_goes_on_when_it_is_free(file: Stores):
    store = file.open()
    impatient(store)
    make_tables(store)
    dispatched(store)
    other = sqlite3.connect(file.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    units = [accept(2), told("case-00001", Kind.CLAIMED), accept(3)]
    assert all(names_the_store(one) for one in store.transact(units))
    for call in every_call(store):
        with pytest.raises(Refusal) as refused:
            call()
        assert names_the_store(refused.value)
    assert store.case("case-00001").state is State.DISPATCHED, "reading goes on"
    other.execute("ROLLBACK")
    other.close()
    assert all(isinstance(one, Done) for one in store.transact(units))
    assert agrees(store.case("case-00001"), store.journal("case-00001"))


def test_a_locked_file_is_waited_for_once_not_once_for_each_unit(file: Stores):
    store = file.open()
    impatient(store)
    make_tables(store)
    other = sqlite3.connect(file.url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    begun: list[str] = []
    sa.event.listen(store.engine, "begin", lambda _connection: begun.append("begin"))
    assert all(names_the_store(one) for one in store.transact([accept(number) for number in range(1, 101)]))
    other.close()
    assert len(begun) <= 1


def test_a_full_disk_is_named_loses_nothing_and_ends(file: Stores):
    store = file.open()
    connections = impatient(store)
    make_tables(store)
    dispatched(store)

    def fill(pages: int) -> None:
        for connection in connections:
            connection.execute(f"PRAGMA max_page_count={pages}")

    fill(1)  # as many as there are
    accepted, refused = [], []
    for number in range(2, 60):
        results = store.transact([accept(number), told("case-00001", Kind.RECEIVED)])
        (accepted if isinstance(results[0], Done) else refused).append(number)
        assert all(isinstance(one, Done) or names_the_store(one) for one in results)
    assert refused
    for number in accepted:
        assert store.case(f"case-{number:05d}") is not None, "said to be durable"
    for number in refused:
        assert store.case(f"case-{number:05d}") is None
    assert agrees(store.case("case-00001"), store.journal("case-00001"))
    fill(1_000_000)
    assert all(isinstance(one, Done) for one in store.transact([accept(number) for number in refused]))
    assert do(store, told("case-00001", Kind.CLAIMED)).case.state is State.IN_REVIEW
    assert agrees(store.case("case-00001"), store.journal("case-00001"))


def test_errors_of_the_database_never_hold_what_a_case_holds(store: Store):
    """A row's values in an error's text would bring names into a log."""
    with store.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE journal"))
    [result] = store.transact([accept()])
    assert isinstance(result, Refusal)
    assert "錢偉明" not in f"{result} {result.__cause__}"
    assert "journal" in str(result.__cause__)


def test_a_server_that_drops_its_connections_is_named_and_work_goes_on(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    dispatched(store)
    cut(store)
    [lost] = store.transact([told("case-00001", Kind.CLAIMED)])
    assert names_the_store(lost)
    assert do(store, told("case-00001", Kind.CLAIMED)).case.state is State.IN_REVIEW
    assert agrees(store.case("case-00001"), store.journal("case-00001"))


def test_any_call_names_a_dropped_connection_and_the_next_one_works(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    for call in every_call(store):
        call()
        cut(store)
        with pytest.raises(Refusal) as refused:
            call()
        assert names_the_store(refused.value)
        call()
    store.next_due_ms()
    cut(store)
    with pytest.raises(Refusal) as refused:
        store.next_due_ms()
    assert names_the_store(refused.value)
    store.next_due_ms()


def test_a_row_somebody_holds_too_long_is_named_and_free_again_later(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    dispatched(store)

    @sa.event.listens_for(store.engine, "begin")
    def _impatient(connection: sa.Connection) -> None:
        connection.exec_driver_sql("SET LOCAL statement_timeout = 100")

    holder = sa.create_engine(replicas.url)
    with holder.connect() as other:
        other.execute(sa.text("SELECT * FROM cases FOR UPDATE"))
        results = store.transact([told("case-00001", Kind.CLAIMED), accept(2)])
        assert all(names_the_store(one) for one in results)
        assert store.case("case-00001").state is State.DISPATCHED, "reading goes on"
    holder.dispose()
    assert do(store, told("case-00001", Kind.CLAIMED)).case.state is State.IN_REVIEW


def test_reading_while_another_thread_writes_sees_whole_units_only(store: Store):
    dispatched(store)
    do(store, told("case-00001", Kind.CLAIMED))
    stop = threading.Event()
    torn: list[int] = []

    def look() -> None:
        while not stop.is_set():
            case = store.case("case-00001")
            lines = store.journal("case-00001")
            if len(lines) < case.version or not agrees_up_to(case.version, lines):
                torn.append(case.version)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(60):
        do(store, told("case-00001", Kind.CLAIMED))
    stop.set()
    reader.join(10)
    assert torn == []


def agrees_up_to(version: int, lines: list[Any]) -> bool:
    return [entry.seq for entry in lines][:version] == list(range(1, version + 1))


def cut(store: Store) -> None:
    """End all connections of the store but this one, as a restart of the server does."""
    other = sa.create_engine(store.engine.url)
    with other.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()


# a COMMIT whose answer is lost ---------------------------------------------------------------------------------


def lose_the_next_commits_answer(store: Store) -> None:
    """The server commits, and the connection dies before it can say so."""
    dialect = store.engine.dialect
    commit = dialect.do_commit

    def answer_lost(connection: Any) -> None:
        dialect.do_commit = commit  # type: ignore[method-assign]
        commit(connection)
        cut(store)
        connection.execute("SELECT 1")  # whoever waits for the answer finds out now

    dialect.do_commit = answer_lost  # type: ignore[method-assign]


def test_an_accepted_case_whose_commit_was_not_answered_is_the_same_case_when_sent_again(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    made(store, 9)  # a connection that is already there
    lose_the_next_commits_answer(store)
    [lost] = store.transact([accept(1, key="k", digest="d")])
    assert names_the_store(lost), "it must not be called accepted, nor failed for good"
    again = do(store, accept(2, key="k", digest="d"))
    assert (again.status, again.case.id) == ("replayed", "case-00001")
    replicas.clock.go(3.1)
    assert "case-00001" in {task.case_id for task in store.claim(10)}, (
        "its search is nobody's: it is taken up"
    )


def test_a_desks_word_whose_commit_was_not_answered_counts_once(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    case = dispatched(store).case.id
    word = Unit(case, Event(Kind.APPROVED, HOLDER, {"number": "n"}), message="m1")
    lose_the_next_commits_answer(store)
    [lost] = store.transact([word])
    assert names_the_store(lost)
    assert do(store, word).status == "duplicate"
    assert agrees(store.case(case), store.journal(case))


def test_a_leased_result_whose_commit_was_not_answered_is_fenced_when_written_again(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    [search] = do(store, accept()).tasks
    result = Unit("case-00001", located({HOLDER: "hit"}, [found()]), lease=lease(search))
    lose_the_next_commits_answer(store)
    [lost] = store.transact([result])
    assert names_the_store(lost)
    assert do(store, result).status == "fenced"
    assert [entry.kind for entry in store.journal("case-00001")] == [Kind.ACCEPTED, Kind.LOCATED]


def test_a_batch_whose_commit_was_not_answered_is_told_unknown_to_all_and_applied_once(replicas: Stores):
    store = replicas.open()
    make_tables(store)
    made(store, 99)
    lose_the_next_commits_answer(store)
    units = [accept(number, key=f"k{number}", digest="d") for number in range(1, 30)]
    assert all(names_the_store(one) for one in store.transact(units))
    assert {one.status for one in store.transact(units) if isinstance(one, Done)} == {"replayed"}
