"""What a node gives is a document like any other: 1 MiB, 64 levels, JSON."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from reflux.api.node.v1 import node_service_pb2 as pb
from reflux.core.document import MAX_DEPTH, MAX_DOCUMENT_BYTES, Json
from reflux.core.event import Knowledge
from reflux.orchestrator import caller, resolver

ORDER = cast("caller.Order", SimpleNamespace(step="a"))
DEEPEST = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
BAD = {
    "too deep": (b"[" + DEEPEST + b"]", "OUTPUT_TOO_LARGE", "nested deeper than 64 levels"),
    "much too deep": (b"[" * 1_000 + b"]" * 1_000, "OUTPUT_TOO_LARGE", "nested deeper than 64 levels"),
    "too large": (b'"' + b"x" * MAX_DOCUMENT_BYTES + b'"', "OUTPUT_TOO_LARGE", "the limit is 1048576"),
    "no JSON": (b"{", "OUTPUT_INVALID", "is not JSON"),
}


@pytest.mark.parametrize("name", BAD)
def test_an_output_that_is_no_document_fails_the_attempt(name: str):
    """With what is wrong about it."""
    raw, reason, message = BAD[name]
    failure = caller._unfit(ORDER, Json(raw))
    assert failure is not None
    assert (failure.reason, failure.step) == (reason, "a")
    assert message in failure.message


@pytest.mark.parametrize("name", BAD)
def test_an_effect_that_is_found_with_such_an_output_stays_unknown(name: str):
    """A person sees to it."""
    told = pb.EffectKnowledge(state=pb.EffectKnowledge.FOUND, output=BAD[name][0])
    answer = resolver._read(told)
    assert (answer.knowledge, answer.output) == (Knowledge.UNKNOWN, None)


def test_an_output_of_64_levels_is_one():
    """As an input is."""
    assert caller._unfit(ORDER, Json(DEEPEST)) is None
    told = pb.EffectKnowledge(state=pb.EffectKnowledge.FOUND, output=DEEPEST)
    assert resolver._read(told).output == Json(DEEPEST)
