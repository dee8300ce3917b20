"""The container file, held against the repository and the charts as far as that goes without a container engine."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest
import yaml

from tests.chart.conftest import GATEWAY, NODE, ROOT, of_kind, values_of

FILE = ROOT / "helm" / "Containerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def instructions() -> list[tuple[str, str, str]]:
    """(stage, instruction, arguments) in order; "" before the first stage."""
    text = re.sub(r"^#.*\n", "", FILE.read_text("utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found, stage = [], ""
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            image, as_, stage = rest.split()
            assert as_ == "AS"
            rest = image
        found.append((stage, word, " ".join(rest.split())))
    return found


def bases(stage: str) -> list[str]:
    """A stage and those it stands on."""
    (image,) = [rest for name, word, rest in instructions() if name == stage and word == "FROM"]
    return [stage, *(bases(image) if image != "${BASE}" else [])]


def copied() -> list[str]:
    return [
        source
        for _, word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in shlex.split(rest)[:-1]
    ]


def test_all_that_is_copied_is_there_and_nothing_else_reaches_a_builder():
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(copied())
    tracked = subprocess.run(
        ["git", "ls-files", "-z", *copied()], cwd=ROOT, capture_output=True, check=True, timeout=30
    ).stdout.decode()
    for source in copied():
        assert any(name == source or name.startswith(f"{source}/") for name in tracked.split("\0")), source


def test_a_stage_takes_from_those_before_it():
    before: list[str] = []
    for stage, word, rest in instructions():
        if word == "FROM":
            assert rest in {"${BASE}", *before}
            before.append(stage)
        if word == "COPY" and rest.startswith("--from"):
            source, where, to = rest.removeprefix("--from=").split()
            assert source in before
            assert where == to  # an environment stays where it was made


def test_no_registry_stands_in_it():
    (base,) = [rest for _, word, rest in instructions() if word == "ARG"]
    assert re.fullmatch(r"BASE=[a-z]+:[\w.-]+", base)


def test_what_is_installed_is_pinned_and_its_extras_exist():
    (command,) = [rest for _, word, rest in instructions() if word == "RUN" and "pip install" in rest]
    assert "-c constraints.txt" in command
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", command)
    wanted = list(PROJECT["project"]["dependencies"])
    for extra in extras.split(","):
        wanted += PROJECT["project"]["optional-dependencies"][extra]
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower().replace("_", "-")
    for requirement in wanted:
        name = re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-")
        assert re.search(rf"^{re.escape(name)}==", pins, re.MULTILINE), name


@pytest.mark.parametrize(
    ("target", "chart", "command"), [("gateway", "gateway", "lantai-gateway"), ("node", "node-agent", "lantai-node")]
)  # fmt: skip
def test_a_target_is_what_its_chart_runs(render, target, chart, command):
    said = {word: rest for name, word, rest in instructions() if name == target}
    assert json.loads(said["ENTRYPOINT"]) == [command]
    assert command in PROJECT["project"]["scripts"]
    values = yaml.safe_load((ROOT / "helm" / chart / "values.yaml").read_text("utf-8"))
    assert said["USER"] == f"{values['runAs']['user']}:{values['runAs']['group']}"
    assert values["image"]["repository"] == command
    name, *_ = (GATEWAY, NODE)[chart == "node-agent"]
    for workload in of_kind(render(chart, values_of(chart, name)), "StatefulSet", "Job"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            assert container["command"][0] == command
    environment = [rest for stage, word, rest in instructions() if word == "ENV" and stage in bases(target)]
    assert any("PATH=/opt/lantai/bin:" in line for line in environment)
    for document in (FILE, ROOT / "docs" / "runbooks" / "helm.md"):
        assert f"-f helm/Containerfile --target {target} -t {command}:" in document.read_text("utf-8")


def test_what_the_packages_need_beside_python_is_packaged():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    names = subprocess.run(
        ["git", "ls-files", "-z", "federation", "gateway", "node_agent"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout.decode()
    files = [name.rsplit("/", 1)[-1] for name in names.split("\0") if name]
    left = {name for name in files if not any(fnmatch(name, one) for one in ("*.py", *patterns))}
    assert left == {"README.md"}  # of the tables of names, for who maintains them
