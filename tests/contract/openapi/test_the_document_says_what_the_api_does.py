"""What a client generator takes from the document is what the edge and the services do."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from jsonschema import Draft202012Validator

from reflux.api.flow.v1 import contract_service_pb2, flow_service_pb2
from reflux.api.operation.v1 import operation_service_pb2
from reflux.api.registry.v1 import registry_service_pb2
from reflux.api.routing.v1 import routing_service_pb2
from reflux.api.run.v1 import run_service_pb2
from reflux.api.shadow.v1 import shadow_service_pb2
from reflux.api.trigger.v1 import trigger_service_pb2
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.reasons import Reason
from reflux.gateway import openapi
from reflux.gateway.openapi.descriptors import HTTP, Api
from reflux.runtime import rpc

FILES = (
    contract_service_pb2,
    flow_service_pb2,
    operation_service_pb2,
    registry_service_pb2,
    routing_service_pb2,
    run_service_pb2,
    shadow_service_pb2,
    trigger_service_pb2,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document()


def _validator(document: dict[str, Any], name: str) -> Draft202012Validator:
    return Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


def test_every_http_rule_of_the_generated_code_is_a_path(document: dict[str, Any]) -> None:
    """The rules in the stubs, bindings included, and the document's operations are the same set."""
    rules = set()
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                rule = method.GetOptions().Extensions[HTTP]
                for binding in (rule, *rule.additional_bindings):
                    if verb := binding.WhichOneof("pattern"):
                        rules.add((verb, getattr(binding, verb).replace("=**}", "}")))
    own = {
        ("get", "/api/runs/{run_id}:watch"),
        ("post", "/hooks/{path}"),
        ("get", "/openapi.yaml"),
    }
    assert {(verb, path) for path, item in document["paths"].items() for verb in item} == rules | own


def test_an_error_of_ours_fits_the_error_shape(document: dict[str, Any]) -> None:
    """A status as the services make it validates, each detail by its own schema; a foreign reason fails."""
    error = InvalidArgument(Reason.FLOW_INVALID, "two problems", violations=[Violation("/spec", "no")])
    body = json_format.MessageToDict(rpc.to_status(error), preserving_proto_field_name=True)
    validator = _validator(document, "Status")
    validator.validate(body)
    body["details"][0]["reason"] = "SOMETHING_ELSE"
    assert not validator.is_valid(body)


def test_every_reason_is_listed(document: dict[str, Any]) -> None:
    """The closed list is in the document, so that a client can branch on it with types."""
    assert document["components"]["schemas"]["Reason"]["enum"] == [reason.value for reason in Reason]


def test_a_run_as_it_is_printed_fits_its_schema(document: dict[str, Any]) -> None:
    """Names, enums, times and free JSON of the schema are those of protobuf's own JSON."""
    run = run_service_pb2.Run(id="0193", state=run_service_pb2.Run.PARKED, unresolved_effects=["pay"])
    run.create_time.FromSeconds(1_800_000_000)
    run.input.struct_value.update({"a": [1, None]})
    run.error.reason = Reason.EFFECT_AMBIGUOUS
    body = json_format.MessageToDict(run, preserving_proto_field_name=True)
    schema = document["components"]["schemas"]["Run"]
    assert set(body) <= set(schema["properties"])
    _validator(document, "Run").validate(body)
    assert not _validator(document, "Run").is_valid({**body, "state": "STATE_UNSPECIFIED"})


def test_documents_of_people_are_json_or_yaml(document: dict[str, Any]) -> None:
    """A flow, a route and an input may be written in either; the answer is JSON."""
    for path, verb, schema in (
        ("/api/flows", "post", {"$ref": "#/components/schemas/Flow"}),
        ("/api/flows/{flow_id}", "patch", {"$ref": "#/components/schemas/Flow"}),
        ("/api/routes/{node}", "put", {"$ref": "#/components/schemas/Route"}),
        ("/api/flows/{flow_id}/execute", "post", {}),
    ):
        body = document["paths"][path][verb]["requestBody"]["content"]
        assert body == {kind: {"schema": schema} for kind in ("application/json", "application/yaml")}


def test_what_is_neither_path_nor_body_is_a_query_parameter(document: dict[str, Any]) -> None:
    """As google/api/http.proto has it; times are RFC 3339 text."""
    parameters = document["paths"]["/api/runs"]["get"]["parameters"]
    assert {each["name"]: each["in"] for each in parameters} == dict.fromkeys(
        (
            "flow_id",
            "state",
            "created_after",
            "created_before",
            "page_size",
            "page_token",
            "states",
            "fingerprint",
            "key",
            "trigger",
            "origin_run_id",
            "test",
        ),
        "query",
    )
    (after,) = [each for each in parameters if each["name"] == "created_after"]
    assert after["schema"] == {"type": "string", "format": "date-time"}
    execute = document["paths"]["/api/flows/{flow_id}/execute"]["post"]["parameters"]
    assert [(each["name"], each["in"]) for each in execute] == [
        ("flow_id", "path"),
        ("request_id", "query"),
        ("wait", "query"),
        ("test", "query"),
        ("faults", "query"),
        ("seed", "query"),
    ]


def test_a_document_in_the_body_has_the_shape_that_its_option_names(document: dict[str, Any]) -> None:
    """The run is named by the path, the cancellation is what is sent."""
    cancel = document["paths"]["/api/runs/{run_id}:cancel"]["post"]
    schema = cancel["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Cancellation"}


def test_comments_of_the_proto_files_are_the_descriptions(document: dict[str, Any]) -> None:
    """One place to write documentation: the .proto file."""
    api = Api.load()
    flow = document["components"]["schemas"]["Flow"]
    assert flow["description"] == api.comment("reflux.api.flow.v1.Flow")
    described = flow["properties"]["digest"]["description"]
    assert described == api.comment("reflux.api.flow.v1.Flow.digest") != ""
