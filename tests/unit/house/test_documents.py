"""What the documents say is so: every setting is described, every target listed, every link leads somewhere, every term of
the code stands in the glossary.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from federation.outcome import NotAsked, Outcome
from gateway.edge.server import openapi
from gateway.settings import GatewaySettings
from node_agent.settings import NodeSettings

ROOT = Path(__file__).resolve().parents[3]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def described(heading):
    """Keys in the settings table under a heading of docs/operations.md, `[table]` ones by name."""
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    section = text.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    first_cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return {key.strip("[]") for cell in first_cells for key in re.findall(r"`(\[?\w+\]?)`", cell)}


@pytest.mark.parametrize(
    ("settings", "heading"), [(GatewaySettings, "Gateway"), (NodeSettings, "Node agent")]
)
def test_every_setting_is_described_and_no_other(settings, heading):
    assert described(heading) >= set(settings.model_fields)
    assert not described(heading) - set(settings.model_fields)


def test_a_bare_make_lists_every_target():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True).stdout
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert len(targets) >= 8
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert sorted(phony.group(1).split()) == sorted(targets)
    for target in targets:
        assert re.search(rf"^  make {target}\s+\S.*[\u4e00-\u9fff].* · [a-z.]", listed, re.MULTILINE), target


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
    told = openapi()["components"]["schemas"]["Outcome"]["properties"]
    assert set(told["outcome"]["enum"]) == {one.value for one in Outcome}
    assert {one.value for one in NotAsked} <= set(re.findall(r"\w+", told["reason"]["description"]))
