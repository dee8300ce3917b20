"""Answers held to the published contract: their status, media type, headers, words and every part of their bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

OF_HTTP = frozenset({
    "cache-control", "connection", "content-encoding", "content-language", "content-length", "content-security-policy",
    "content-type", "date", "keep-alive", "referrer-policy", "server", "transfer-encoding", "vary", "x-accel-buffering",
    "x-content-type-options", "x-trace-id",
})  # fmt: skip
"""Headers that are HTTP's own or told once for all routes; every other one stands with its response."""

JSON = frozenset({"application/json", "application/problem+json"})


class Contract:
    """An OpenAPI 3.1 document."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._registry = Registry().with_resource(
            "urn:contract", DRAFT202012.create_resource(_closed(document))
        )

    def hold(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """AssertionError when the answer to a request is not what the document says."""
        got = {name.lower(): value for name, value in headers.items()}
        kind = got.get("content-type", "").partition(";")[0]
        said = f"{method} {path.partition('?')[0]} {status} {kind}"
        response = self._response(method, path, status, said)
        self._hold_headers(response, got, said)
        content = response.get("content")
        if content is None or method == "HEAD":
            assert not body, f"{said}: a body that is not described"
            return
        assert kind in content, f"{said}: only {', '.join(content)} is described"
        schema = _absolute(content[kind].get("schema", {}))
        if kind == "text/event-stream":
            for message in messages(body.decode()):
                self._hold_schema(schema, message, said)
        elif kind in JSON:
            told = json.loads(body)
            self._hold_schema(schema, told, said)
            if kind == "application/problem+json":
                assert f"`{told['reason']}`" in response["description"], f"{said}: {told['reason']}"

    def hold_call(self, headers: Mapping[str, str], body: bytes) -> None:
        """AssertionError when a call to a platform is not what the document says."""
        call = self.document["webhooks"]["caseEvent"]["post"]
        missing = [one["name"] for one in call["parameters"] if one["name"] not in headers]
        assert not missing, f"a call without {missing}"
        schema = call["requestBody"]["content"]["application/json"]["schema"]
        self._hold_schema(_absolute(schema), json.loads(body), "a call")

    def _response(self, method: str, path: str, status: int, said: str) -> dict[str, Any]:
        found = self._operation(method, path)
        if found is None:  # no such operation: a problem that the document tells of once for all
            assert status in {404, 405, 503}, f"{said}: no such operation"
            name = "Unavailable" if status == 503 else "NotFound"
            problem = self._resolved({"$ref": f"#/components/responses/{name}"})
            return {**problem, "description": self.document["info"]["description"]}
        assert str(status) in found["responses"], f"{said}: a status that is not described"
        return self._resolved(found["responses"][str(status)])

    def _operation(self, method: str, path: str) -> dict[str, Any] | None:
        plain = path.partition("?")[0]
        for template, operations in self.document["paths"].items():
            inner = ".+" if template.startswith("/log/tile/") else "[^/]+"
            if method.lower() in operations and re.fullmatch(re.sub(r"\{\w+\}", inner, template), plain):
                operation: dict[str, Any] = operations[method.lower()]
                return operation
        return None

    def _hold_headers(self, response: dict[str, Any], got: Mapping[str, str], said: str) -> None:
        told = {name.lower(): self._resolved(header) for name, header in response.get("headers", {}).items()}
        unknown = got.keys() - OF_HTTP - told.keys() - ({"allow"} if " 405 " in said else set())
        assert not unknown, f"{said}: headers that are not described: {unknown}"
        for name, header in told.items():
            assert name in got or not header.get("required"), f"{said}: {name} is promised and not there"
            if name in got:
                self._hold_schema(_absolute(header["schema"]), got[name], f"{said}: {name}")

    def _hold_schema(self, schema: dict[str, Any], told: Any, said: str) -> None:
        checker = Draft202012Validator(schema, registry=self._registry, format_checker=FormatChecker())
        errors = list(checker.iter_errors(told))
        assert not errors, f"{said}: {errors[0].json_path}: {errors[0].message}"
        for inner, text in _texts_of_json(schema, told, self):
            self._hold_schema(inner, json.loads(text), said)

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in part:
            found: Any = self.document
            for name in part["$ref"].partition("#/")[2].split("/"):
                found = found[name]
            part = found
        return part


def messages(stream: str) -> list[dict[str, str]]:
    """The messages of a stream of events that bear an event."""
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines() if line[:1] not in {"", ":"})
        for block in stream.split("\n\n")
    ]
    return [block for block in blocks if "event" in block]


def _texts_of_json(schema: dict[str, Any], told: Any, contract: Contract) -> list[tuple[dict[str, Any], str]]:
    """What stands as JSON in a text of this value, each with its schema (`contentSchema`)."""
    chosen = contract._resolved(schema)
    if "oneOf" in chosen:
        chosen = next(
            one
            for ref in chosen["oneOf"]
            if told["event"] in (one := contract._resolved(ref))["properties"]["event"]["enum"]
        )
    return [
        (_absolute(part["contentSchema"]), told[name])
        for name, part in chosen.get("properties", {}).items()
        if "contentSchema" in part and name in told
    ]


def _closed(part: Any) -> Any:
    """Schemas that take no property but those they name: answers may gain fields within v1, but not untold."""
    if isinstance(part, dict):
        closed = {key: _closed(value) for key, value in part.items()}
        return closed if "properties" not in part else {"additionalProperties": False, **closed}
    return [_closed(one) for one in part] if isinstance(part, list) else part


def _absolute(part: Any) -> Any:
    """The same with references that lead into the document from anywhere."""
    if isinstance(part, dict):
        return {
            key: f"urn:contract{value}" if key == "$ref" and str(value).startswith("#") else _absolute(value)
            for key, value in part.items()
        }
    return [_absolute(one) for one in part] if isinstance(part, list) else part
