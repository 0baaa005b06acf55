"""OperationService as the edge shows it: it keeps what was asked, and answers what it was told to."""

from __future__ import annotations

from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody

from reflux.api.operation.v1.operation_service_pb2_grpc import OperationServiceServicer
from tests.unit.cli.shapes import a_run


class Operations(OperationServiceServicer):
    """`said` are the documents that came, each with its request; `answers` go out in order."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, Any]] = []
        self.answers: list[Any] = []

    def ForkRun(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request)

    def RetryRun(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request)

    def ExecuteStep(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request, a_run("SUCCEEDED"))

    def ReplayStep(self, request: Any, context: Any) -> HttpBody:
        return self._answer(request, a_run("SUCCEEDED"))

    def _answer(self, request: Any, otherwise: Any = None) -> HttpBody:
        self.said.append((orjson.loads(request.document.data), request))
        otherwise = otherwise or {"run": None, "plan": None}
        answer = self.answers.pop(0) if self.answers else otherwise
        return HttpBody(content_type="application/json", data=orjson.dumps(answer))
