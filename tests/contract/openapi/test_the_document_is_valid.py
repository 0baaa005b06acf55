"""The document keeps the rules of OpenAPI 3.1 and JSON Schema 2020-12, so that any tool can read it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from reflux.gateway import openapi

if TYPE_CHECKING:
    from collections.abc import Iterator

VERBS = {"get", "put", "post", "patch", "delete"}
COMPONENT_NAME = re.compile(r"[a-zA-Z0-9._-]+")  # OpenAPI 3.1.0, section 4.8.7


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document as a reader of the YAML gets it."""
    loaded: dict[str, Any] = yaml.safe_load(openapi.as_yaml())
    return loaded


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for verb, operation in item.items():
            yield path, verb, operation


def _walk(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _resolve(document: dict[str, Any], reference: str) -> object:
    assert reference.startswith("#/"), f"{reference} leaves the document"
    found: Any = document
    for part in reference[2:].split("/"):
        found = found[part]
    return found


def test_yaml_and_values_say_the_same(document: dict[str, Any]) -> None:
    """Nothing is lost on the way into the file: no anchors, no text read back as something else."""
    assert document == openapi.document()
    assert b"&id0" not in openapi.as_yaml()


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    """A reader never meets a shape that is not in the document."""
    references = [item["$ref"] for item in _walk(document) if isinstance(item.get("$ref"), str)]
    assert len(references) > 50
    for reference in references:
        assert _resolve(document, reference) is not None


def test_every_component_is_referred_to(document: dict[str, Any]) -> None:
    """No leftovers. RunEvent is named in words, as the data of a server-sent event."""
    references = {item["$ref"] for item in _walk(document) if isinstance(item.get("$ref"), str)}
    for kind, components in document["components"].items():
        for name in components:
            assert COMPONENT_NAME.fullmatch(name)
            assert f"#/components/{kind}/{name}" in references


def test_every_schema_is_a_schema(document: dict[str, Any]) -> None:
    """Components and inline schemas pass the meta-schema that OpenAPI 3.1 builds on."""
    schemas = [*document["components"]["schemas"].values()]
    schemas += [item["schema"] for item in _walk(document["paths"]) if "schema" in item]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)


def test_path_parameters_are_those_of_the_path(document: dict[str, Any]) -> None:
    """Each variable of a path is declared once, as required, and nothing else is said to be in the path."""
    for path, _, operation in _operations(document):
        declared = [each for each in operation.get("parameters", []) if each["in"] == "path"]
        assert [each["name"] for each in declared] == re.findall(r"\{(\w+)\}", path)
        assert all(each["required"] is True for each in declared)


def test_parameters_are_unique_described_values(document: dict[str, Any]) -> None:
    """A parameter is known by its name and place, has one schema, and says what it means."""
    for path, verb, operation in _operations(document):
        parameters = operation.get("parameters", [])
        keys = [(each["name"], each["in"]) for each in parameters]
        assert len(keys) == len(set(keys)), f"{verb} {path}"
        for each in parameters:
            assert each["in"] in {"path", "query", "header"}
            assert each["description"]
            assert each["schema"]


def test_operations_are_complete(document: dict[str, Any]) -> None:
    """Each has a unique id, a known tag, a summary, a good answer and the error shape."""
    operations = list(_operations(document))
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))
    tags = {tag["name"] for tag in document["tags"]}
    for path, verb, operation in operations:
        assert verb in VERBS
        assert path.startswith("/")
        assert set(operation["tags"]) <= tags
        assert operation["summary"]
        assert "200" in operation["responses"]
        assert operation["responses"]["default"] == {"$ref": "#/components/responses/Error"}
        assert all(
            answer.get("description") or "$ref" in answer for answer in operation["responses"].values()
        )
        assert verb != "get" or "requestBody" not in operation


def test_no_two_paths_are_the_same_template(document: dict[str, Any]) -> None:
    """Paths that differ only in the names of variables are one path, says OpenAPI."""
    templates = [re.sub(r"\{\w+\}", "{}", path) for path in document["paths"]]
    assert len(templates) == len(set(templates))
