"""Operating on runs through one orchestrator, as clients do."""

from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from reflux.api.operation.v1 import operation_service_pb2 as pb
from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceStub
from tests.support.scripted_mesh import Client


def body(value: Any) -> HttpBody:
    """A document as JSON."""
    return HttpBody(content_type="application/json", data=orjson.dumps(value))


async def fork(client: Client, run_id: str, from_step: str, request_id: str = "", **how: Any) -> Any:
    """Goes on from a step; the ForkedRun."""
    document = body({"from_step": from_step, **how})
    request = pb.ForkRunRequest(run_id=run_id, document=document, request_id=request_id)
    return orjson.loads((await OperationServiceStub(client.channel).ForkRun(request)).data)


async def retry(client: Client, run_id: str, request_id: str = "", **how: Any) -> Any:
    """Does again what failed; the ForkedRun."""
    request = pb.RetryRunRequest(run_id=run_id, document=body(how), request_id=request_id)
    return orjson.loads((await OperationServiceStub(client.channel).RetryRun(request)).data)


async def execute_step(client: Client, flow: str, step: str, *, request_id: str = "", **how: Any) -> Any:
    """Executes one step of a flow alone, to its end."""
    document = body(how)
    request = pb.ExecuteStepRequest(
        flow_id=flow, step=step, document=document, request_id=request_id, wait="10s"
    )
    return orjson.loads((await OperationServiceStub(client.channel).ExecuteStep(request)).data)


async def replay_step(client: Client, run_id: str, step: str, *, request_id: str = "", **how: Any) -> Any:
    """Executes one step of a run alone, to its end."""
    request = pb.ReplayStepRequest(
        run_id=run_id, step=step, document=body(how), request_id=request_id, wait="10s"
    )
    return orjson.loads((await OperationServiceStub(client.channel).ReplayStep(request)).data)


async def failures(client: Client, **which: Any) -> list[pb.Fingerprint]:
    """All groups of failures, in small pages."""
    found: list[pb.Fingerprint] = []
    token = ""
    while True:
        request = pb.ListFingerprintsRequest(**which, page_size=1, page_token=token)
        page = await OperationServiceStub(client.channel).ListFingerprints(request)
        found += page.fingerprints
        token = page.next_page_token
        if not token:
            return found


async def bulk(
    client: Client, operation: str, which: Any, *, request_id: str = "", page_token: str = "", **how: Any
) -> Any:
    """Does something with many runs; the BulkResult."""
    document = body({"operation": operation, "filter": which, **how})
    request = pb.BulkRunsRequest(document=document, request_id=request_id, page_token=page_token)
    return orjson.loads((await OperationServiceStub(client.channel).BulkRuns(request)).data)
