"""The rules of the house can fail: a planted violation is found, the stubs are fresh, nothing foreign is named."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("federation", "gateway", "node_agent")


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command as run; run()"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"},
    )


@pytest.fixture
def copy(tmp_path):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


RUNNING = "running a process needs no word of what it computes but the reasons"
CASE_STORE = "case store: each module leans on those beneath it"
CATALOGUE = "catalogue: each module leans on those before it in docs/architecture.md"
PLANTED = [
    ("the two processes stay apart", "gateway/search/ports.py", "import node_agent.record"),
    ("the kernel leans on neither process", "federation/outcome.py", "import gateway.search.ports"),
    (RUNNING, "federation/process/durable.py", "import federation.query"),
    (RUNNING, "federation/nowhere.py", ""),
    ("gateway: imports point inward", "gateway/search/ports.py", "import gateway.edge.server"),
    (CASE_STORE, "gateway/cases/statements.py", "import gateway.cases.batch"),
    (CASE_STORE, "gateway/cases/upkeep.py", "import gateway.cases.store"),
    (CASE_STORE, "gateway/cases/minutes.py", "import gateway.cases.scorecard"),
    (CASE_STORE, "gateway/cases/nowhere.py", ""),
    ("node agent: imports point inward", "node_agent/record.py", "import node_agent.__main__"),
    (CATALOGUE, "node_agent/catalogue/headings.py", "import node_agent.catalogue.mapping"),
    (CATALOGUE, "node_agent/catalogue/nowhere.py", ""),
]


def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize(("contract", "file", "line"), PLANTED)
def test_a_planted_import_is_found(copy, contract, file, line):
    """In a module that is there, or a module nobody has given a place."""
    path = copy / file
    with path.open("a", encoding="utf-8") as module:
        module.write(f"\n{line}\n")
    found = _lint_imports(copy)
    assert found.returncode != 0
    assert f"{contract} BROKEN" in found.stdout


def test_every_contract_is_seen_to_fail():
    assert {contract["name"] for contract in contracts()} == {contract for contract, _, _ in PLANTED}


@pytest.mark.parametrize(
    ("contract", "opening"),
    [(CASE_STORE, "in `gateway/cases`; each module"), (CATALOGUE, "Each module of `node_agent/catalogue`")],
)
def test_the_architecture_names_the_modules_of_a_contract_and_their_order_holds(contract, opening):
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").split(opening, 1)[1]
    table = re.findall(r"^\| (.*?) \| .* \|$", text.split("\n\n")[1], re.MULTILINE)
    told = [name.removesuffix(".py") for cell in table for name in re.findall(r"`(\w+(?:\.py)?)`", cell)]
    (found,) = [one for one in contracts() if one["name"] == contract]
    layers = [name for layer in found["layers"] for name in re.findall(r"\w+", layer)]
    assert sorted(told) == sorted(layers)
    (container,) = found["containers"]
    graph = grimp.build_graph(container.split(".")[0])
    for place, name in enumerate(told):
        module = f"{container}.{name}"
        leans_on = graph.find_upstream_modules(module, as_package=True) & {
            f"{container}.{one}" for one in told[place + 1 :]
        }
        assert not leans_on, module


def test_a_planted_use_of_the_systems_temporary_folder_is_found(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in (*PACKAGES, "loadtest"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "planted.py").write_text("from tempfile import mkdtemp\n", "utf-8")
    found = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "--select=TID251", "."],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert sorted(re.findall(r"^(\w+)/planted\.py:.* TID251", found.stdout, re.MULTILINE)) == sorted(PACKAGES)


def test_stubs_equal_the_proto():
    done = subprocess.run(
        [sys.executable, "tools/generate_stubs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr


def test_stubs_that_are_not_the_protos_are_found(tmp_path):
    """`make proto` twice gives the same bytes; an edited stub does not pass."""
    for name in ("federation", "proto", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    def stubs(*arguments):
        return subprocess.run(
            [sys.executable, "tools/generate_stubs.py", *arguments],
            cwd=tmp_path,
            capture_output=True,
            timeout=60,
            env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
        ).returncode

    def made():
        folder = tmp_path / "federation" / "wire" / "v1"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}

    committed = made()
    assert stubs() == 0
    assert made() == committed
    edited = tmp_path / "federation" / "wire" / "v1" / "holdings_pb2.pyi"
    edited.write_text(edited.read_text("utf-8") + "# edited\n", "utf-8")
    assert stubs("--check") != 0


def test_no_index_address_and_no_path_of_a_machine():
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=True
    ).stdout
    foreign = re.compile(
        rb"(pypi\.org|pythonhosted|registry\.npm|index-url|/home/\w+/|/root/|/work/(main|shared))"
    )
    here = Path(__file__).relative_to(ROOT).as_posix()
    named = [name for name in tracked.decode().split("\0") if name and name != here]
    assert [
        name for name in named if (ROOT / name).is_file() and foreign.search((ROOT / name).read_bytes())
    ] == []
