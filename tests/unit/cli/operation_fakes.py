"""OperationService as the edge shows it: it keeps what was asked, and answers what it was told to."""

from __future__ import annotations

from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from reflux.api.operation.v1 import operation_service_pb2 as pb
from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceServicer
from tests.unit.cli.shapes import a_run


class Operations(OperationServiceServicer):
    """`said` are the documents that came, each with its request; `answers` go out in order."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, Any]] = []
        self.answers: list[Any] = []
        self.listed: list[pb.ListFingerprintsRequest] = []
        """Requests for failures."""

    def ForkRun(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request)

    def RetryRun(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request)

    def ExecuteStep(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request, a_run("SUCCEEDED"))

    def ReplayStep(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request, a_run("SUCCEEDED"))

    def BulkRuns(self, request: Any, context: Any) -> HttpBody:
        nothing = {"matched": 0, "handled": 0, "outcomes": [], "runs": [], "next_page_token": ""}
        return self._answer(request, nothing)

    def ListFingerprints(self, request: Any, context: Any) -> pb.ListFingerprintsResponse:
        self.listed.append(request)
        group = pb.Fingerprint(fingerprint="0123456789abcdef", count=3)
        group.example.flow_name = "orders"
        group.example.error.reason, group.example.error.message = "NODE_FAULT", "it is ill"
        rare = pb.Fingerprint(fingerprint="00000000000000ff", count=1)
        return pb.ListFingerprintsResponse(fingerprints=[rare, group])

    def _answer(self, request: Any, otherwise: Any = None) -> HttpBody:
        kept = type(request)()
        kept.CopyFrom(request)
        self.said.append((orjson.loads(request.document.data), kept))
        otherwise = otherwise or {"run": None, "plan": None}
        answer = self.answers.pop(0) if self.answers else otherwise
        return HttpBody(content_type="application/json", data=orjson.dumps(answer))
