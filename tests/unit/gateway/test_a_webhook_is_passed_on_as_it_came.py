"""What a sender sends reaches the orchestrator byte for byte, and the orchestrator's answer the sender."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookResponse, Trigger
from reflux.core.errors import AlreadyExists, NotFound, RefluxError, Unauthenticated, Unavailable
from reflux.core.reasons import Reason
from tests.unit.gateway.client import reason_of, until
from tests.unit.gateway.conftest import running
from tests.unit.gateway.orchestrator import RUN

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway
    from tests.unit.gateway.orchestrator import Orchestrator

LIMIT = 1 << 20


def ended(
    state: str, *, output: object = None, error: dict[str, Any] | None = None
) -> DeliverWebhookResponse:
    """A run that the sender waited for."""
    run = {"id": RUN, "state": state, "output": output, "error": error}
    return DeliverWebhookResponse(run_id=RUN, response=Trigger.RUN, run=orjson.dumps(run))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
async def test_every_byte_arrives(orchestrator: Orchestrator, gateway: Gateway, method: str) -> None:
    """Method, decoded path, raw query, headers in lower case, and a body that is no text."""
    body = bytes(range(256)) * 100
    sent = {"X-Event": "päid", "Content-Type": "application/octet-stream", "x-reflux-actor": "anonymous"}
    url = "/hooks/shop/a~b?x=1&y=%20&x=2"
    async with gateway.client.request(method, url, data=body, headers=sent) as response:
        assert response.status == 202
        assert response.headers["x-reflux-run-id"] == RUN
        assert await response.json() == {"run_id": RUN, "duplicate": False}
    (delivery,) = orchestrator.deliveries
    assert (delivery.method, delivery.path, delivery.query) == (method, "shop/a~b", "x=1&y=%20&x=2")
    assert delivery.body == body
    headers = {field.name: field.value for field in delivery.headers}
    assert headers["x-event"].encode("latin-1").decode() == "päid"
    assert headers["content-type"] == "application/octet-stream"
    assert orchestrator.metadata[-1]["x-reflux-actor"] == "anonymous"


async def test_a_duplicate_is_said_to_be_one(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """The same run id, and that it is not new."""
    orchestrator.delivered = DeliverWebhookResponse(run_id=RUN, duplicate=True)
    async with gateway.client.post("/hooks/a") as response:
        assert await response.json() == {"run_id": RUN, "duplicate": True}


@pytest.mark.parametrize("output", [{"total": 3}, None, [1], "text", 0])
async def test_the_output_of_the_run_is_the_body(
    orchestrator: Orchestrator, gateway: Gateway, output: object
) -> None:
    """Any JSON value, itself."""
    orchestrator.delivered = ended("SUCCEEDED", output=output)
    async with gateway.client.post("/hooks/a") as response:
        assert (response.status, response.content_type) == (200, "application/json")
        assert response.headers["x-reflux-run-id"] == RUN
        assert await response.json() == output


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("INVALID_ARGUMENT", 400),
        ("PERMISSION_DENIED", 403),
        ("NOT_FOUND", 404),
        ("ABORTED", 409),
        ("RESOURCE_EXHAUSTED", 429),
        ("CANCELLED", 499),
        ("INTERNAL", 500),
        ("UNKNOWN", 500),
        ("DATA_LOSS", 500),
        ("UNIMPLEMENTED", 501),
        ("UNAVAILABLE", 503),
        ("DEADLINE_EXCEEDED", 504),
        ("OUT_OF_RANGE", 400),
        ("FAILED_PRECONDITION", 400),
        ("ALREADY_EXISTS", 409),
        ("UNAUTHENTICATED", 401),
        ("SOMETHING_NEW", 500),
    ],
)
async def test_a_run_that_failed_answers_with_its_error(
    orchestrator: Orchestrator, gateway: Gateway, code: str, status: int
) -> None:
    """Each canonical code has its HTTP status; the reason may be a node's own."""
    error = {"code": code, "reason": "NO_STOCK", "message": "sold out", "step": "pay", "retryable": False}
    orchestrator.delivered = ended("FAILED", error=error)
    async with gateway.client.post("/hooks/a") as response:
        assert response.status == status
        assert response.headers["x-reflux-run-id"] == RUN
        assert await reason_of(response) == "NO_STOCK"
        body = await response.json()
        assert body["message"] == "sold out"
        assert body["details"][0]["metadata"] == {"run_id": RUN, "step": "pay"}


async def test_a_run_that_was_cancelled_is_a_conflict(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """There is no output, and no error of the run's own."""
    orchestrator.delivered = ended("CANCELED")
    async with gateway.client.post("/hooks/a") as response:
        assert response.status == 409
        assert await reason_of(response) == Reason.RUN_CANCELED


@pytest.mark.parametrize("state", ["RUNNING", "CANCELING", "PARKED"])
async def test_a_run_that_goes_on_is_accepted(
    orchestrator: Orchestrator, gateway: Gateway, state: str
) -> None:
    """The sender has its id and may look."""
    orchestrator.delivered = ended(state)
    async with gateway.client.post("/hooks/a") as response:
        assert response.status == 202
        assert await response.json() == {"run_id": RUN, "duplicate": False}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound(Reason.WEBHOOK_NOT_FOUND, "no flow"), 404),
        (Unauthenticated(Reason.SIGNATURE_INVALID, "wrong"), 401),
        (Unauthenticated(Reason.DELIVERY_REPLAYED, "old"), 401),
        (AlreadyExists(Reason.REQUEST_ID_REUSED, "reused"), 409),
        (Unavailable(Reason.SECRET_MISSING, "not set"), 503),
    ],
)
async def test_a_refusal_keeps_its_reason(
    orchestrator: Orchestrator, gateway: Gateway, error: RefluxError, status: int
) -> None:
    """Typed, with the status that senders understand."""
    orchestrator.refusals = [error]
    async with gateway.client.post("/hooks/a") as response:
        assert response.status == status
        assert await reason_of(response) == error.reason


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_goes_no_further(
    orchestrator: Orchestrator, gateway: Gateway, *, chunked: bool
) -> None:
    """With a length or without one; the largest that is allowed passes."""

    def body(size: int) -> Any:
        async def chunks():
            for _ in range(size // 1024):
                yield b"x" * 1024
            yield b"x" * (size % 1024)

        return chunks() if chunked else b"x" * size

    async with gateway.client.post("/hooks/a", data=body(LIMIT)) as response:
        assert response.status == 202
    async with gateway.client.post("/hooks/a", data=body(LIMIT + 1)) as response:
        assert response.status == 400
        assert await reason_of(response) == Reason.DOCUMENT_TOO_LARGE
    assert [len(delivery.body) for delivery in orchestrator.deliveries] == [LIMIT]


async def test_a_gateway_that_has_its_hands_full_says_so(orchestrator: Orchestrator) -> None:
    """Beyond its limit nothing is read, and the sender comes again."""
    async with running(orchestrator, limit=0) as gateway, gateway.client.post("/hooks/a") as response:
        assert response.status == 429
        assert await reason_of(response) == Reason.NOT_ACCEPTING


async def test_a_sender_that_leaves_takes_its_place_along(orchestrator: Orchestrator) -> None:
    """A body that never ends does not hold a place for ever."""
    async with running(orchestrator, limit=1) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /hooks/a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
        await writer.drain()
        async with asyncio.timeout(10):
            while True:
                async with gateway.client.post("/hooks/a") as response:
                    if response.status == 429:
                        break
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(10):
            while True:
                async with gateway.client.post("/hooks/a") as response:
                    if response.status == 202:
                        break
    del reader


async def test_a_sender_that_is_too_slow_is_sent_away(orchestrator: Orchestrator) -> None:
    """Its place is free again, it hears why, and nothing of it has gone further."""
    async with running(orchestrator, limit=1, body_seconds=0.3) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /hooks/a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readuntil(b"]}")
        assert answer.startswith(b"HTTP/1.1 503")
        assert Reason.BODY_TOO_SLOW.value.encode() in body
        async with gateway.client.post("/hooks/a", data=b"x") as response:
            assert response.status == 202
        writer.close()
    assert [delivery.body for delivery in orchestrator.deliveries] == [b"x"]


async def test_runs_that_are_waited_for_keep_nobody_out(orchestrator: Orchestrator) -> None:
    """Those of one flow have a quarter of the room; the next one has its run id at once, others may wait."""
    orchestrator.answers.clear()
    orchestrator.delivered = ended("SUCCEEDED", output=1)
    async with running(orchestrator, limit=8) as gateway:
        waiting = [asyncio.ensure_future(gateway.client.post("/hooks/slow")) for _ in range(2)]
        await until(lambda: len(orchestrator.deliveries) == 2)
        for _ in range(10):
            async with gateway.client.post("/hooks/slow") as response:
                assert response.status == 202
                assert await response.json() == {"run_id": RUN, "duplicate": False}
        other = asyncio.ensure_future(gateway.client.post("/hooks/other"))
        await until(lambda: len(orchestrator.deliveries) == 13)
        orchestrator.answers.set()
        assert [(await task).status for task in (*waiting, other)] == [200] * 3
        async with gateway.client.post("/hooks/slow") as response:
            assert response.status == 200
    asked = [(delivery.path, delivery.do_not_wait) for delivery in orchestrator.deliveries]
    assert asked == [("slow", False)] * 2 + [("slow", True)] * 10 + [("other", False), ("slow", False)]


async def test_of_all_paths_together_no_more_wait_than_there_is_room(orchestrator: Orchestrator) -> None:
    """Whoever comes then is heard all the same."""
    orchestrator.answers.clear()
    async with running(orchestrator, limit=4) as gateway:
        waiting = [asyncio.ensure_future(gateway.client.post(f"/hooks/{n}")) for n in range(4)]
        await until(lambda: len(orchestrator.deliveries) == 4)
        async with gateway.client.post("/hooks/next") as response:
            assert response.status == 202
        assert orchestrator.deliveries[-1].do_not_wait
        orchestrator.answers.set()
        await asyncio.gather(*waiting)


async def test_a_sender_that_stops_waiting_is_not_waited_for(orchestrator: Orchestrator) -> None:
    """Its place is free at once, and the orchestrator hears of it: a run may take minutes."""
    orchestrator.answers.clear()
    async with running(orchestrator, limit=1) as gateway:
        waiting = asyncio.ensure_future(gateway.client.post("/hooks/a", data=b"x"))
        await until(lambda: len(orchestrator.deliveries) == 1)
        waiting.cancel()
        await until(lambda: orchestrator.given_up == 1)
        orchestrator.answers.set()
        async with gateway.client.post("/hooks/a") as response:
            assert response.status == 202


async def test_a_method_of_another_kind_is_refused(gateway: Gateway) -> None:
    """Nothing is forwarded that no trigger can name."""
    async with gateway.client.request("TRACE", "/hooks/a") as response:
        assert response.status == 405
