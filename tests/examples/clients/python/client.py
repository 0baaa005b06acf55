"""A client in plain grpcio: save a flow, execute it, watch its run, read its steps and what it returned.

    python client.py 127.0.0.1:4000

It needs `grpcio`, `grpcio-status`, `googleapis-common-protos`, and stubs of the .proto files. Here they come
from the package `reflux`; another project generates its own with `grpc_tools.protoc` from `proto/`.

REST, gRPC and gRPC-Web share one port, so the address is the one curl uses.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import TYPE_CHECKING, Any

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from reflux.api.flow.v1.flow_service_pb2 import ReplaceFlowRequest
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1.run_service_pb2 import (
    ExecuteFlowRequest,
    ListStepRunsRequest,
    WatchRunRequest,
    WatchRunResponse,
)
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterator

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
RESUMES = 10  # how often a broken stream is asked for again
PAUSE = 0.5  # seconds before each


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

        for event in watch(runs, run["id"]):
            print(f"  {event.seq} {event.kind}")

        for step in read(runs.ListStepRuns(ListStepRunsRequest(run_id=run["id"]), timeout=SECONDS))["steps"]:
            print(f"step {step['id']} is {step['state']}")

        # The same start again, which now also waits: the answer is the run, settled, with its output.
        start.wait = "10s"
        finished = read(runs.ExecuteFlow(start, timeout=SECONDS))
        print(f"run {finished['id']} is {finished['state']}")
        print(json.dumps(finished["output"]))

        try:
            runs.ExecuteFlow(ExecuteFlowRequest(flow_id="no-such-flow"), timeout=SECONDS)
        except grpc.RpcError as error:
            print(explain(error))


def watch(runs: RunServiceStub, run_id: str) -> Iterator[WatchRunResponse]:
    """Every event of the run, once and in order, until the one that finishes it ends the stream.

    A stream that breaks is resumed after the last event seen.
    """
    seen = 0
    for left in range(RESUMES, -1, -1):
        try:
            for event in runs.WatchRun(WatchRunRequest(run_id=run_id, after_seq=seen), timeout=SECONDS):
                seen = event.seq
                yield event
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE or not left:
                raise
            time.sleep(PAUSE)
        else:
            return


def to_body(document: Any) -> HttpBody:
    """Documents of people travel as bytes with their content type."""
    return HttpBody(content_type="application/json", data=json.dumps(document).encode())


def read(body: HttpBody) -> Any:
    """The document in an answer."""
    return json.loads(body.data)


def explain(error: grpc.RpcError) -> str:
    """The code, the reason a program would branch on, and the message for people."""
    status = rpc_status.from_call(error)
    words = [error.code().name]
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            words.append(info.reason)
    return f"{' '.join(words)}: {error.details()}"


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:4000")
    except grpc.RpcError as error:
        sys.exit(explain(error))
