"""A version comes to take calls only when the flows that would meet it can be given to it, or somebody says
so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from reflux.api.flow.v1 import contract_service_pb2 as flows_pb
from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.core.reasons import Reason
from reflux.runtime import rpc
from tests.mesh.support.node import Node
from tests.mesh.support.platform import NODE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from reflux.runtime.rpc import RpcFailure
    from tests.mesh.support.platform import Platform


def misfit(*, sure: bool) -> flows_pb.Misfit:
    return flows_pb.Misfit(
        flow="checkout",
        flow_version=3,
        step="ask",
        pointer="/spec/steps/0/with/mode",
        code=flows_pb.Misfit.INPUT_INVALID,
        sure=sure,
        message="'fast' is not one of ['slow']",
        hint="let it name demo.chat@1.0.0",
    )


@pytest.fixture
async def two(platform: Platform) -> AsyncIterator[Platform]:
    """Two versions; the first takes every call."""
    async with AsyncExitStack() as stack:
        for version in ("1.0.0", "2.0.0"):
            await platform.register(await stack.enter_async_context(Node(version).serving()))
            await platform.answered_by(version, version=version)
        yield platform


async def refused(call: Any) -> RpcFailure:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return rpc.read(caught.value)


def shares(first: int, second: int) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"version": "1.0.0", "weight": first}, {"version": "2.0.0", "weight": second}


async def test_a_version_that_flows_cannot_be_given_to_takes_no_calls(two: Platform) -> None:
    """The refusal names flow, version, step and place, by a share and as a fallback; nothing has changed."""
    two.flows.misfits["2.0.0"] = [misfit(sure=False)]
    told = await refused(two.update(*shares(9000, 1000)))
    assert (told.code, told.reason) == (grpc.StatusCode.FAILED_PRECONDITION, Reason.CONTRACT_BROKEN)
    assert told.metadata == {"node": NODE, "versions": "2.0.0", "flows": "checkout@3"}
    (violation,) = told.violations
    assert violation.pointer == "checkout@3/spec/steps/0/with/mode"
    assert violation.message.startswith("step ask, demo.chat@2.0.0: 'fast' is not one of ['slow']")
    by_fallback = {"version": "1.0.0", "weight": 10_000, "fallback": ["2.0.0"]}
    assert (await refused(two.update(by_fallback))).reason == Reason.CONTRACT_BROKEN
    assert [(list(asked.versions), list(asked.serving)) for asked in two.flows.asked] == [
        (["2.0.0"], ["1.0.0"])
    ] * 2
    assert (await two.get()).revision == 1


async def test_who_must_act_says_so_and_the_revision_keeps_it(two: Platform) -> None:
    """Once it was let in, each step of its canary asks only about what is sure to fail; less is never asked
    about.
    """
    two.flows.misfits["2.0.0"] = [misfit(sure=False)]
    answer = await two.rest(
        "PUT", f"/api/routes/{NODE}?ignore_contracts=true", {"targets": shares(9000, 1000)}
    )
    assert (answer.status, answer.json["contracts_ignored"]) == (200, True)
    assert not two.flows.asked
    grown = await two.update(*shares(5000, 5000))
    assert (grown.revision, grown.contracts_ignored) == (3, False)
    two.flows.misfits["2.0.0"] = [misfit(sure=True)]
    assert (await refused(two.update(*shares(4000, 6000)))).reason == Reason.CONTRACT_BROKEN
    assert (await two.update(*shares(9000, 1000))).revision == 4
    back = pb.RollbackRouteRequest(node=NODE, revision=3)
    assert (await refused(two.routing.RollbackRoute(back, timeout=10))).reason == Reason.CONTRACT_BROKEN
    back.ignore_contracts = True
    assert (await two.routing.RollbackRoute(back, timeout=10)).contracts_ignored
    history = await two.routing.ListRouteRevisions(pb.ListRouteRevisionsRequest(node=NODE), timeout=10)
    assert [each.contracts_ignored for each in history.revisions] == [True, False, False, True, False]


async def test_what_nobody_can_say_is_not_assumed(two: Platform) -> None:
    """Without an orchestrator a version does not come to take calls; what moves none needs no answer."""
    two.flows.away = True
    told = await refused(two.update(*shares(9000, 1000)))
    assert (told.code, told.reason) == (grpc.StatusCode.UNAVAILABLE, Reason.SERVICE_UNREACHABLE)
    assert "ignore_contracts" in told.message
    assert (await two.update(*shares(10_000, 0), note="a target")).revision == 2
    stale = await refused(two.update(*shares(9000, 1000), revision=1))
    assert stale.reason == Reason.REVISION_STALE
