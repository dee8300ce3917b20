"""`lantai-node search`: one answer a line for one query a line; a bad line is answered by name and the next goes on."""

from __future__ import annotations

import json
import subprocess
import sys

from node_agent.index import Part, open_for_import
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
        json.dumps({"id": "3", "category": "no such"}).encode(),
        json.dumps({"id": "4", "category": "student", "name": "不在"}, ensure_ascii=False).encode(),
    ]
    done, answers = ask(folder, tmp_path, lines)
    assert len(answers) == len(lines)
    assert answers[0]["id"] == "1"
    assert answers[0]["candidates"][0]["archival_code"] == "J1-2"
    assert {"score", "level", "explanation"} <= answers[0]["candidates"][0].keys()
    assert [one.get("error", "") != "" for one in answers] == [False, True, True, True, False]
    assert answers[4]["candidates"] == []
    assert answers[4]["decision"] == "none"
    assert "Traceback" not in done.stderr


def test_without_an_index_it_says_what_to_do(tmp_path):
    done, _answers = ask(tmp_path / "nothing", tmp_path, [b"{}"])
    assert done.returncode != 0
    assert "import" in done.stderr
    assert "Traceback" not in done.stderr
