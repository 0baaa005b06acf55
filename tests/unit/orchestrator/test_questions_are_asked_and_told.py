"""A question about an effect reaches the version that claimed it, within the run's trace, and is counted."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace

import pytest

from reflux.core import event as ev
from reflux.core.command import AskEffect
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import Knowledge
from reflux.core.resolving import Abilities, Answer
from reflux.core.trace import question_context
from reflux.orchestrator import metrics
from reflux.orchestrator.resolver import Resolver
from reflux.orchestrator.tracing import Tracer
from reflux.runtime.collector import Collector, Endpoint
from reflux.runtime.trace_export import exporting
from reflux.sdk import Asked, Context, Found, Model, Unknown, node
from tests.support.otlp import running_receiver
from tests.support.walk import RUN, Walk, ambiguous, flow_of
from tests.support.walk import node as step
from tests.unit.sdk.served import served

ASKABLE = Abilities(verifiable=True)


class Pay(Model):
    amount: int


class Paid(Model):
    id: str


async def look(asked: Asked[Pay], ctx: Context[None]):
    """As the amount says."""
    if asked.input.amount == 0:
        raise RuntimeError("the provider is down")
    if asked.input.amount == 1:
        return Unknown("not listed")
    return Found(Paid(id=asked.idempotency_key[:8]), "listed")


@node("pay", "stripe", effect=EffectClass.IDEMPOTENT, attempt_timeout=timedelta(seconds=5), verify=look)
async def pay(given: Pay) -> Paid:
    """Pays."""
    return Paid(id="p")


@dataclass(eq=False)
class Run:
    """A run in memory."""

    state: object
    calls: dict = field(default_factory=dict)


def asking(*answers: Answer) -> Walk:
    """A run whose step has asked what became of its effect, and waits for the next answer."""
    return Walk(
        flow_of(step("a")),
        {"a": [ambiguous("pay@stripe")] * 3},
        effects={"a": EffectClass.IDEMPOTENT},
        abilities=ASKABLE,
        questions=[*answers],
    ).run()


@asynccontextmanager
async def resolving(channel, tracer=None):
    view = SimpleNamespace(verifiable=True, cancelable=False)
    mesh = SimpleNamespace(
        versions=lambda _: {"stripe": view}, successors=lambda *_: (), route=lambda _: None
    )
    async with asyncio.TaskGroup() as tasks:
        clock = SimpleNamespace(now=lambda: asking().now)
        yield Resolver(tasks=tasks, channel=channel, mesh=mesh, clock=clock, tracer=tracer)


async def answer(channel, amount: int, tracer=None) -> ev.EffectAnswered:
    """What the version answers; the event that follows."""
    walk = asking()
    told: list[ev.Event] = []
    durable = asyncio.get_running_loop().create_future()
    durable.set_result(None)
    asked = walk.state.steps["a"].asking
    command = AskEffect(asked, "x", Json.of({"amount": amount}))
    async with resolving(channel, tracer) as resolver:
        resolver.ask(Run(walk.state), [command], lambda _, events: told.extend(events), durable)
    (event,) = told
    return event


@pytest.mark.parametrize(
    ("amount", "knowledge", "answered"),
    [(2, Knowledge.FOUND, True), (1, Knowledge.UNKNOWN, True), (0, Knowledge.UNKNOWN, False)],
)
async def test_the_version_that_claimed_it_is_asked(amount, knowledge, answered):
    """Its word counts; a call that fails is no word."""
    async with served(pay) as call:
        event = await answer(call.channel, amount)
    assert (event.knowledge, event.answered) == (knowledge, answered)


async def test_a_question_is_within_the_trace_of_its_run():
    """The version's own span of it is below the orchestrator's, which is below the attempt."""
    with running_receiver() as receiver:
        async with (
            exporting(Collector(Endpoint.parse(receiver.endpoint))) as exporter,
            served(pay, exporter=exporter) as call,
        ):
            await answer(call.channel, 2, Tracer(exporter, ratio=1.0, instance="o1"))
    (span,) = receiver.spans
    question = question_context(RUN, "a", 3, "verify", 1)
    assert (span.trace_id, span.parent_id) == (question.trace_id.hex(), question.span_id.hex())


@pytest.mark.parametrize(
    ("said", "label"),
    [
        (Answer(Knowledge.FOUND, "listed", output=Json.of({})), "FOUND"),
        (Answer(Knowledge.UNKNOWN, "not listed"), "UNKNOWN"),
        (Answer(Knowledge.UNKNOWN, "UNAVAILABLE", answered=False), "none"),
    ],
)
async def test_answers_are_counted_after_their_commit(said, label):
    """By node, question and answer; who does not answer is no UNKNOWN."""
    walk = asking(said)
    events = [event for event in walk.journal if isinstance(event, ev.EffectAnswered)][:1]
    before = metrics.EFFECT_ANSWERS.at("x", "verify", label).value
    durable = asyncio.get_running_loop().create_future()
    durable.set_result(None)
    metrics.committed(walk.state, events, durable)
    assert metrics.EFFECT_ANSWERS.at("x", "verify", label).value == before + 1


async def test_a_step_that_a_question_parks_is_counted():
    """As one that an attempt parks is."""
    walk = asking(*[Answer(Knowledge.UNKNOWN, "not listed")] * 4)
    before = metrics.STEPS_PARKED.at("x").value
    durable = asyncio.get_running_loop().create_future()
    durable.set_result(None)
    metrics.committed(walk.state, [e for e in walk.journal if isinstance(e, ev.EffectAnswered)], durable)
    assert metrics.STEPS_PARKED.at("x").value == before + 1
