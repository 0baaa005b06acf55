"""A version says what became of an effect, and undoes one by its key; what it cannot say it does not say."""

from datetime import UTC, datetime, timedelta

import grpc
import orjson
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.core.effect import EffectClass
from reflux.runtime import rpc
from reflux.sdk import Asked, Context, Found, Model, Unknown, Voided, node
from tests.unit.sdk.served import served

SINCE = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Charge(Model):
    amount: int


class Receipt(Model):
    id: str


async def look(asked: Asked[Charge], ctx: Context[None]):
    """The key says what the provider would."""
    match asked.idempotency_key:
        case "there":
            return Found(Receipt(id=f"{asked.scope}/{asked.execution_id}/{asked.input.amount}"), "listed")
        case "gone":
            return Voided(f"not older than {asked.since:%H:%M}")
        case "ill":
            raise RuntimeError("secret words")
        case "wrong":
            return Found(Charge(amount=1))
        case _:
            return Unknown(f"asked by attempt {ctx.attempt}")


async def undo(asked: Asked[Charge], ctx: Context[None]):
    """It always can."""
    return Voided("refunded")


def version(**options):
    @node(
        "test.pay",
        "1.0.0",
        effect=EffectClass.COMPENSATABLE,
        attempt_timeout=timedelta(seconds=5),
        **options,
    )
    async def pay(given: Charge) -> Receipt:
        """Charges."""
        return Receipt(id="1")

    return pay


def effect(key: str, **more) -> pb.ClaimedEffect:
    made = pb.ClaimedEffect(
        idempotency_key=key, scope="account", execution_id="e1", input=b'{"amount": 7}', **more
    )
    made.start_time.FromDatetime(SINCE)
    return made


async def verified(call, key: str) -> pb.EffectKnowledge:
    request = pb.VerifyRequest(effect=effect(key))
    return (
        await NodeServiceStub(call.channel).Verify(request, metadata=(("x-reflux-attempt", "3"),))
    ).knowledge


async def test_an_effect_that_is_there_is_found_with_the_output_of_the_call():
    """The handler knows the key, the claim and the input; its output travels as that of a call would."""
    async with served(version(verify=look)) as call:
        told = await verified(call, "there")
    assert told.state == pb.EffectKnowledge.FOUND
    assert orjson.loads(told.output) == {"id": "account/e1/7"}
    assert told.detail == "listed"


async def test_what_is_voided_or_unknown_comes_with_the_evidence():
    """Each in the handler's words."""
    async with served(version(verify=look)) as call:
        gone, unknown = await verified(call, "gone"), await verified(call, "never seen")
    assert (gone.state, gone.detail) == (pb.EffectKnowledge.VOIDED, "not older than 12:00")
    assert (unknown.state, unknown.detail) == (pb.EffectKnowledge.UNKNOWN, "asked by attempt 3")


@pytest.mark.parametrize("key", ["ill", "wrong"])
async def test_a_handler_that_fails_has_said_nothing(key):
    """Neither an exception nor an output of another shape becomes an answer, and no word of it leaves."""
    async with served(version(verify=look)) as call:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await verified(call, key)
    failure = rpc.read(raised.value)
    assert failure.code is grpc.StatusCode.INTERNAL
    assert "secret" not in failure.message


async def test_an_input_that_does_not_fit_is_refused():
    """The handler gets the version's own model, or nothing."""
    async with served(version(verify=look)) as call:
        request = pb.VerifyRequest(effect=pb.ClaimedEffect(idempotency_key="there", input=b"{}"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await NodeServiceStub(call.channel).Verify(request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_effect_is_cancelled_by_its_key():
    """Cancel answers as verify does."""
    async with served(version(cancel=undo)) as call:
        told = (await NodeServiceStub(call.channel).Cancel(pb.CancelRequest(effect=effect("any")))).knowledge
    assert (told.state, told.detail) == (pb.EffectKnowledge.VOIDED, "refunded")


async def test_a_version_without_handlers_says_so():
    """It describes itself so, and answers UNIMPLEMENTED to who asks nevertheless."""
    bare = version()
    assert not bare.describe().verifiable
    assert not bare.describe().cancelable
    assert version(verify=look).describe().verifiable
    assert version(cancel=undo).describe().cancelable
    async with served(bare) as call:
        stub = NodeServiceStub(call.channel)
        for ask, request in ((stub.Verify, pb.VerifyRequest()), (stub.Cancel, pb.CancelRequest())):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await ask(request)
            assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
