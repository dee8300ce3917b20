"""The demo has its folder to itself, and says which of its processes has ended."""

from __future__ import annotations

import subprocess
import sys

from examples.jiaxing import demo
from loadtest.fleet import Archive, Fleet


def test_a_second_demo_says_so_in_one_line_and_touches_nothing(tmp_path):
    with demo.alone(tmp_path):
        second = subprocess.run(
            [sys.executable, "-m", "examples.jiaxing.demo", "--once", "--folder", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert second.returncode == 1
    assert second.stdout == ""
    assert len(second.stderr.splitlines()) == 1
    assert "another demo is running" in second.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    with demo.alone(tmp_path):  # free again
        pass


def test_a_process_that_ended_is_named_once(tmp_path, capsys):
    fleet = Fleet(tmp_path, [Archive("330402", "南湖区档案馆"), Archive("330400", "嘉兴市档案馆")])
    told: set[str] = set()
    fleet.start_agent("330402")  # it has no data folder, so it ends
    fleet._processes["330402"].wait(60)
    for _look in range(2):
        demo.tell_ended(fleet, told)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("330402 南湖区档案馆 已退出 · has ended: 1")
