"""The other end: a real gRPC server of RunService over a journal that the test writes, and of deliveries."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from reflux.api.run.v1.run_service_pb2 import WatchRunRequest, WatchRunResponse
from reflux.api.run.v1.run_service_pb2_grpc import RunServiceServicer, add_RunServiceServicer_to_server
from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookRequest, DeliverWebhookResponse
from reflux.api.trigger.v1.trigger_service_pb2_grpc import (
    TriggerServiceServicer,
    add_TriggerServiceServicer_to_server,
)
from reflux.core.errors import NotFound, RefluxError, Unavailable
from reflux.core.reasons import Reason
from reflux.runtime.service import grpc_server
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RUN = "0193a1b2-c3d4-7000-8000-000000000001"
LAST_KIND = "RunFinished"


class Orchestrator(RunServiceServicer, TriggerServiceServicer):
    """Streams one run as the contract says, takes deliveries, and fails when told to."""

    def __init__(self) -> None:
        self.address = Address("127.0.0.1", 0)
        self.facts: list[tuple[str, bytes]] = []
        self.asked: list[WatchRunRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.refusals: list[RefluxError] = []
        self.deliveries: list[DeliverWebhookRequest] = []
        self.delivered = DeliverWebhookResponse(run_id=RUN)
        self.answers = asyncio.Event()
        self.answers.set()
        self.given_up = 0
        self.open_streams = 0
        self.sent = 0
        self._changed = asyncio.Condition()
        self._breaks = 0

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve within the body; a second time on the same port."""
        async with grpc_server(
            address=self.address,
            register=[
                lambda server: add_RunServiceServicer_to_server(self, server),
                lambda server: add_TriggerServiceServicer_to_server(self, server),
            ],
            services=[],
        ) as self.address:
            yield

    async def record(self, *kinds: str, document: bytes | None = None) -> None:
        """Add facts to the journal; LAST_KIND finishes the run."""
        async with self._changed:
            for kind in kinds:
                fact = {"seq": len(self.facts) + 1, "kind": kind}
                self.facts.append((kind, document or orjson.dumps(fact)))
            self._changed.notify_all()

    async def break_streams(self) -> None:
        """Let every open stream fail as if its connection broke."""
        async with self._changed:
            self._breaks += 1
            self._changed.notify_all()

    async def DeliverWebhook(self, request: DeliverWebhookRequest, context: Any) -> DeliverWebhookResponse:
        self.deliveries.append(request)
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self.refusals:
            raise self.refusals.pop(0)
        if request.do_not_wait:
            return DeliverWebhookResponse(run_id=RUN)
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        return self.delivered

    async def WatchRun(self, request: WatchRunRequest, context: Any) -> AsyncIterator[WatchRunResponse]:
        self.asked.append(request)
        self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
        if self.refusals:
            raise self.refusals.pop(0)
        if request.run_id != RUN:
            raise NotFound(Reason.RUN_NOT_FOUND, f"no run {request.run_id}")
        breaks, seq = self._breaks, request.after_seq
        self.open_streams += 1
        try:
            while not (self.facts and seq == len(self.facts) and self.facts[-1][0] == LAST_KIND):
                async with self._changed:
                    await self._changed.wait_for(
                        lambda: len(self.facts) > seq or self._breaks > breaks  # noqa: B023
                    )
                if self._breaks > breaks:
                    raise Unavailable(Reason.SERVICE_UNREACHABLE, "broken by the test")
                kind, document = self.facts[seq]
                seq += 1
                last = kind == LAST_KIND
                yield WatchRunResponse(seq=seq, kind=kind, document=document, last=last)
                self.sent += 1
        finally:
            self.open_streams -= 1
