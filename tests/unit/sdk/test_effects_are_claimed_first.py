"""No effect without a claim; what the node says afterwards follows from whether it had one."""

from datetime import timedelta

import grpc
import pytest

from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.sdk import Context, Model, NodeFault, TargetFault, node
from tests.unit.sdk.served import orchestrator, served

TIMEOUT = timedelta(seconds=5)
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


class Input(Model):
    dry: bool = False
    fail: str = ""


class Output(Model):
    done: bool


done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done():
    done.clear()


@node("test.charge", "1.0.0", effect=EffectClass.IDEMPOTENT, scope="account-1", attempt_timeout=TIMEOUT)
async def charge(given: Input, ctx: Context[None]) -> Output:
    """The SDK claims before it runs."""
    done.append(ctx.idempotency_key)
    if given.fail == "node":
        raise NodeFault(UNAVAILABLE, "no answer")
    if given.fail == "declined":
        raise TargetFault(grpc.StatusCode.FAILED_PRECONDITION, "declined", no_effect=True)
    return Output(done=True)


@node(
    "test.send",
    "1.0.0",
    effect="input.?dry ?? false ? 'pure' : 'at_most_once'",
    attempt_timeout=TIMEOUT,
    claims_itself=True,
)
async def send(given: Input, ctx: Context[None]) -> Output:
    """Claims when it is ready to act, and swallows what it should not."""
    if given.fail == "before":
        raise NodeFault(UNAVAILABLE, "not connected")
    if given.fail == "forgets":
        return Output(done=True)
    try:
        await ctx.claim(scope="mailbox")
    except Exception:
        if given.fail != "swallows":
            raise
        return Output(done=True)
    await ctx.claim(scope="mailbox")
    done.append("sent")
    return Output(done=not given.dry)


async def test_the_claim_carries_the_attempt_and_comes_before_the_effect():
    """Everything the orchestrator needs to judge it, under one execution id per handler call."""
    async with orchestrator() as owner, served(charge) as call:
        for _ in range(2):
            answer = await call(
                {},
                run_id="run",
                step="lines[3]/pay",
                attempt="2",
                fencing_token="7",
                effect="idempotent",
                idempotency_key="key",
                claim_address=owner.address,
            )
            assert answer.output == {"done": True}
    first, second = owner.asked
    assert (first.run_id, first.step, first.attempt, first.fencing_token) == ("run", "lines[3]/pay", 2, 7)
    assert (first.scope, first.node_version) == ("account-1", "test.charge@1.0.0")
    assert first.execution_id != second.execution_id
    assert done == ["key", "key"]


@pytest.mark.parametrize("fail", ["", "swallows"])
async def test_a_refused_claim_is_a_refused_call(fail):
    """Nothing is done, whatever the function makes of the refusal, and the mesh may hand the call on."""
    async with orchestrator(grants=False) as owner, served(send) as call:
        answer = await call({"fail": fail}, claim_address=owner.address)
    assert (answer.code, answer.failure.reason) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        Reason.CLAIM_REFUSED,
    )
    assert "superseded" in answer.failure.message
    assert answer.retry_safe
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert done == []


@pytest.mark.parametrize("address", ["", "127.0.0.1:1"])
async def test_a_claim_nobody_answers_is_a_refused_call(address):
    """A dead orchestrator, or an envelope without one: nothing is done."""
    envelope = {"claim_address": address} if address else {}
    async with served(charge) as call:
        answer = await call({}, **envelope)
    assert answer.failure.reason == Reason.CLAIM_REFUSED
    assert answer.retry_safe
    assert done == []


async def test_a_fault_after_the_claim_leaves_the_outcome_open():
    """Neither the mark nor NO_EFFECT: only the orchestrator may decide what follows."""
    async with orchestrator() as owner, served(charge) as call:
        answer = await call({"fail": "node"}, claim_address=owner.address)
    assert answer.code is UNAVAILABLE
    assert not answer.retry_safe
    assert "outcome" not in answer.failure.metadata


async def test_a_decline_after_the_claim_is_no_effect():
    """The author knows that the provider did nothing, and says so; that is no outage."""
    async with orchestrator() as owner, served(charge) as call:
        answer = await call({"fail": "declined"}, claim_address=owner.address)
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert not answer.retry_safe


async def test_a_fault_before_the_claim_was_not_processed():
    """A function that claims late can fail early without leaving doubt."""
    async with orchestrator() as owner, served(send) as call:
        answer = await call({"fail": "before"}, claim_address=owner.address)
    assert answer.retry_safe
    assert owner.asked == []


async def test_a_function_that_forgets_its_claim_never_succeeds():
    """The bug shows at the first call, not at the first takeover."""
    async with orchestrator() as owner, served(send) as call:
        answer = await call({"fail": "forgets"}, claim_address=owner.address)
    assert answer.code is grpc.StatusCode.INTERNAL


async def test_the_class_follows_from_the_input():
    """By its expression this call is pure: no claim is asked for, and its result counts."""
    async with orchestrator() as owner, served(send) as call:
        assert (await call({"dry": True}, effect="pure")).output == {"done": False}
        answer = await call({"dry": False}, effect="at_most_once", claim_address=owner.address)
    assert answer.output == {"done": True}
    assert [request.scope for request in owner.asked] == ["mailbox"]


@pytest.mark.parametrize("effect", ["pure", "idempotent", "compensatable"])
async def test_a_call_weaker_than_the_caller_counts_on_is_refused(effect):
    """Envoy may have chosen a version whose class the orchestrator never saw: nothing is done."""
    async with orchestrator() as owner, served(send) as call:
        answer = await call({}, effect=effect, claim_address=owner.address)
    assert answer.failure.reason == Reason.EFFECT_WEAKER
    assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
    assert answer.retry_safe
    assert (owner.asked, done) == ([], [])


async def test_a_class_that_the_flow_declares_holds_for_the_call():
    """The author of the flow knows this call better: it is claimed as what he says, and done."""
    async with orchestrator() as owner, served(send) as call:
        answer = await call({}, effect="idempotent", effect_declared="1", claim_address=owner.address)
    assert answer.output == {"done": True}
    assert [request.scope for request in owner.asked] == ["mailbox"]


@node("test.print", "1.0.0", effect="at_most_once", attempt_timeout=TIMEOUT, claims_itself=True)
def print_label(given: Input, ctx: Context[None]) -> Output:
    """Claims from its thread."""
    ctx.claim_from_thread()
    done.append("printed")
    return Output(done=not given.dry)


@pytest.mark.parametrize("grants", [True, False])
async def test_a_function_in_a_thread_claims_as_well(grants):
    """It waits for the answer, and a refusal stops it."""
    async with orchestrator(grants=grants) as owner, served(print_label) as call:
        answer = await call({}, claim_address=owner.address)
    assert len(owner.asked) == 1
    assert done == (["printed"] if grants else [])
    assert (answer.code is grpc.StatusCode.OK) == grants
