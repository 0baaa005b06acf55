"""`ctx.spent` says what a call has cost; it travels with the outcome, whatever that is."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import grpc
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.core.effect import EffectClass
from reflux.runtime import rpc
from reflux.sdk import Context, Model, NodeFault, TargetFault, node
from tests.unit.sdk.served import served


class Input(Model):
    amounts: tuple[str, ...] = ()
    fault: str = ""


class Output(Model):
    told: bool


@node("test.paid", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=10), batchable=True)
async def paid(given: Input, ctx: Context[None]) -> Output:
    """Spends, then does as it is told."""
    for amount in given.amounts:
        ctx.spent(Decimal(amount))
    if given.fault == "node":
        raise NodeFault(grpc.StatusCode.UNAVAILABLE, "ill")
    if given.fault == "target":
        raise TargetFault(grpc.StatusCode.NOT_FOUND, "gone")
    return Output(told=bool(given.amounts))


async def _execute(channel: grpc.aio.Channel, given: Input) -> pb.ExecuteResponse:
    request = pb.ExecuteRequest(input=given.model_dump_json().encode())
    return await NodeServiceStub(channel).Execute(request, metadata=(("x-reflux-effect", "pure"),))


async def test_what_was_spent_is_added_up_to_a_billionth_of_a_dollar():
    """Exactly: ten tenths of a cent are a cent."""
    async with served(paid) as caller:
        response = await _execute(caller.channel, Input(amounts=("0.001",) * 10))
        assert response.cost_nanos == 10_000_000
        response = await _execute(caller.channel, Input(amounts=("0.0000000004", "0.0000000016")))
        assert response.cost_nanos == 2


async def test_a_call_that_says_nothing_tells_no_cost():
    """Unknown is not nothing: a cost of 0 is told as such."""
    async with served(paid) as caller:
        assert not (await _execute(caller.channel, Input())).HasField("cost_nanos")
        response = await _execute(caller.channel, Input(amounts=("0",)))
        assert response.HasField("cost_nanos")
        assert response.cost_nanos == 0


@pytest.mark.parametrize("fault", ["node", "target"])
async def test_a_failed_call_was_paid_for_as_well(fault):
    """It stands in the metadata of the error."""
    async with served(paid) as caller:
        answer = await caller({"amounts": ["0.25"], "fault": fault}, effect="pure")
        assert answer.failure.metadata["cost_nanos"] == "250000000"
        answer = await caller({"fault": fault}, effect="pure")
        assert "cost_nanos" not in answer.failure.metadata


async def test_each_call_of_a_batch_has_its_own():
    """Told in its result, and in the status of one that failed."""
    async with served(paid) as caller:
        given = [Input(amounts=("0.5",)), Input(), Input(amounts=("1",), fault="target")]
        items = [pb.BatchItem(input=each.model_dump_json().encode()) for each in given]
        stream = NodeServiceStub(caller.channel).ExecuteBatch(
            pb.ExecuteBatchRequest(items=items), metadata=(("x-reflux-effect", "pure"),)
        )
        results = {result.index: result async for message in stream for result in message.results}
    assert results[0].cost_nanos == 500_000_000
    assert not results[1].HasField("cost_nanos")
    assert rpc.read_status(results[2].failure).metadata["cost_nanos"] == "1000000000"


@pytest.mark.parametrize("amount", ["-0.01", "1000000.01", "NaN", "Infinity"])
async def test_what_is_no_cost_is_a_defect_of_the_node(amount):
    """It fails where it is said, not in somebody's sum."""
    async with served(paid) as caller:
        answer = await caller({"amounts": [amount]}, effect="pure")
        assert answer.code is grpc.StatusCode.INTERNAL
