"""When the upstream stream breaks, the watch goes on where it was."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from reflux.core.errors import NotFound, Unavailable
from reflux.core.reasons import Reason
from tests.unit.gateway.client import next_block, rest, until
from tests.unit.gateway.conftest import running
from tests.unit.gateway.orchestrator import RUN, Orchestrator

if TYPE_CHECKING:
    import aiohttp

    from tests.unit.gateway.conftest import Gateway

URL = f"/api/runs/{RUN}:watch"


async def _read(response: aiohttp.ClientResponse, seq: int) -> None:
    while (block := await next_block(response)) is None or block.id != str(seq):
        assert block is not None


async def test_a_broken_stream_is_resumed_after_the_last_fact(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """The client sees one stream without a gap and without a repetition."""
    await orchestrator.record("RunCreated", "StepSettled")
    async with gateway.client.get(URL) as response:
        await _read(response, 2)
        await orchestrator.break_streams()
        await until(lambda: len(orchestrator.asked) == 2)
        await orchestrator.record("StepSettled", "RunFinished")
        assert [event.id for event in await rest(response)] == ["3", "4", ""]
    assert [request.after_seq for request in orchestrator.asked] == [0, 2]


async def test_a_restarted_orchestrator_is_found_again() -> None:
    """The stream outlives the orchestrator it began with; meanwhile comments show that it lives."""
    orchestrator = Orchestrator()
    async with AsyncExitStack() as first:
        await first.enter_async_context(orchestrator.serving())
        await orchestrator.record("RunCreated")
        async with running(orchestrator) as gateway, gateway.client.get(URL) as response:
            await _read(response, 1)
            await first.aclose()
            for _ in range(3):
                block = await next_block(response)
                assert block is not None
                assert block.comment == ""
            await orchestrator.record("RunFinished")
            async with orchestrator.serving():
                assert [event.id for event in await rest(response)] == ["2", ""]


async def test_after_its_last_retry_a_watch_closes_without_end(orchestrator: Orchestrator) -> None:
    """The client can tell a cut from the end of the run, and resumes with Last-Event-ID."""
    await orchestrator.record("RunCreated")
    orchestrator_is_ill = Unavailable(Reason.SERVICE_UNREACHABLE, "by the test")
    async with running(orchestrator, retries=3) as gateway, gateway.client.get(URL) as response:
        await _read(response, 1)
        orchestrator.refusals = [orchestrator_is_ill] * 10
        await orchestrator.break_streams()
        assert await rest(response) == []
    assert len(orchestrator.asked) == 1 + 3


async def test_a_final_refusal_cuts_at_once(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """A run that is gone is not asked for again; who reconnects gets the error as an answer."""
    await orchestrator.record("RunCreated")
    async with gateway.client.get(URL) as response:
        await _read(response, 1)
        orchestrator.refusals = [NotFound(Reason.RUN_NOT_FOUND, "gone")] * 2
        await orchestrator.break_streams()
        assert await rest(response) == []
    assert len(orchestrator.asked) == 2
    async with gateway.client.get(URL, headers={"Last-Event-ID": "1"}) as again:
        assert again.status == 404
