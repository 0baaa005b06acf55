"""Telling what became of a copy: a version in the shadow reports its outcome to whoever can compare it.

A copy is a call with `x-reflux-shadow-copy`; its reply goes nowhere. The report goes to the orchestrator that
made the real call, at `x-reflux-shadow-report`. It is sent once, after the answer, and never waited for; what
is more than `MAX_REPORTS` at once is left out. Without a report there is no comparison, and that is all.
"""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import grpc
import orjson

from reflux.api.shadow.v1 import shadow_service_pb2 as pb
from reflux.api.shadow.v1.shadow_service_pb2_grpc import ShadowServiceStub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.sdk.claims import Claims
    from reflux.sdk.faults import Fault

MAX_REPORTS: Final = 64
MAX_OUTPUT: Final = 64 << 10
"""A larger output is told by its digest."""
REPORT_SECONDS: Final = 5.0


def is_copy(metadata: Iterable[tuple[str, Any]] | None) -> bool:
    """Whether a call is a copy of another one."""
    return any(key == "x-reflux-shadow-copy" and value == "1" for key, value in metadata or ())


class Reporter:
    """Of one node version."""

    def __init__(self, claims: Claims, version: str) -> None:
        self._claims = claims
        self._version = version
        self._reports: set[asyncio.Task[None]] = set()

    def tell(self, metadata: Iterable[tuple[str, Any]] | None, outcome: bytes | Fault) -> None:
        """Report the outcome of a call, if it was a copy."""
        if not is_copy(metadata) or len(self._reports) >= MAX_REPORTS:
            return
        given = {key: value for key, value in metadata or () if key.startswith("x-reflux-")}
        address = given.get("x-reflux-shadow-report", "")
        if not address:
            return
        attempt = given.get("x-reflux-attempt", "")
        request = pb.ReportShadowRequest(
            run_id=given.get("x-reflux-run-id", ""),
            step=given.get("x-reflux-step", ""),
            attempt=int(attempt) if attempt.isdecimal() else 0,
            version=self._version,
        )
        if isinstance(outcome, bytes):
            canonical = orjson.dumps(orjson.loads(outcome), option=orjson.OPT_SORT_KEYS)
            request.digest = sha256(canonical).digest()
            request.output = outcome if len(outcome) <= MAX_OUTPUT else b""
        else:
            request.failure = f"{outcome.code.name} {outcome.reason}"
        task = asyncio.create_task(self._send(address, request))
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)

    def close(self) -> None:
        """Send no more."""
        for task in self._reports:
            task.cancel()

    async def _send(self, address: str, request: pb.ReportShadowRequest) -> None:
        stub = ShadowServiceStub(await self._claims.channel(address))
        try:
            await stub.ReportShadow(request, timeout=REPORT_SECONDS)
        except grpc.aio.AioRpcError:
            return  # a comparison less
