"""`lantai-node search`: one answer a line for one query a line; a bad line is answered by name and the next goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from federation.dates import DateSpan
from federation.query import Query
from federation.reasons import TEXTS, Reason
from node_agent.__main__ import main
from node_agent.index import Lookup, Part, open_for_import
from node_agent.record import Person, Record


def ask(folder, tmp_path, lines):
    queries = tmp_path / "queries.jsonl"
    queries.write_bytes(b"\n".join(lines) + b"\n")
    done = subprocess.run(
        [sys.executable, "-m", "node_agent", "search", "--data", str(folder), "--queries", str(queries), "--json"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done, [json.loads(line) for line in done.stdout.splitlines()]


def test_good_and_bad_lines(tmp_path):
    folder = tmp_path / "archive"
    with open_for_import(folder) as importer:
        held = Record("student", "J1-2", "", "王芳学籍卡", (Person("王芳"),))
        importer.put("a.csv", bytes(16), [Part("", ("x",), [held])])
    lines = [
        json.dumps({"id": "1", "category": "student", "name": "王芳"}, ensure_ascii=False).encode(),
        b"{not json",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"id": "deep", "name": ' + b'{"a":' * 100_000,
        json.dumps({"id": "3", "category": "no such"}).encode(),
        json.dumps({"id": "4", "category": "student", "name": "不在"}, ensure_ascii=False).encode(),
    ]
    done, answers = ask(folder, tmp_path, lines)
    assert len(answers) == len(lines)
    assert answers[0]["id"] == "1"
    assert answers[0]["candidates"][0]["archival_code"] == "J1-2"
    assert {"score", "level", "explanation"} <= answers[0]["candidates"][0].keys()
    assert [one.get("error", "") != "" for one in answers] == [False, True, True, True, True, True, False]
    assert answers[3]["error"] == answers[4]["error"] == "too_deep"
    assert answers[6]["candidates"] == []
    assert answers[6]["decision"] == "none"
    assert [one.get("line") for one in answers] == [None, 2, 3, 4, 5, 6, None]
    assert done.returncode == 1
    assert "未能查询" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [{"title": "结婚登记"}, {"archival_code": "J1-1"}])
def test_of_more_records_of_a_title_or_code_than_are_wanted_the_rest_of_the_question_tells_the_best(
    tmp_path, words
):
    held = [
        Record("marriage", f"J1-1-{number}", "", "结婚登记申请书", (Person("王芳"),), DateSpan.of_year(1950 + number))
        for number in range(40)
    ]  # fmt: skip
    with open_for_import(tmp_path) as importer:
        importer.put("a.csv", bytes(16), [Part("", ("x",), held)])
    lookup = Lookup(tmp_path)
    answer = lookup.search(Query(event=DateSpan.of_year(1985), **words), limit=5)
    lookup.close()
    assert answer.found[0].code == "J1-1-35"
    assert answer.truncated


@pytest.fixture
def archive(tmp_path):
    """The folder of an archive that holds one record."""
    with open_for_import(tmp_path / "archive") as importer:
        held = Record("student", "J1-2", "", "王芳学籍卡", (Person("王芳"),))
        importer.put("a.csv", bytes(16), [Part("", ("x",), [held])])
    return tmp_path / "archive"


def asked(archive, capsys, *flags):
    """Exit status and output of one search."""
    status = main(["search", "--data", str(archive), *flags])
    return status, capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (("--from", "abcd"), "from"),
        (("--from", "1999", "--to", "1990"), "to"),
        (("--birth", "1963-13"), "birth"),
    ],
)
def test_a_question_that_is_wrong_names_the_field_in_two_languages(archive, capsys, flags, field):
    status, said = asked(archive, capsys, "--name", "王芳", *flags)
    assert status == 1
    text = TEXTS[Reason.IMPOSSIBLE_DATE]
    assert said == f"{text.zh} · {text.en}: {field}\n"


def test_an_answer_says_its_decision_and_each_candidates_in_two_languages(archive, capsys):
    status, said = asked(archive, capsys, "--name", "王芳")
    heading, candidate = said.splitlines()
    assert status == 0
    assert heading.endswith(", 候选 candidates: 1")
    decision = heading.split(",")[0]
    assert decision in {"很可能 likely", "可能 possible"}
    assert f"  {decision}  J1-2" in candidate


def test_what_was_not_compared_is_said(archive, capsys):
    flags = ("--name", "王芳", "--id-number", "123", "--place", "火星")
    _status, said = asked(archive, capsys, *flags)
    assert [line.rpartition(": ")[2] for line in said.splitlines() if "未参与比对" in line] == [
        "id_number",
        "place",
    ]
    _status, said = asked(archive, capsys, *flags, "--json")
    assert json.loads(said)["ignored"] == ["/id_number", "/place"]
    _status, said = asked(
        archive, capsys, "--name", "王芳", "--id-number", "330483196305120017", "--place", "桐乡"
    )
    assert "未参与比对" not in said


def test_without_an_index_it_says_what_to_do(tmp_path):
    done, _answers = ask(tmp_path / "nothing", tmp_path, [b"{}"])
    assert done.returncode != 0
    assert "import" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("limit", ["0", "-5", "1001", "²", "9" * 5_000, "x"])
def test_no_candidates_are_not_asked_for_and_told_as_none_found(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-m", "node_agent", "search", "--data", str(tmp_path), "--name", "王芳", f"--limit={limit}"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "must be 1 to" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize("command", ["gateway openapi", "node_agent search --data {} --queries -"])
def test_a_reader_who_has_seen_enough_is_no_error(tmp_path, command):
    with open_for_import(tmp_path) as importer:
        importer.put(
            "a.csv", bytes(16), [Part("", ("x",), [Record("student", "J1-2", "", "", (Person("王芳"),))])]
        )
    asked = subprocess.Popen(
        [sys.executable, "-m", *command.format(tmp_path).split()],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    asked.stdout.close()
    _out, said = asked.communicate(b'{"name": "x"}\n' * 10, timeout=60)
    assert said == b""


def test_an_interrupted_search_says_so_in_one_line(tmp_path):
    with open_for_import(tmp_path) as importer:
        importer.put(
            "a.csv", bytes(16), [Part("", ("x",), [Record("student", "J1-2", "", "", (Person("王芳"),))])]
        )
    asked = subprocess.Popen(
        [sys.executable, "-u", "-m", "node_agent", "search", "--data", str(tmp_path), "--queries", "-", "--json"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - tests in the background ignore it
    )  # fmt: skip
    asked.stdin.write(b"{}\n" * 10)
    asked.stdin.flush()
    assert [asked.stdout.readline() for _ in range(10)][-1]
    asked.send_signal(signal.SIGINT)
    _out, said = asked.communicate(timeout=60)
    assert asked.returncode == 130
    assert len(said.splitlines()) == 1
