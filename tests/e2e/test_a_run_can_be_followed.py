"""A run is listed, read, watched and cancelled by anybody, over REST, gRPC and gRPC-Web on one port."""

import struct
import urllib.request

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceStub
from tests.support.ledger import Ledger
from tests.support.rest import Rest

SLOW = {"id": "slow", "node": "http.request", "timeout": {"attempt": "30s"}}


@pytest.fixture
def three_steps(rest: Rest) -> str:
    """A flow that ends at once."""
    steps = [{"id": name, "set": {"n": 1}} for name in ("a", "b")]
    document = {"name": "three-steps", "spec": {"steps": [*steps, {"id": "c", "return": "{{ input }}"}]}}
    return rest("PUT", "/api/flows/three-steps?allow_missing=true", document).ok()["id"]


def frames(text: str) -> list[dict[str, str]]:
    """The events of a server-sent stream."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    fields = [dict(line.split(": ", 1) for line in block if not line.startswith(":")) for block in blocks]
    return [frame for frame in fields if "event" in frame]


def test_a_watch_shows_every_event_once_and_resumes_after_a_cut(rest: Rest, three_steps: str):
    """`id` is the sequence number; Last-Event-ID goes on behind it; the end is said."""
    run = rest.post(f"/api/flows/{three_steps}/execute?wait=10s", {"x": 1})
    whole = frames(rest("GET", f"/api/runs/{run['id']}:watch").body.decode())
    request = urllib.request.Request(f"{rest.url}/api/runs/{run['id']}:watch", headers={"Last-Event-ID": "2"})
    with urllib.request.urlopen(request, timeout=30) as response:
        rest_of_it = frames(response.read().decode())

    kinds = [frame["event"] for frame in whole]
    assert kinds == ["RunCreated", "StepSettled", "StepSettled", "StepSettled", "RunFinished", "end"]
    assert [frame["id"] for frame in whole[:-1]] == ["1", "2", "3", "4", "5"]
    assert [frame["event"] for frame in rest_of_it] == kinds[2:]


def test_lists_filter_by_flow_state_and_time_and_come_in_pages(rest: Rest, three_steps: str):
    """Pages follow each other without a gap or a repetition, newest first."""
    started = [rest.post(f"/api/flows/{three_steps}/execute?wait=10s")["id"] for _ in range(5)]
    seen, token = [], ""
    while True:
        page = rest.get(f"/api/runs?flow_id=three-steps&state=SUCCEEDED&page_size=2&page_token={token}")
        seen += [run["id"] for run in page["runs"]]
        token = page["next_page_token"]
        if not token:
            break

    assert seen[:5] == started[::-1]
    assert len(seen) == len(set(seen))
    first = rest.get(f"/api/runs/{started[0]}")["create_time"]
    before = rest.get(f"/api/runs?flow_id=three-steps&created_before={first}")["runs"]
    after = rest.get(f"/api/runs?flow_id=three-steps&created_after={first}")["runs"]
    assert started[0] not in [run["id"] for run in before]
    assert started[0] in [run["id"] for run in after]
    assert rest.get("/api/runs?flow_id=three-steps&state=FAILED")["runs"] == []


def test_numbers_keep_their_value_through_the_whole_run(rest: Rest, three_steps: str):
    """An integer that no double holds comes out as it went in."""
    run = rest.post(f"/api/flows/{three_steps}/execute?wait=10s", {"n": 9007199254740993})

    assert run["input"] == {"n": 9007199254740993}
    assert run["output"] == {"n": 9007199254740993}


def test_a_cancel_ends_a_run_and_repeating_it_changes_nothing(rest: Rest, ledger: Ledger):
    """The pure call in flight is given up; the answer shows it."""
    step = {**SLOW, "with": {"url": f"{ledger.url}/effect/slow?delay=20"}}
    rest("PUT", "/api/flows/slow?allow_missing=true", {"name": "slow", "spec": {"steps": [step]}}).ok()
    run = rest.post("/api/flows/slow/execute")
    cancelled = rest.post(f"/api/runs/{run['id']}:cancel", {"reason": "enough"})
    again = rest.post(f"/api/runs/{run['id']}:cancel")

    assert cancelled["state"] in ("CANCELING", "CANCELED")
    assert again["state"] == "CANCELED"
    events = rest.get(f"/api/runs/{run['id']}/events")["events"]
    [asked] = [event for event in events if event["kind"] == "CancelRequested"]
    assert asked["data"]["reason"] == "enough"
    assert asked["data"]["actor"] == "anonymous"


def test_a_run_in_progress_says_why_it_waits(rest: Rest, ledger: Ledger):
    """Within a moment a slow call is visible, with its attempt, and the run says so, and until when."""
    step = {"id": "slow", "node": "http.request", "with": {"url": f"{ledger.url}/effect/slow?delay=3"}}
    rest("PUT", "/api/flows/slow?allow_missing=true", {"name": "slow", "spec": {"steps": [step]}}).ok()
    run = rest.post("/api/flows/slow/execute?wait=1s")
    [shown] = rest.get(f"/api/runs/{run['id']}/steps")["steps"]

    assert run["state"] == "RUNNING"
    assert "attempt 1 is in flight" in run["waiting"]["why"]
    assert run["create_time"] < run["waiting"]["until"] == shown["waiting"]["until"], "by its node version"
    assert shown["state"] == "RUNNING"
    assert rest.post(f"/api/runs/{run['id']}:cancel")["state"] in ("CANCELING", "CANCELED")


def test_a_grpc_client_gets_typed_errors(edge_url: str):
    """Native gRPC shares the port, with rich errors."""
    with grpc.insecure_channel(edge_url) as channel, pytest.raises(grpc.RpcError) as failed:
        RunServiceStub(channel).GetRun(
            pb.GetRunRequest(run_id="00000000-0000-7000-8000-000000000000"), timeout=10
        )
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert any(key == "grpc-status-details-bin" for key, _ in failed.value.trailing_metadata())


def test_reflection_shows_the_public_services_and_no_other(edge_url: str):
    """A client without our .proto files finds every public method, whichever process serves it."""
    with grpc.insecure_channel(edge_url) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        pool = DescriptorPool(database)
        methods = {
            name: {method.name for method in pool.FindServiceByName(name).methods}
            for name in services
            if name.startswith("reflux.")
        }

    assert set(methods) == {
        "reflux.api.flow.v1.ContractService",
        "reflux.api.flow.v1.FlowService",
        "reflux.api.run.v1.RunService",
        "reflux.api.operation.v1.OperationService",
        "reflux.api.registry.v1.RegistryService",
        "reflux.api.routing.v1.RoutingService",
        "reflux.api.shadow.v1.ShadowService",
        "reflux.api.trigger.v1.TriggerService",
    }
    assert "UpdateRoute" in methods["reflux.api.routing.v1.RoutingService"]


def test_grpc_web_works_on_the_same_port(rest: Rest, three_steps: str):
    """A browser's gRPC-Web call: the message in a frame, the status in a second one."""
    message = pb.ListRunsRequest(page_size=1).SerializeToString()
    answer = rest(
        "POST",
        "/reflux.api.run.v1.RunService/ListRuns",
        raw=struct.pack(">BI", 0, len(message)) + message,
        content_type="application/grpc-web+proto",
    )
    length = struct.unpack(">I", answer.body[1:5])[0]

    assert answer.status == 200
    assert answer.headers["content-type"].startswith("application/grpc-web")
    assert len(pb.ListRunsResponse.FromString(answer.body[5 : 5 + length]).runs) <= 1
    assert b"grpc-status:0" in answer.body[5 + length :].replace(b" ", b"")


def test_what_is_internal_is_not_reachable_from_outside(edge_url: str):
    """Claims, endpoints and nodes are spoken inside only."""
    with grpc.insecure_channel(edge_url) as channel:
        for method in (
            "/reflux.api.effect.v1.EffectService/ClaimEffect",
            "/reflux.api.registry.v1.EndpointService/RegisterEndpoint",
            "/reflux.api.routing.v1.RoutingService/WatchRoutes",
            "/reflux.api.node.v1.NodeService/Execute",
        ):
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(method)(b"", timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED, method
