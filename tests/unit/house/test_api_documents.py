"""Both published API documents: nothing in them is cut off, said twice or left over."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "gateway/edge/openapi.yaml", ROOT / "node_agent/desk/openapi.yaml"]


class _Strict(yaml.SafeLoader):
    """Refuses a name that stands twice, of which YAML's own reader takes the last."""


def _once(loader, node, deep=False):
    names = [loader.construct_object(key) for key, _value in node.value]
    assert len(names) == len(set(names)), f"a name stands twice {node.start_mark}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _once)


def parts(part, path=""):
    """(path, value) of everything in a document."""
    yield path, part
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for name, value in inside:
        yield from parts(value, f"{path}/{name}")


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.parent.name)
def document(request):
    return yaml.safe_load(request.param.read_text("utf-8"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_no_name_stands_twice(path):
    assert yaml.load(path.read_text("utf-8"), _Strict)


def test_no_text_is_cut_off_at_a_comma(document):
    """In `{description: one, two}` the second half becomes a name without a value."""
    empty = [path for path, value in parts(document) if value is None and "/example" not in path]
    assert empty == []


def test_every_part_is_used(document):
    used = {value for _path, value in parts(document) if isinstance(value, str) and value.startswith("#/")}
    for kind, named in document["components"].items():
        if kind != "securitySchemes":
            assert {f"#/components/{kind}/{name}" for name in named} <= used, kind
