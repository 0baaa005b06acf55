"""What became of a charge is told by its key, and undone by its key, on each provider's own wire.

The providers are played by a process of ours; what they record is what happened.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import grpc
import orjson
import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.api.node.v1.node_service_pb2_grpc import NodeServiceStub
from reflux.nodes import load
from reflux.nodes.payment.access import access_to
from reflux.runtime import rpc
from tests.support.payments import PROVIDERS, running_payments
from tests.unit.sdk.served import Caller, Orchestrator, orchestrator, served

FOUND, VOIDED, UNKNOWN = pb.EffectKnowledge.FOUND, pb.EffectKnowledge.VOIDED, pb.EffectKnowledge.UNKNOWN
SOURCE = {"stripe": "pm_1", "paypal": "vault-1", "square": "ccof:1"}
KEPT = {"stripe": timedelta(hours=24), "paypal": timedelta(hours=6), "square": timedelta(hours=1)}


class Shop(NamedTuple):
    """One provider's version, served."""

    name: str
    world: object
    call: Caller
    claims: Orchestrator

    async def charge(self, key: str, fault: str = "ok"):
        """Asks for a charge whose first request meets a fault."""
        self.world.plan(self.name, fault)
        given = {"amount": 1999, "currency": "USD", "source": SOURCE, "description": key}
        return await self.call(
            given, idempotency_key=key, claim_address=self.claims.address, effect="compensatable"
        )

    async def ask(self, method: str, key: str, *, scope: str | None = None) -> pb.EffectKnowledge:
        """Verify or Cancel."""
        given = {"amount": 1999, "currency": "USD", "source": SOURCE, "description": key}
        effect = pb.ClaimedEffect(
            idempotency_key=key,
            scope=access_to(self.name).scope if scope is None else scope,
            execution_id="e1",
            input=orjson.dumps(given),
        )
        effect.start_time.FromDatetime(datetime.now(UTC))
        stub = NodeServiceStub(self.call.channel)
        if method == "verify":
            return (await stub.Verify(pb.VerifyRequest(effect=effect), timeout=10)).knowledge
        return (await stub.Cancel(pb.CancelRequest(effect=effect), timeout=10)).knowledge

    def moved(self, key: str) -> list[str]:
        """What the provider recorded for a key."""
        return [each.kind for each in self.world.moves() if each.key[:40] == key[:40]]


@pytest.fixture(scope="module")
def world():
    with running_payments() as payments:
        yield payments


@pytest.fixture(params=PROVIDERS)
def provider(request):
    return request.param


@pytest.fixture
def key():
    """As long as ours are."""
    return uuid.uuid4().hex * 2


@pytest.fixture
def shop(provider, world, monkeypatch):
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)

    @asynccontextmanager
    async def opened():
        async with served(load(f"payment.charge@{provider}")) as call, orchestrator() as claims:
            yield Shop(provider, world, call, claims)

    return opened


async def test_a_charge_whose_reply_was_lost_is_found(shop, key):
    """With the receipt that the call would have given; asking moves nothing."""
    async with shop() as at:
        lost = await at.charge(key, "lose")
        assert lost.code is grpc.StatusCode.UNAVAILABLE
        assert lost.failure.metadata.get("outcome") != "NO_EFFECT"
        told = await at.ask("verify", key)
        assert told.state == FOUND
        (charge,) = at.world.charges(key)
        receipt = {"id": charge["id"], "provider": at.name, "amount": 1999, "currency": "USD"}
        assert orjson.loads(told.output) == receipt
        assert at.moved(key) == ["charge"]


@pytest.mark.parametrize("method", ["verify", "cancel"])
async def test_a_key_that_is_not_known_proves_nothing(shop, key, method):
    """The request may still be on its way: UNKNOWN, never VOIDED, in words for a person."""
    async with shop() as at:
        told = await at.ask(method, key)
        assert told.state == UNKNOWN
        assert at.name.capitalize()[:3] in told.detail
        assert at.moved(key) == []


async def test_a_late_charge_is_found_once_it_is_there(shop, key):
    """Not there, so nobody knows; then it arrives."""
    async with shop() as at:
        await at.charge(key, "late")
        assert (await at.ask("verify", key)).state == UNKNOWN
        while not at.world.charges(key):
            await asyncio.sleep(0.05)
        assert (await at.ask("verify", key)).state == FOUND


async def test_a_charge_is_given_back_by_its_key_once(shop, key):
    """VOIDED, with the refund; a second cancel says the same and moves nothing."""
    async with shop() as at:
        await at.charge(key, "broken")
        for _ in range(2):
            told = await at.ask("cancel", key)
            assert told.state == VOIDED
            (charge,) = at.world.charges(key)
            assert charge["id"] in told.detail
            assert at.moved(key) == ["charge", "refund"]


async def test_a_key_that_was_given_back_charges_no_more(shop, key):
    """What makes VOIDED true: a request that was on its way all the time is a repetition."""
    async with shop() as at:
        await at.charge(key, "lose")
        assert (await at.ask("cancel", key)).state == VOIDED
        await at.charge(key)
        assert at.moved(key) == ["charge", "refund"]


@pytest.mark.parametrize("method", ["verify", "cancel"])
async def test_a_provider_that_is_down_has_said_nothing(shop, key, method):
    """The call fails, for whatever reason, and that is no answer."""
    async with shop() as at:
        await at.charge(key, "lose")
        at.world.refuse(at.name)
        try:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await at.ask(method, key)
        finally:
            at.world.refuse(at.name, refusing=False)
        assert rpc.read(raised.value).code is grpc.StatusCode.UNAVAILABLE
        assert at.moved(key) == ["charge"]
        assert (await at.ask("verify", key)).state == FOUND


@pytest.mark.parametrize("method", ["verify", "cancel"])
async def test_another_account_is_not_asked(shop, key, method):
    """Its keys were set anew since: what it knows of this key says nothing of the charge."""
    async with shop() as at:
        await at.charge(key, "lose")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await at.ask(method, key, scope=f"{at.name}/another")
        assert "another account" in rpc.read(raised.value).message
        assert at.moved(key) == ["charge"]


async def test_a_claim_says_how_long_the_key_is_kept(shop, provider, key):
    """As the provider's documentation has it; where it says nothing, not for long."""
    async with shop() as at:
        await at.charge(key)
        (claim,) = at.claims.asked
    assert claim.key_ttl.ToTimedelta() == KEPT[provider]
    assert load(f"payment.charge@{provider}").describe().effect.key_ttl.ToTimedelta() == KEPT[provider]


@pytest.mark.parametrize(
    ("provider", "kept"), [("stripe", KEPT["stripe"]), ("paypal", timedelta(days=45))], indirect=["provider"]
)
async def test_a_refund_claims_for_as_long_as_its_own_key_is_kept(provider, kept, world, shop, key):
    """PayPal keeps the keys of refunds for longer than those of orders."""
    async with shop() as at:
        charge = (await at.charge(key)).output
    async with served(load("payment.refund@1.0.0")) as call, orchestrator() as claims:
        returned = await call(charge, idempotency_key="r" + key, claim_address=claims.address)
        assert returned.output["amount"] == 1999
        (claim,) = claims.asked
        assert claim.key_ttl.ToTimedelta() == kept
        assert claim.scope == access_to(provider).scope


@pytest.mark.parametrize("provider", ["square"], indirect=True)
async def test_square_is_searched_page_by_page(shop, key):
    """It lists a hundred at a time, in order of time."""
    async with shop() as at:
        for _ in range(100):
            await at.charge(uuid.uuid4().hex * 2)
        await at.charge(key, "lose")
        assert (await at.ask("verify", key)).state == FOUND
