"""A run that cannot be advanced by a defect of ours stops only itself, and a cancel ends it as it stands."""

from __future__ import annotations

import asyncio

from reflux.core.walker import decide
from reflux.orchestrator import worker


async def test_a_cancel_at_which_the_walk_fails_ends_the_run_and_its_child(begin, monkeypatch):
    """Within seconds, once: its journal does not grow by tries, and its child does not go on without it."""

    def fails(state, now):
        if state.cancel is not None and state.finished is None:
            raise RuntimeError("a defect")
        return decide(state, now)

    monkeypatch.setattr(worker, "decide", fails)
    async with begin() as client:
        await client.save("inner", {"id": "w", "wait": {"signal": "go"}})
        pay = {"id": "pay", "node": "work.pure", "compensate": {"node": "work.pure", "with": {}}}
        run = await client.start(await client.save("outer", pay, {"id": "sub", "flow": "inner"}))
        async with asyncio.timeout(20):
            while "ChildStarted" not in [event["kind"] for event in await client.events(run["id"])]:
                await asyncio.sleep(0.05)
        child = (await client.steps(run["id"]))["sub"]["child_run_id"]
        await client.cancel(run["id"])
        ended = await client.until(run["id"], "CANCELED", seconds=10)
        await client.until(child, "CANCELED", seconds=10)
        kinds = [event["kind"] for event in await client.events(run["id"])]
    assert ended["error"]["reason"] == "RUN_BROKEN"
    assert ended["uncompensated"] == ["pay"]
    assert kinds.count("RunParked") <= 1
    assert kinds[-1] == "RunFinished"


async def test_who_waits_for_a_run_that_is_ended_so_is_told(begin, monkeypatch):
    """Its parent hears of the end as of every other, in the statement that ends it, and goes on at once."""

    def fails(state, now):
        if state.flow.name == "inner" and state.cancel is not None and state.finished is None:
            raise RuntimeError("a defect")
        return decide(state, now)

    monkeypatch.setattr(worker, "decide", fails)
    async with begin() as client:
        await client.save("inner", {"id": "w", "wait": {"signal": "go"}})
        sub = {"id": "sub", "flow": "inner", "on_error": "continue"}
        after = {"id": "after", "set": {"state": "{{ steps.sub.state }}"}}
        run = await client.start(await client.save("outer", sub, after))
        async with asyncio.timeout(20):
            while "ChildStarted" not in [event["kind"] for event in await client.events(run["id"])]:
                await asyncio.sleep(0.05)
        child = (await client.steps(run["id"]))["sub"]["child_run_id"]
        await client.cancel(child)
        ended = await client.until(child, "CANCELED", seconds=10)
        told = await client.until(run["id"], "SUCCEEDED", seconds=10)
    assert ended["error"]["reason"] == "RUN_BROKEN"
    assert told["output"] == {"state": "FAILED"}
