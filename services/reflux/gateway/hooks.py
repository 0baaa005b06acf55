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

Each names the run in `x-reflux-run-id`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import grpc
import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookRequest, HeaderField, Trigger
from reflux.core.document import MAX_DOCUMENT_BYTES
from reflux.core.errors import Exhausted, InvalidArgument
from reflux.core.reasons import Reason
from reflux.gateway import errors
from reflux.runtime import rpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookResponse
    from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceAsyncStub

MAX_DELIVERIES: Final = 512
"""At once; each may hold a body of 1 MiB."""
MAX_HEARD_BYTES: Final = 16 << 20
"""Of a body that is too large: what is listened to before its sender is told so."""
SECONDS: Final = 320.0
"""A trigger waits for its run for at most 300 s."""
RUN_HEADER: Final = "x-reflux-run-id"


class Hooks:
    """The deliveries of this gateway."""

    def __init__(self, stub: TriggerServiceAsyncStub, limit: int = MAX_DELIVERIES) -> None:
        self._stub = stub
        self._limit = limit
        self._active = 0

    async def deliver(self, request: Request, metadata: Sequence[tuple[str, str]]) -> Response:
        """Forward one request, and answer it.

        Raises:
            InvalidArgument: DOCUMENT_TOO_LARGE.
            Exhausted: this gateway has as many deliveries in hand as it takes.
            RefluxError: what the orchestrator raises.
        """
        if self._active >= self._limit:
            message = f"{self._limit} deliveries are in hand here already; try again"
            raise Exhausted(Reason.NOT_ACCEPTING, message)
        self._active += 1
        try:
            return _answer(await self._forward(request, metadata))
        except ClientDisconnect:
            return Response(status_code=499)  # nobody hears it
        finally:
            self._active -= 1

    async def _forward(self, request: Request, metadata: Sequence[tuple[str, str]]) -> DeliverWebhookResponse:
        delivery = DeliverWebhookRequest(
            method=request.method,
            path=request.path_params["path"],
            query=request.url.query,
            headers=[
                HeaderField(name=name.decode("latin-1"), value=value.decode("latin-1"))
                for name, value in request.headers.raw
            ],
            body=await _body(request),
        )
        call = self._stub.DeliverWebhook(delivery, timeout=SECONDS, metadata=tuple(metadata))
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
