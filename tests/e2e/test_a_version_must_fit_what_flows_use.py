"""A version whose schemas narrow what flows use takes no calls of theirs, as a person meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as node_pb
from reflux.api.registry.v1 import registry_service_pb2 as pb
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.rest import Answer, Rest
    from tests.support.stack import Stack

NODE = "shop.quote"
TAKES = {
    "1.0.0": {"type": "object", "properties": {"mode": {"enum": ["slow", "fast"]}}},
    "2.0.0": {"type": "object", "properties": {"mode": {"enum": ["slow"]}}},
}
GIVES = {"type": "object", "properties": {"total": {"type": "number"}}, "additionalProperties": False}


@contextmanager
def registered(stack: Stack) -> Iterator[None]:
    """Two versions of a node, as their processes would register them; nobody calls them."""
    with grpc.insecure_channel(f"127.0.0.1:{stack.state['ports']['registry']}") as channel:
        registry = EndpointServiceStub(channel)
        endpoints = []
        for version, takes in TAKES.items():
            description = node_pb.NodeDescription(
                node=NODE,
                version=version,
                input_schema=json.dumps(takes).encode(),
                output_schema=json.dumps(GIVES).encode(),
                max_concurrency=1,
            )
            description.attempt_timeout.FromSeconds(1)
            request = pb.RegisterEndpointRequest(description=description, address="127.0.0.1:9")
            endpoints.append(registry.RegisterEndpoint(request, timeout=10).endpoint_id)
        yield
        for each in endpoints:
            registry.RemoveEndpoint(pb.RemoveEndpointRequest(endpoint_id=each), timeout=10)


def put(rest: Rest, query: str = "") -> Answer:
    """A canary of a tenth."""
    targets = [{"version": "1.0.0", "weight": 9000}, {"version": "2.0.0", "weight": 1000}]
    return rest("PUT", f"/api/routes/{NODE}{query}", {"targets": targets})


@pytest.mark.parametrize("stack", ["monolith"], indirect=True)
def test_a_version_that_narrows_takes_no_calls_of_flows_that_use_it(stack: Stack, rest: Rest) -> None:
    """The route is refused and names flow, step and place; mended, or told to, it is served."""
    step: dict[str, Any] = {"id": "quote", "node": NODE, "with": {"mode": "fast"}}
    with registered(stack):
        document = {"name": "narrowed", "spec": {"steps": [step]}}
        rest("PUT", "/api/flows/narrowed?allow_missing=true", document).ok()
        (first, second) = rest.get(f"/api/nodes/{NODE}/contracts?versions=1.0.0&versions=2.0.0")["versions"]
        assert (first["total"], second["total"]) == (0, 1)
        assert (second["misfits"][0]["flow"], second["misfits"][0]["code"]) == ("narrowed", "INPUT_INVALID")

        refused = put(rest)
        error, place = refused.json["details"]
        assert (refused.status, error["reason"]) == (400, "CONTRACT_BROKEN")
        assert error["metadata"]["flows"] == "narrowed@1"
        assert place["field_violations"][0]["field"] == "narrowed@1/spec/steps/0/with/mode"
        listed = subprocess.run(
            [sys.executable, "-m", "reflux.cli", "node", "get", f"{NODE}@2.0.0", "--server", stack.edge],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert "narrowed@1" in listed

        forced = put(rest, "?ignore_contracts=true").ok()
        assert forced["contracts_ignored"] is True
        problems = rest.post("/api/flows/narrowed:plan")["problems"]
        assert [(each["code"], each["hint"]) for each in problems] == [
            ("INPUT_INVALID", f"the input of {NODE}@2.0.0")
        ]
        rest.post(f"/api/routes/{NODE}/revisions/1:rollback")
        step["with"]["mode"] = "slow"
        rest("PUT", "/api/flows/narrowed", document).ok()
        assert put(rest).ok()["contracts_ignored"] is False
