"""The registry says who is alive; while it is silent, whoever was alive counts as alive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mesh.support.node import Node

if TYPE_CHECKING:
    from tests.mesh.support.platform import Platform


async def test_it_goes_away_and_comes_back(platform: Platform) -> None:
    """Calls are served all the time, and what registers afterwards is found."""
    async with Node("1.0.0").serving() as first, Node("2.0.0").serving() as second:
        await platform.register(first)
        await platform.answered_by("1.0.0")
        await platform.stop_registry()
        assert {await platform.answer() for _ in range(50)} == {"1.0.0"}
        await platform.update({"version": "1.0.0", "weight": 10_000})
        assert (await platform.get()).revision == 2
        await platform.start_registry()
        await platform.register(second)
        await platform.answered_by("2.0.0", version="2.0.0")
        assert {await platform.answer() for _ in range(20)} == {"1.0.0"}
