"""Webhooks: what arrives at /hooks/ goes to the orchestrator as it came, and its answer back in HTTP's words.

The body is forwarded byte for byte, for signatures are made over bytes. What is more than a document may have
is refused here and goes no further; it is still heard to its end, up to a bound, because many senders listen
only after they have sent.

| the trigger responds with | and the run                  | answer                                          |
|---------------------------|------------------------------|-------------------------------------------------|
| accepted                  | is durable                   | 202 `{run_id, duplicate}`                       |
| run                       | SUCCEEDED                    | 200, its output as the body                     |
| run                       | FAILED                       | its error, with the HTTP status of its code     |
| run                       | CANCELED                     | 409, RUN_CANCELED                               |
| run                       | goes on, or waits for people | 202 `{run_id, duplicate}`                       |
| run                       | has no room to be waited for | 202 `{run_id, duplicate}`                       |

Each names the run in `x-reflux-run-id`.

A delivery passes two phases, each with a bound of its own. It is read, within `BODY_SECONDS`: slow senders
keep others out for no longer than that. Then it may wait for its run, for minutes: those that do are counted
apart, and no path has more than its share of them. Whoever finds no room to wait is not refused: its run is
made durable and it gets 202 at once, as with `accepted`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import grpc
import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookRequest, HeaderField, Trigger
from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.core.errors import Exhausted, InvalidArgument, Unavailable
from reflux.core.reasons import Reason
from reflux.gateway import errors
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starlette.requests import Request

    from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookResponse
    from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceAsyncStub

MAX_DELIVERIES: Final = 512
"""At once in each phase; each may hold a body of 1 MiB."""
SHARE: Final = 4
"""Of those that may wait, a path has one in so many."""
MAX_HEARD_BYTES: Final = 16 << 20
"""Of a body that is too large: what is listened to before its sender is told so."""
BODY_SECONDS: Final = 30.0
"""For a body to arrive in."""
SECONDS: Final = 320.0
"""A trigger waits for its run for at most 300 s."""
DURABLE_SECONDS: Final = 30.0
"""For a run to become durable, where nobody waits for its end."""
RUN_HEADER: Final = "x-reflux-run-id"


class Hooks:
    """The deliveries of this gateway, bounded phase by phase."""

    def __init__(
        self, stub: TriggerServiceAsyncStub, limit: int = MAX_DELIVERIES, body_seconds: float = BODY_SECONDS
    ) -> None:
        self._stub = stub
        self._limit = limit
        self._body_seconds = body_seconds
        self._short = 0
        """Bodies that are read, and calls that wait for no run."""
        self._waiting: Counter[str] = Counter()
        """Calls that may wait for a run, by path."""

    async def deliver(self, request: Request, metadata: Sequence[tuple[str, str]]) -> Response:
        """Forward one request, and answer it.

        Raises:
            InvalidArgument: DOCUMENT_TOO_LARGE.
            Exhausted: this gateway has as many deliveries in hand as it takes.
            Unavailable: BODY_TOO_SLOW.
            RefluxError: what the orchestrator raises.
        """
        if self._short >= self._limit:
            message = f"{self._limit} deliveries are in hand here already; try again"
            raise Exhausted(Reason.NOT_ACCEPTING, message)
        try:
            with self._in_hand():
                delivery = await self._read(request)
                if not self._may_wait(delivery.path):
                    delivery.do_not_wait = True
                    return _answer(await self._forward(request, delivery, metadata, DURABLE_SECONDS))
            with self._waiting_at(delivery.path):
                return _answer(await self._forward(request, delivery, metadata, SECONDS))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody hears it

    def _may_wait(self, path: str) -> bool:
        share = max(self._limit // SHARE, 1)
        return self._waiting[path] < share and self._waiting.total() < self._limit

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        self._short += 1
        try:
            yield
        finally:
            self._short -= 1

    @contextmanager
    def _waiting_at(self, path: str) -> Iterator[None]:
        self._waiting[path] += 1
        try:
            yield
        finally:
            self._waiting[path] -= 1
            if not self._waiting[path]:
                del self._waiting[path]

    async def _read(self, request: Request) -> DeliverWebhookRequest:
        try:
            async with asyncio.timeout(self._body_seconds):
                body = await _body(request)
        except TimeoutError:
            message = f"the body was not here within {self._body_seconds:g} s; send it again"
            raise Unavailable(Reason.BODY_TOO_SLOW, message) from None
        return DeliverWebhookRequest(
            method=request.method,
            path=request.path_params["path"],
            query=request.url.query,
            headers=[
                HeaderField(name=name.decode("latin-1"), value=value.decode("latin-1"))
                for name, value in request.headers.raw
            ],
            body=body,
        )

    async def _forward(
        self,
        request: Request,
        delivery: DeliverWebhookRequest,
        metadata: Sequence[tuple[str, str]],
        seconds: float,
    ) -> DeliverWebhookResponse:
        call = self._stub.DeliverWebhook(delivery, timeout=seconds, metadata=tuple(metadata))
        return await _while_heard(request, call)


async def _while_heard(request: Request, call: Any) -> DeliverWebhookResponse:
    """The answer to `call`, given up when the sender leaves: it may wait for a run for minutes.

    Raises:
        RefluxError: what the orchestrator raises.
        ClientDisconnect: the sender left; whatever has begun goes on.
    """

    async def give_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        call.cancel()

    failure: Exception
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(give_up())
        try:
            answer: DeliverWebhookResponse = await call
        except grpc.RpcError as error:
            failure = rpc.to_error(error)
        except asyncio.CancelledError:
            if not leaving.done():
                raise
            failure = ClientDisconnect()
        else:
            return answer
        finally:
            leaving.cancel()
    raise failure


async def _body(request: Request) -> bytes:
    """The whole body.

    Raises:
        InvalidArgument: DOCUMENT_TOO_LARGE.
        ClientDisconnect: the sender left before its end.
    """
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_DOCUMENT_BYTES:
            parts.append(part)
        elif size > MAX_HEARD_BYTES:
            break
    if size > MAX_DOCUMENT_BYTES:
        message = f"the body is over {MAX_DOCUMENT_BYTES} bytes, the most that a webhook takes"
        metadata = {"limit": str(MAX_DOCUMENT_BYTES)}
        raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message, metadata=metadata)
    return b"".join(parts)


def _answer(delivered: DeliverWebhookResponse) -> Response:
    headers = {RUN_HEADER: delivered.run_id}
    if delivered.response == Trigger.RUN:
        run: dict[str, Any] = orjson.loads(delivered.run)
        match run["state"]:
            case "SUCCEEDED":
                return _json(run["output"], 200, headers)
            case "FAILED":
                return errors.failed_run(run, headers)
            case "CANCELED":
                return errors.canceled_run(run, headers)
    return _json({"run_id": delivered.run_id, "duplicate": delivered.duplicate}, 202, headers)


def _json(value: object, status: int, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")
