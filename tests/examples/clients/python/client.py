"""A client in plain grpcio: save a flow, execute it, watch its run, read what it returned.

    python client.py 127.0.0.1:4000

It needs `grpcio`, `googleapis-common-protos`, and stubs of the .proto files. Here they come from the package
`reflux`; another project generates its own with `grpc_tools.protoc` from `proto/`.

REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.
"""

from __future__ import annotations

import json
import sys
import uuid
from typing import Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from reflux.api.flow.v1.flow_service_pb2 import ReplaceFlowRequest
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1.run_service_pb2 import ExecuteFlowRequest, GetRunRequest, WatchRunRequest
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub

FLOW = {
    "name": "greet-from-python",
    "description": "Greets the person in its input.",
    "spec": {
        "steps": [
            {"id": "greeting", "set": {"text": "Hello {{ input.name }}"}},
            {"id": "done", "return": {"text": "{{ steps.greeting.output.text }}", "steps": 1}},
        ]
    },
}
SECONDS = 30.0  # every call has a deadline


def main(address: str) -> None:
    """Do the round."""
    with grpc.insecure_channel(address) as channel:
        flows, runs = FlowServiceStub(channel), RunServiceStub(channel)

        # With allow_missing the flow is created when none has this name, so the example can run again.
        replace = ReplaceFlowRequest(flow_id=FLOW["name"], document=to_body(FLOW), allow_missing=True)
        flow = read(flows.ReplaceFlow(replace, timeout=SECONDS))
        print(f"flow {flow['name']} is at version {flow['version']}")

        # The request_id makes the start safe to repeat: the same one gives the same run.
        start = ExecuteFlowRequest(
            flow_id=flow["id"], input=to_body({"name": "Ada"}), request_id=str(uuid.uuid4())
        )
        run = read(runs.ExecuteFlow(start, timeout=SECONDS))
        print(f"run {run['id']} is {run['state']}")

        # The stream ends after the fact that finishes the run. If it breaks, ask again with after_seq.
        for event in runs.WatchRun(WatchRunRequest(run_id=run["id"]), timeout=SECONDS):
            print(f"  {event.seq} {event.kind}")

        finished = read(runs.GetRun(GetRunRequest(run_id=run["id"]), timeout=SECONDS))
        print(f"run {finished['id']} is {finished['state']}")
        print(json.dumps(finished["output"]))


def to_body(document: Any) -> HttpBody:
    """Documents of people travel as bytes with their content type."""
    return HttpBody(content_type="application/json", data=json.dumps(document).encode())


def read(body: HttpBody) -> Any:
    """The document in an answer."""
    return json.loads(body.data)


def explain(error: grpc.RpcError) -> str:
    """The reason a program would branch on, and the message for people."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    for detail in status.details if status else ():
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
    return f"{error.code().name} {info.reason}: {error.details()}"


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4000")
    except grpc.RpcError as error:
        sys.exit(explain(error))
