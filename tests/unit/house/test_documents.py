"""What the documents say is so: every setting is described, every target listed, every link leads somewhere, every term of
the code stands in the glossary.
"""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics import MetricWrapperBase

from federation.outcome import NotAsked, Outcome
from gateway import telemetry as gateway_telemetry
from gateway.edge.server import openapi
from gateway.search import roster
from gateway.settings import GatewaySettings
from node_agent import telemetry as node_telemetry
from node_agent.doctor.commands import CHECKS
from node_agent.settings import NodeSettings

ROOT = Path(__file__).resolve().parents[3]
GLOSSARY = ROOT / "docs" / "glossary.md"
FOLDERS = (
    "docs",
    "examples",
    "federation",
    "gateway",
    "helm",
    "loadtest",
    "node_agent",
    "proto",
    "tests",
    "tools",
)
PACKAGES = [ROOT / name for name in ("gateway", "node_agent", "federation", "loadtest")]
SOURCES = [
    *(path for package in PACKAGES for path in sorted(package.rglob("*.py")) if "_pb2" not in path.name),
    *sorted((ROOT / "proto").rglob("*.proto")),
]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def described(heading):
    """Keys in the settings table under a heading of docs/operations.md, `[table]` ones by name."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    tables = re.findall(
        r"^\| key \| meaning \|\n((?:\|.*\n)+)", section, re.MULTILINE
    )  # others tell other things
    first_cells = re.findall(r"^\| (`.*?) \|", "".join(tables), re.MULTILINE)
    return {key.strip("[]") for cell in first_cells for key in re.findall(r"`(\[?\w+\]?)`", cell)}


@pytest.mark.parametrize(
    ("settings", "heading"), [(GatewaySettings, "Gateway"), (NodeSettings, "Node agent")]
)
def test_every_setting_is_described_and_no_other(settings, heading):
    assert described(heading) >= set(settings.model_fields)
    assert not described(heading) - set(settings.model_fields)


def metrics_of(telemetry):
    """{name: (kind, labels, meaning)} of the metrics a telemetry module declares."""
    declared = [one for one in vars(telemetry).values() if isinstance(one, MetricWrapperBase)]
    kinds = [(metric, next(iter(metric.describe()))) for metric in declared]
    return {
        f"{told.name}_total" if told.type == "counter" else told.name: (
            told.type,
            ", ".join(f"`{label}`" for label in metric._labelnames),
            told.documentation,
        )
        for metric, told in kinds
    }


def test_the_table_of_metrics_is_what_the_two_processes_declare():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").split("\n## Metrics\n", 1)[1]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.*) \|$", text, re.MULTILINE)
    assert len(rows) == len({row[0] for row in rows})
    assert {name: (kind, labels, meaning) for name, kind, labels, meaning in rows} == {
        **metrics_of(gateway_telemetry),
        **metrics_of(node_telemetry),
    }


def test_a_bare_make_lists_every_target():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert len(targets) >= 8
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert sorted(phony.group(1).split()) == sorted(targets)
    for target in targets:
        assert re.search(rf"^  make {target}\s+\S.*[\u4e00-\u9fff].* · [a-z.]", listed, re.MULTILINE), target


def test_every_key_of_the_roster_is_described():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    row = re.search(r"^\| `roster` \|.*$", text, re.MULTILINE)
    assert row is not None
    assert set(re.findall(r"\w+", row.group())) >= roster._KEYS


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_files_that_documents_name_exist(path):
    for named in re.findall(
        rf"`((?:{'|'.join(FOLDERS)})/[\w/-]+(?:\.(?:py|md|toml|proto|yaml))?)[`/ ]", path.read_text("utf-8")
    ):
        assert (ROOT / named).exists(), named


def test_what_the_glossary_names_in_code_exists():
    rows = re.findall(r"^\|[^|]+\|[^|]+\|[^|]+\|([^|]*)\|$", GLOSSARY.read_text("utf-8"), re.MULTILINE)
    symbols = {symbol for row in rows for symbol in re.findall(r"`([^`]+)`", row)}
    assert len(symbols) > 100
    known, text = names_in_code(), "\n".join(path.read_text("utf-8") for path in SOURCES)
    assert {symbol for symbol in symbols if not exists(symbol, known, text)} == set()


def exists(symbol, known, text):
    """Whether a glossary's symbol is a file, a folder, a flag, or a name: of a class, or after one that holds it."""
    if "/" in symbol:
        return any((base / symbol).exists() for base in (ROOT, *PACKAGES))
    if not re.fullmatch(r"[A-Za-z_.]+", symbol):
        return symbol in text
    *outer, last = symbol.split(".")
    if not outer:
        return last in known or (ROOT / last).is_dir()
    if outer[-1][0].isupper():
        return last in known.get(outer[-1], ())
    return last in known  # a module before it


def names_in_code():
    """Every name of a module's top level, message or setting, each with what it holds."""
    known = {}
    for path in SOURCES:
        if path.suffix == ".proto":
            for message, body in re.findall(
                r"^message (\w+) \{(.*?)^\}", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
            ):
                known.setdefault(message, set()).update(re.findall(r"(\w+) = \d+", body))
            continue
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef):
                known.setdefault(node.name, set()).update(held_by(node))
            known.update((name, known.get(name, set())) for name in bound_by(node))
    for member in set().union(*known.values()):
        known.setdefault(member, set())
    return known


def held_by(node):
    """Fields, methods and attributes of a class."""
    for one in ast.walk(node):
        if isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store):
            yield one.attr
        else:
            yield from bound_by(one)


def bound_by(node):
    """The names a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (
            one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)
        )


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text("utf-8")):
        if "://" not in target:
            assert (path.parent / target).exists(), target


def test_the_glossary_names_what_the_protocol_names():
    glossary = (ROOT / "docs" / "glossary.md").read_text("utf-8")
    for term in (
        "`Roster`",
        "`Manifest`",
        "`Frame`",
        "`SubRequest`",
        "`Circuit`",
        "`Completeness`",
        "`Outcome`",
    ):
        assert term in glossary, term
    terms = [
        term.strip().lower()
        for row in re.findall(r"^\| ([^|]+?) \| [^|]+ \| [^|]+ \|", glossary, re.MULTILINE)
        for term in row.split(",")
        if row not in {"term", "---"}
    ]
    assert sorted(terms) == sorted(set(terms)), "a term is defined twice"


def test_the_contract_knows_every_outcome_and_every_reason_for_not_asking():
    schemas = openapi()["components"]["schemas"]
    told = schemas["Outcome"]["properties"]
    assert set(schemas["OutcomeWord"]["enum"]) == {one.value for one in Outcome}
    assert {one.value for one in NotAsked} <= set(re.findall(r"\w+", told["reason"]["description"]))


def test_every_check_of_doctor_is_described():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").split("\n### Is all well\n", 1)[1]
    table = text.split("\n### ", 1)[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert [name for cell in cells for name in re.findall(r"`(\w+)`", cell)] == list(CHECKS)
