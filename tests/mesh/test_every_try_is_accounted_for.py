"""Provenance: what an attempt met on its way is told as Envoy's own access log has it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.cli.stack import ports
from reflux.controlplane.envoy import access_log
from reflux.controlplane.envoy.xds import typed
from reflux.controlplane.graph import Endpoint
from reflux.controlplane.routes import Target
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.event import Assignment
from reflux.core.names import RunId, StepPath
from reflux.orchestrator.caller import NodeCaller, Order
from reflux.orchestrator.provenance import Logged, Tries, account, call_name
from reflux.orchestrator.run_view import _assignment as shown_assignment
from reflux.runtime.clock import ManualClock
from tests.mesh.support.mesh import NODE, mesh_on
from tests.mesh.support.node import Node, hang, node_fault, target_fault, work

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from reflux.controlplane.tries import Try
    from tests.mesh.support.mesh import Mesh
    from tests.mesh.support.platform import Platform

RUN = RunId("0197a000-0000-7000-8000-000000000001")
CALLS = 10_000


class Caller:
    """The orchestrator's own caller; `call` gives the attempt as a run shows it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._caller = NodeCaller(channel, "127.0.0.1:1", ManualClock(datetime.now(UTC)))

    async def call(
        self,
        step: str,
        *,
        draw: int = 0,
        lane: Lane = Lane.BROAD,
        faults: tuple[tuple[str, str], ...] = (),
    ) -> dict[str, Any]:
        order = Order(
            run_id=RUN,
            step=StepPath(step),
            attempt=1,
            fencing_token=1,
            idempotency_key="k",
            node=NODE,
            version=None,
            input=Json(b"{}"),
            assignment=Assignment(EffectClass.PURE, lane, draw=draw),
            limit=timedelta(seconds=20),
            total_deadline=None,
            faults=faults,
        )
        result = await self._caller.call(order)
        return {
            "attempt": 1,
            "outcome": result.outcome.value,
            **shown_assignment(result.assignment),
            "start_time": result.start_time.isoformat(),
            "finish_time": result.finish_time.isoformat(),
        }


def told(step: str, attempt: dict[str, Any], tries: Iterable[Try]) -> dict[str, Any]:
    """What a run says of the attempt, when the control plane has heard `tries`."""
    name = call_name(RUN, StepPath(step), 1)
    logged = [
        Logged(t.leaf.partition("@")[2], t.endpoint, t.code, t.flags, t.started_at, t.took_us / 1e6)
        for t in sorted(tries, key=lambda t: t.started_at)
        if t.call == name
    ]
    return account(RUN, StepPath(step), attempt, {name: logged})


def outcomes(account: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Version, code and flags of each try."""
    return [(each["version"], each["code"], each["flags"]) for each in account["tried"]]


async def heard(mesh: Mesh, step: str, attempt: dict[str, Any]) -> dict[str, Any]:
    """The account of an attempt, once Envoy has told of it."""
    async with asyncio.timeout(10):
        while not (found := told(step, attempt, mesh.logged))["tried_known"]:
            await asyncio.sleep(0.02)
    return found


async def test_ten_thousand_calls_are_told_as_the_log_of_all_tries_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every attempt all tries are known; they are those of Envoy's log of every try, one by one."""
    both = {"upstream_log": [access_log.failed_tries(), access_log.logger("all")]}
    monkeypatch.setattr(
        access_log, "router", lambda: typed("envoy.extensions.filters.http.router.v3.Router", both)
    )
    every: list[Try] = []
    settings = "outlier_detection.enforcing_consecutive_gateway_failure=0"
    async with mesh_on(tmp_path, every=every) as mesh:
        await mesh.proxy.admin_post(
            f"/runtime_modify?{settings}&outlier_detection.enforcing_failure_percentage=0"
        )
        for version, ill in (("1.0.0", 4), ("2.0.0", 7)):
            (await mesh.node(version)).behaviour = _ill_every(ill)
        await mesh.route(Target("1.0.0", 7000, fallback=("2.0.0",)), Target("2.0.0", 3000, tries=2))
        async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
            caller = Caller(channel)
            numbers = iter(range(CALLS))
            attempts: dict[str, dict[str, Any]] = {}

            async def work_off() -> None:
                for number in numbers:
                    attempts[f"s{number}"] = await caller.call(f"s{number}", draw=number)

            await asyncio.gather(*(work_off() for _ in range(16)))
            counted = sum(attempt["tries"] for attempt in attempts.values())
            async with asyncio.timeout(20):
                while len([each for each in every if each.call]) < counted:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(2 * access_log.FLUSH_SECONDS)
    mine: dict[str, list[Try]] = {}
    for each in mesh.logged:
        mine.setdefault(each.call, []).append(each)
    logged: dict[str, list[Try]] = {}
    for each in every:
        logged.setdefault(each.call, []).append(each)
    assert {attempt["tries"] for attempt in attempts.values()} == {1, 2, 3}
    assert len(every) == counted
    for step, attempt in attempts.items():
        name = call_name(RUN, StepPath(step), 1)
        found = told(step, attempt, mine.get(name, []))
        truth = sorted(logged[name], key=lambda each: each.started_at)
        assert found["tried_known"]
        assert outcomes(found) == [(t.leaf.partition("@")[2], t.code, t.flags) for t in truth]
        assert found["probability"] == (0.7 if attempt["draw"] < 7000 else 0.3)
    assert Counter(each.code for each in every)["UNAVAILABLE"] > CALLS / 5


def _ill_every(nth: int) -> Any:
    calls = iter(range(1, 1 << 30))

    async def behave(context: Any) -> None:
        await (node_fault() if next(calls) % nth == 0 else work)(context)

    return behave


@pytest.mark.parametrize(
    ("behaviour", "code", "flags"),
    [
        (node_fault(), "UNAVAILABLE", ""),
        (node_fault(grpc.StatusCode.RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED", ""),
        (hang, "", "UT"),
    ],
)
async def test_a_fallback_says_what_the_try_before_it_met(
    mesh: Mesh, behaviour: Any, code: str, flags: str
) -> None:
    """Which version failed, how, where and for how long; then who answered."""
    one, _ = await mesh.node("1.0.0"), await mesh.node("2.0.0")
    one.behaviour = behaviour
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",), try_timeout_ms=300))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        attempt = await Caller(channel).call("a/b")
    found = await heard(mesh, "a/b", attempt)
    assert outcomes(found) == [("1.0.0", code, flags), ("2.0.0", "OK", "")]
    assert found["tried"][0]["endpoint"] == f"127.0.0.1:{one.endpoint.port}"
    assert found["probability"] == 1.0
    assert (float(found["tried"][0]["duration"][:-1]) > 0.2) == (flags == "UT")


async def test_a_refused_connection_is_a_try(mesh: Mesh) -> None:
    """Nobody listens at the endpoint: the try has flags and no code."""
    (port,) = ports.free_ports(1)
    mesh.nodes.append(Node("1.0.0", Endpoint("127.0.0.1", port)))
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        attempt = await Caller(channel).call("s", lane=Lane.SAFE)
    assert outcomes(await heard(mesh, "s", attempt)) == [("1.0.0", "", "UF"), ("2.0.0", "OK", "")]


@pytest.mark.parametrize(
    ("fault", "first"),
    [("abort", ("1.0.0", "UNAVAILABLE", "FI")), ("drop", ("1.0.0", "", "UR"))],
)
async def test_a_try_with_a_fault_says_that_no_version_answered(
    mesh: Mesh, fault: str, first: tuple[str, str, str]
) -> None:
    """Aborted in its place, with the code that was asked for; or its reply was lost."""
    mesh.allow_faults = True
    await mesh.node("1.0.0")
    await mesh.node("2.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    met = (("x-reflux-fault", "1"), (f"x-reflux-fault-{fault}-1.0.0", "14"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        attempt = await Caller(channel).call("s", faults=met)
        both = (met[0], (f"x-reflux-fault-{fault}", "14"))
        nobody = await Caller(channel).call("n", faults=both)
    assert outcomes(await heard(mesh, "s", attempt)) == [first, ("2.0.0", "OK", "")]
    assert (attempt["answered_by"], nobody["answered_by"], nobody["tries"]) == ("2.0.0", "", 2)
    assert nobody["flags"] == first[2]


async def test_a_failure_that_nobody_made_good_is_told_with_its_last_try(mesh: Mesh) -> None:
    """A target fault is tried once; where the last try found no endpoint, it says so."""
    one = await mesh.node("1.0.0")
    await mesh.route(Target("1.0.0", 10_000, fallback=("2.0.0",)))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.proxy.mesh}") as channel:
        caller = Caller(channel)
        one.behaviour = target_fault()
        attempt = await caller.call("target")
        assert outcomes(await heard(mesh, "target", attempt)) == [("1.0.0", "UNAVAILABLE", "")]
        one.behaviour = node_fault()
        attempt = await caller.call("nobody")
    assert outcomes(await heard(mesh, "nobody", attempt)) == [("1.0.0", "UNAVAILABLE", ""), ("", "", "UH")]


async def test_the_control_plane_keeps_them_for_whoever_asks(platform: Platform) -> None:
    """Through the real control plane and its database, also after it was restarted; else nothing is known."""
    node = Node("1.0.0")
    async with node.serving():
        await platform.register(node)
        await platform.answered_by("1.0.0")
        node.behaviour = node_fault()
        name = f"{RUN}/s/1"
        tries = Tries(platform.settings.controlplane_address)
        try:
            assert await platform.answer(**{"run-id": RUN, "step": "s", "attempt": "1"}) == ""
            async with asyncio.timeout(15):
                while not (found := await tries.of([name])):
                    await asyncio.sleep(0.05)
            assert [(each.version, each.code) for each in found[name]] == [("1.0.0", "UNAVAILABLE")]
            await platform.stop_controlplane()
            assert await tries.of([name]) is None
            assert account(RUN, StepPath("s"), _failed(), None)["tried_known"] is False
            await platform.start_controlplane()
            async with asyncio.timeout(15):
                while (again := await tries.of([name])) is None:
                    await asyncio.sleep(0.05)
            assert again == found
        finally:
            await tries.close()


def _failed() -> dict[str, Any]:
    seen = Assignment(EffectClass.PURE, Lane.BROAD, draw=0, chosen="1.0.0", weight=10_000, tries=2)
    return {"attempt": 1, "outcome": "AMBIGUOUS", **shown_assignment(seen)}
