"""Input that does not fit is refused with its place, and the function never sees it."""

from datetime import timedelta

import grpc
import pytest
from pydantic import Field

from reflux.core.effect import EffectClass
from reflux.core.reasons import Reason
from reflux.sdk import Model, node
from tests.unit.sdk.served import served

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class Line(Model):
    sku: str
    count: int


class Input(Model):
    lines: list[Line]
    headers: dict[str, str] = Field(default_factory=dict)


class Output(Model):
    total: int


calls: list[Input] = []


@node("test.sum", "1.0.0", effect=EffectClass.PURE, attempt_timeout=timedelta(seconds=5))
async def sum_up(given: Input) -> Output:
    """Counts articles."""
    calls.append(given)
    return Output(total=sum(line.count for line in given.lines))


async def test_input_that_fits_arrives_as_the_model():
    """The control: the same call, with fitting input, runs."""
    async with served(sum_up) as call:
        answer = await call({"lines": [{"sku": "a", "count": 2}, {"sku": "b", "count": 3}]})
    assert answer.output == {"total": 5}


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({}, "/lines"),
        ({"lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": "2"}]}, "/lines/1/count"),
        ({"lines": [], "headers": {"a/b~c": 1}}, "/headers/a~1b~0c"),
        ({"lines": [], "lnes": []}, "/lnes"),
        ([], ""),
        (b"{", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
)
async def test_every_wrong_place_is_named(value, pointer):
    """INVALID_ARGUMENT with a JSON pointer; not retried, not counted, no effect."""
    calls.clear()
    async with served(sum_up) as call:
        answer = await call(value)
    assert calls == []
    assert (answer.code, answer.failure.reason) == (INVALID, Reason.INPUT_INVALID)
    assert pointer in [violation.pointer for violation in answer.failure.violations]
    assert answer.failure.metadata["outcome"] == "NO_EFFECT"
    assert answer.headers["x-reflux-fault"] == "target"
    assert not answer.retry_safe


async def test_a_value_is_not_repeated_in_the_answer():
    """What was sent may be a secret; the answer names the place only."""
    async with served(sum_up) as call:
        answer = await call({"lines": "swordfish"})
    assert "swordfish" not in str(answer)


async def test_a_flood_of_wrong_places_is_cut():
    """Ten thousand errors make an answer that still fits into trailers."""
    async with served(sum_up) as call:
        answer = await call({"lines": [{}] * 10_000})
    assert answer.code is INVALID
    assert 1 < len(answer.failure.violations) <= 20


async def test_oversized_input_is_refused_unread():
    """The limit is 1 MiB, and the message names the size."""
    async with served(sum_up) as call:
        answer = await call(b'"' + b"x" * (1 << 20) + b'"')
    assert (answer.code, answer.failure.reason) == (INVALID, Reason.DOCUMENT_TOO_LARGE)
    assert str((1 << 20) + 2) in answer.failure.message


@pytest.mark.parametrize("envelope", [{"attempt": "two"}, {"effect": "harmless"}, {"fencing_token": "x"}])
async def test_a_malformed_envelope_is_refused(envelope):
    """A class or number nobody knows is an error of the caller, never a guess."""
    async with served(sum_up) as call:
        answer = await call({"lines": []}, **envelope)
    assert (answer.code, answer.failure.reason) == (INVALID, Reason.ARGUMENT_INVALID)
