"""Every command and every flag says in both languages what it is."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from examples.jiaxing import demo
from federation.process.version import VERSION
from gateway import __main__ as gateway
from loadtest import __main__ as loadtest
from node_agent import __main__ as node

ROOT = Path(__file__).resolve().parents[3]


def parsers() -> Iterator[argparse.ArgumentParser]:
    """One of every command line of ours, a node agent's commands each with its own flags."""
    yield gateway._parser()
    yield demo._parser()
    yield loadtest._parser()
    for command in node.COMMANDS:
        yield node._parser(command)
    yield import_module("federation.verify.__main__")._parser()


def below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from below(one)


def in_both_languages(text: str | None) -> bool:
    return bool(text and re.search(r"[\u4e00-\u9fff]", text) and re.search(r"[A-Za-z]{2}", text))


def test_every_command_and_every_flag_is_described_in_both_languages():
    silent = []
    for parser in (one for top in parsers() for one in below(top)):
        if not in_both_languages(parser.description):
            silent.append(parser.prog)
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                silent += [
                    f"{parser.prog} {one.dest}"
                    for one in action._choices_actions
                    if not in_both_languages(one.help)
                ]
            elif not isinstance(action, argparse._HelpAction) and not in_both_languages(action.help):
                silent.append(f"{parser.prog} {'/'.join(action.option_strings) or action.dest}")
    assert sorted(set(silent)) == []


@pytest.mark.parametrize("module", ["gateway", "node_agent", "federation.verify"])
def test_every_command_tells_its_version(module):
    told = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.split()[-1] == VERSION
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == VERSION
