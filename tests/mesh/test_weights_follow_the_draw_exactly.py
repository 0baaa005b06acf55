"""The caller sends the draw, so the journal can say why a version was chosen."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import grpc

from reflux.controlplane.routes import Target

if TYPE_CHECKING:
    from tests.mesh.support.mesh import Mesh


async def test_the_boundaries_of_7000_to_3000_are_exact(mesh: Mesh) -> None:
    """A draw from 0 to 6999 goes to the first target, from 7000 to 9999 to the second, every time."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 7000), Target("2.0.0", 3000))
    for draw, version in ((0, "1.0.0"), (6999, "1.0.0"), (7000, "2.0.0"), (9999, "2.0.0")):
        for _ in range(3):
            reply = await mesh.call(draw=draw)
            assert (reply.answer, reply.chosen) == (version, version), f"draw {draw}"


async def test_a_growing_canary_keeps_its_users(mesh: Mesh) -> None:
    """Targets keep their order, so whoever was on the canary at 10 % is on it at 30 %."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    for share in (1000, 3000):
        await mesh.route(Target("1.0.0", 10_000 - share), Target("2.0.0", share))
        assert (await mesh.call(draw=9000)).answer == "2.0.0"
        assert (await mesh.call(draw=10_000 - share - 1)).answer == "1.0.0"


async def test_without_a_draw_envoy_draws(mesh: Mesh) -> None:
    """A missing or malformed draw still gives a choice by the weights."""
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 5000), Target("2.0.0", 5000))
    replies = [await mesh.call() for _ in range(40)]
    replies += [await mesh.call(x_reflux_draw="heads") for _ in range(5)]
    assert {reply.code for reply in replies} == {grpc.StatusCode.OK}
    assert Counter(reply.answer for reply in replies).keys() == {"1.0.0", "2.0.0"}
