"""A watch shows every fact of a run once, in order, as it happens, and says when nothing follows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reflux.gateway import sse
from tests.unit.gateway.client import Block, next_block, rest
from tests.unit.gateway.orchestrator import RUN

if TYPE_CHECKING:
    from tests.unit.gateway.conftest import Gateway
    from tests.unit.gateway.orchestrator import Orchestrator

URL = f"/api/runs/{RUN}:watch"


async def test_every_fact_is_an_event_and_the_last_one_is_followed_by_end(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """`id` is the sequence number, `event` the kind, `data` the fact; then `end`, and nothing more."""
    await orchestrator.record("RunCreated", "AttemptFinished", "RunFinished")
    async with gateway.client.get(URL) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert response.headers["cache-control"] == "no-store"
        events = await rest(response)
    kinds = ("RunCreated", "AttemptFinished", "RunFinished")
    facts = [
        json.dumps({"seq": seq, "kind": kind}, separators=(",", ":")) for seq, kind in enumerate(kinds, 1)
    ]
    assert events == [
        *(Block(kind, str(seq), fact) for seq, (kind, fact) in enumerate(zip(kinds, facts, strict=True), 1)),
        Block("end", "", '{"seq":3}'),
    ]


async def test_the_id_of_a_run_is_read_in_any_case(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """Whatever wrote it down."""
    await orchestrator.record("RunCreated", "RunFinished")
    async with gateway.client.get(f"/api/runs/{RUN.upper()}:watch") as response:
        assert response.status == 200
        assert [each.event for each in await rest(response)] == ["RunCreated", "RunFinished", "end"]


async def test_a_fact_is_sent_when_it_is_recorded(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """A watch opens before the run has done anything, and each fact arrives while the run goes on."""
    async with gateway.client.get(URL) as response:
        for seq, kind in enumerate(("RunCreated", "StepSettled"), start=1):
            await orchestrator.record(kind)
            while (block := await next_block(response)) is not None and block.comment is not None:
                pass
            assert block is not None
            assert (block.id, block.event) == (str(seq), kind)


async def test_a_silent_stream_carries_comments(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """Between facts a comment shows that the stream lives, again and again."""
    await orchestrator.record("RunCreated")
    async with gateway.client.get(URL) as response:
        first = await next_block(response)
        assert first is not None
        assert first.event == "RunCreated"
        assert [await next_block(response) for _ in range(3)] == [Block(comment="")] * 3


async def test_after_leaves_out_what_the_caller_has(orchestrator: Orchestrator, gateway: Gateway) -> None:
    """`?after=N` and `Last-Event-ID: N` resume behind N; the header wins, as browsers keep the URL."""
    await orchestrator.record("RunCreated", "StepSettled", "StepSettled", "RunFinished")
    for url, headers, expected in (
        (f"{URL}?after=2", {}, ["3", "4", ""]),
        (URL, {"Last-Event-ID": "3"}, ["4", ""]),
        (f"{URL}?after=1", {"Last-Event-ID": "3"}, ["4", ""]),
    ):
        async with gateway.client.get(url, headers=headers) as response:
            assert [event.id for event in await rest(response)] == expected


async def test_who_has_seen_the_end_is_told_not_to_come_back(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """204 is what makes a browser's EventSource stop reconnecting."""
    await orchestrator.record("RunCreated", "RunFinished")
    async with gateway.client.get(URL, headers={"Last-Event-ID": "2"}) as response:
        assert response.status == 204
        assert await response.read() == b""


async def test_the_trace_and_the_actor_go_on_to_the_orchestrator(
    orchestrator: Orchestrator, gateway: Gateway
) -> None:
    """What the edge says of the caller arrives upstream; the caller's other headers do not."""
    await orchestrator.record("RunFinished")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": trace, "x-reflux-actor": "anonymous", "cookie": "a=b"}
    async with gateway.client.get(URL, headers=headers) as response:
        await rest(response)
    (metadata,) = orchestrator.metadata
    assert metadata["traceparent"] == trace
    assert metadata["x-reflux-actor"] == "anonymous"
    assert "cookie" not in metadata


def test_a_document_with_line_breaks_stays_one_event() -> None:
    """Every line of the data is marked as data, so that no text of a user can forge an event."""
    frame = sse.event(7, "StepSettled", b'{"a":\r\n"x"}\nevent: end')
    assert frame == b'id: 7\nevent: StepSettled\ndata: {"a":\ndata: "x"}\ndata: event: end\n\n'


def test_a_comment_is_one_line() -> None:
    """A comment cannot end its block early."""
    assert sse.comment("one\n\ntwo") == b": one two\n\n"
