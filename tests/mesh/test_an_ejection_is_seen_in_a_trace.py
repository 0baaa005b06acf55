"""The span of an attempt whose version was ejected says so, and the try below it says who answered instead.

Orchestrator, control plane and Envoy each tell the same collector of one run.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from tests.mesh.support.node import Node, node_fault
from tests.mesh.support.orchestrator import orchestrator_on
from tests.mesh.support.platform import NODE, platform_on
from tests.support.otlp import running_receiver

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


async def test_the_attempt_has_the_reason_and_the_try_the_version(
    database_dsn: str, tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First a fallback, whose two tries are seen; when 1 is out, one try: at 2, because 1 is ejected."""
    async with AsyncExitStack() as stack:
        receiver = stack.enter_context(running_receiver())
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint)
        platform = await stack.enter_async_context(platform_on(database_dsn, tmp_path, lease_seconds=120))
        ill, well = [await stack.enter_async_context(Node(name).serving()) for name in ("1", "2")]
        client = await stack.enter_async_context(orchestrator_on(platform, valkey_url))
        for node in (ill, well):
            await platform.register(node, pure=True)
            await platform.answered_by(node.version, version=node.version)
        chain = {"version": "1", "weight": 10_000, "fallback": ["2"], "ejection": {"base_time": "60s"}}
        await platform.update(chain, {"version": "2", "weight": 0})
        ill.behaviour = node_fault()
        await client.save("seen", {"id": "one", "node": NODE, "with": {}})

        async def spans() -> tuple[dict[str, object], list[tuple[str, bool]]]:
            """Of a run's attempt: its attributes, and its tries, each with whether it failed."""
            run = await client.start("seen", wait="30s", seconds=40)
            assert run["state"] == "SUCCEEDED"
            trace = await asyncio.to_thread(
                receiver.trace,
                run["id"],
                lambda trace: trace.named("attempt 1") and trace.named(f"try {NODE}@2"),
            )
            attempt = trace.one("attempt 1")
            (call,) = trace.children(attempt)
            tries = [(each.attributes["reflux.node.version"], each.failed) for each in trace.children(call)]
            return attempt.attributes, tries

        said, tries = await spans()
        assert (said["reflux.chosen"], said["reflux.reason"], said["reflux.tries"]) == ("1", "fallback", 2)
        assert tries == [("1", True), ("2", False)]
        async with asyncio.timeout(30):
            while not sum((await platform.proxy.stats("outlier_detection.ejections_active$")).values()):
                await platform.answer(lane="broad")
        async with asyncio.timeout(10):
            before = -1
            while before != len(ill.calls):  # Envoy's threads tell each other within milliseconds
                before = len(ill.calls)
                await platform.answer(lane="broad")
        said, tries = await spans()
        assert (said["reflux.chosen"], said["reflux.answered_by"]) == ("1", "2")
        assert (said["reflux.reason"], said["reflux.tries"]) == ("ejected", 1)
        assert tries == [("2", False)]
