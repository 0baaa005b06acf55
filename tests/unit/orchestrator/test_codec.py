"""Every fact survives its stored form, and what is not understood is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reflux.api.journal.v1 import event_pb2 as pb
from reflux.core import event as ev
from reflux.core.document import Json
from reflux.core.effect import EffectClass, Lane
from reflux.core.names import FlowId
from reflux.core.origin import FormerChild, OnlyStep, Operation, Origin
from reflux.orchestrator import codec

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

texts = st.text(st.characters(codec="utf-8"), max_size=12)
counts = st.integers(0, (1 << 31) - 1)
times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
DAY = timedelta(days=1)
costs = st.none() | st.integers(0, (1 << 63) - 1)
documents = st.binary(min_size=1, max_size=12).map(Json)
failures = st.builds(ev.Failure, texts, texts, texts, st.booleans(), texts)
assignments = st.builds(
    ev.Assignment,
    st.sampled_from(EffectClass),
    st.sampled_from(Lane),
    st.integers(0, 9999),
    texts,
    counts,
    counts,
    texts,
    texts,
    counts,
    texts,
    texts,
    st.binary(max_size=16),
)
beginnings = st.builds(
    ev.Assignment,
    st.sampled_from(EffectClass),
    st.sampled_from(Lane),
    st.integers(0, 9999),
    sticky=st.binary(max_size=16),
)
"""What is known of an assignment before there is an answer."""

origins = st.builds(
    Origin,
    st.sampled_from(Operation),
    texts,
    st.lists(texts, max_size=3).map(tuple),
    counts,
    counts,
    st.integers(1, 1000),
    st.dictionaries(texts, st.builds(FormerChild, texts, st.binary(max_size=32)), max_size=3),
)

KINDS = {
    ev.RunCreated: st.builds(
        ev.RunCreated,
        texts.map(FlowId),
        texts,
        counts,
        documents,
        texts,
        times,
        texts,
        texts,
        origin=st.none() | origins,
        pins=st.dictionaries(texts, texts, max_size=3).map(lambda pins: tuple(sorted(pins.items()))),
        only_step=st.none() | st.builds(OnlyStep, texts, st.none() | documents, st.none() | documents),
        priority=st.integers(0, 9),
        queued=st.booleans(),
        parent_run=texts,
        parent_step=texts,
        depth=counts,
        failure_of=texts,
    ),
    ev.OutcomeKept: st.builds(
        ev.OutcomeKept,
        texts,
        st.sampled_from(ev.StepState),
        texts,
        st.none() | documents,
        st.none() | failures,
        st.none() | st.sampled_from(ev.SkipReason),
        counts,
        texts,
        st.binary(max_size=33),
        costs,
        st.booleans(),
        st.none() | st.booleans(),
        st.none() | st.sampled_from(ev.Outcome),
        counts,
    ),
    ev.ChildRequested: st.builds(
        ev.ChildRequested, texts, texts, texts, counts, detached=st.booleans(), time=times
    ),
    ev.ChildStarted: st.builds(ev.ChildStarted, texts, texts, texts, counts, times, st.none() | failures),
    ev.ChildRecalled: st.builds(ev.ChildRecalled, texts, texts, texts, times),
    ev.RunAdmitted: st.builds(ev.RunAdmitted, times),
    ev.AttemptStarted: st.builds(
        ev.AttemptStarted,
        texts,
        counts,
        counts,
        beginnings,
        times,
        st.binary(max_size=32),
        st.none() | st.timedeltas(DAY, DAY * 366),
    ),
    ev.AttemptHeld: st.builds(ev.AttemptHeld, texts, counts, texts, st.none() | times, times),
    ev.EffectClaimed: st.builds(
        ev.EffectClaimed, texts, counts, texts, texts, texts, st.none() | st.timedeltas(DAY, DAY * 366)
    ),
    ev.AttemptFinished: st.builds(
        ev.AttemptFinished,
        texts,
        counts,
        counts,
        st.sampled_from(ev.Outcome),
        st.sampled_from(ev.StepState),
        assignments,
        times,
        times,
        output=st.none() | documents,
        failure=st.none() | failures,
        retry_at=st.none() | times,
        counted=st.booleans(),
        next_version=texts,
        next_question=st.none() | st.sampled_from(ev.Question),
        cost_nanos=costs,
    ),
    ev.EffectAsked: st.builds(
        ev.EffectAsked, texts, counts, st.sampled_from(ev.Question), counts, texts, times
    ),
    ev.EffectAnswered: st.builds(
        ev.EffectAnswered,
        texts,
        counts,
        st.sampled_from(ev.Question),
        counts,
        st.sampled_from(ev.Knowledge),
        texts,
        st.sampled_from(ev.StepState),
        times,
        output=st.none() | documents,
        failure=st.none() | failures,
        retry_at=st.none() | times,
        next_version=texts,
        next_question=st.none() | st.sampled_from(ev.Question),
        answered=st.booleans(),
        acted=st.booleans(),
    ),
    ev.StepEntered: st.builds(
        ev.StepEntered,
        texts,
        st.lists(counts, max_size=4).map(tuple),
        times,
        count=counts,
        until=st.none() | times,
        key=texts,
        message=texts,
        who=st.lists(texts, max_size=3).map(tuple),
    ),
    ev.StepSettled: st.builds(
        ev.StepSettled,
        texts,
        st.sampled_from(ev.StepState),
        times,
        output=st.none() | documents,
        failure=st.none() | failures,
        skip_reason=st.none() | st.sampled_from(ev.SkipReason),
        kept=st.booleans(),
        signal=texts,
        acted=st.booleans(),
    ),
    ev.CancelRequested: st.builds(ev.CancelRequested, texts, texts, times, st.booleans()),
    ev.TimedOut: st.builds(ev.TimedOut, texts, times),
    ev.RunRecovered: st.builds(ev.RunRecovered, texts, st.integers(0, (1 << 63) - 1), times),
    ev.RunParked: st.builds(ev.RunParked, failures, times),
    ev.RunFinished: st.builds(
        ev.RunFinished,
        st.sampled_from(ev.RunPhase),
        times,
        output=st.none() | documents,
        failure=st.none() | failures,
        unresolved_effects=st.lists(texts, max_size=3).map(tuple),
        uncompensated=st.lists(texts, max_size=3).map(tuple),
    ),
    ev.CompensationStarted: st.builds(ev.CompensationStarted, counts, failures, times),
    ev.SignalReceived: st.builds(ev.SignalReceived, texts, texts, texts, documents, texts, times),
    ev.StepAnswered: st.builds(
        ev.StepAnswered, texts, texts, st.booleans(), st.none() | documents, texts, texts, times
    ),
    ev.RunPaused: st.builds(ev.RunPaused, texts, texts, texts, times),
    ev.RunResumed: st.builds(ev.RunResumed, texts, texts, texts, times),
    ev.StepOverruled: st.builds(
        ev.StepOverruled, texts, texts, st.sampled_from(ev.Choice), texts, texts, times, version=texts
    ),
    ev.RunTerminated: st.builds(ev.RunTerminated, texts, texts, texts, times),
}


def test_the_round_trip_knows_every_kind():
    """A kind that is added without its stored form would be lost."""
    assert set(KINDS) == set(get_args(ev.Event))
    assert len(pb.Event.DESCRIPTOR.oneofs_by_name["kind"].fields) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_fact_survives_its_stored_form(kind):
    """To the microsecond, the byte and the difference between nothing and empty."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(KINDS[kind])
    def survives(event: ev.Event) -> None:
        assert codec.decode(codec.encode(event)) == event
        assert codec.kind_of(event) == kind.__name__

    survives()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(KINDS[ev.RunCreated])
def test_a_stored_beginning_becomes_that_of_a_queued_run_by_what_is_appended(event: ev.RunCreated) -> None:
    """The statement that begins a run knows last whether it must wait; nothing else of the event changes."""
    assert codec.decode(codec.encode(event) + codec.QUEUED_TAIL) == replace(event, queued=True)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff\xff", b"\x0a\x7f", pb.Event(run_created=pb.RunCreated()).SerializeToString()[:1]],
    ids=["empty", "no protobuf", "cut off", "cut in the middle of a tag"],
)
def test_a_damaged_event_is_refused(payload):
    """As a ValueError, which parks the one run whose journal it is in."""
    with pytest.raises(ValueError):
        codec.decode(payload)


def test_an_event_of_an_unknown_kind_is_refused():
    """A newer version's event in an older one's hands: a hole in a journal would be another run."""
    unknown = b"\x9a\x06\x02\x0a\x00"  # field 99, a message
    with pytest.raises(ValueError, match="does not know"):
        codec.decode(unknown)


def finished(**changes: object) -> bytes:
    fields = {"outcome": "DONE", "state": "SUCCEEDED", "effect": "pure", "lane": "broad", **changes}
    return pb.Event(attempt_finished=pb.AttemptFinished(step="a", **fields)).SerializeToString()


@pytest.mark.parametrize(
    "payload",
    [
        finished(outcome="PERHAPS"),
        finished(outcome=""),
        finished(state="WAITING"),
        finished(effect="harmless"),
        finished(lane="fast"),
        pb.Event(step_settled=pb.StepSettled(state="WAITING")).SerializeToString(),
        pb.Event(step_settled=pb.StepSettled(state="SKIPPED", skip_reason="mood")).SerializeToString(),
        pb.Event(run_finished=pb.RunFinished(state="WAITING")).SerializeToString(),
        pb.Event(attempt_started=pb.AttemptStarted(effect="pure", lane="fast")).SerializeToString(),
        pb.Event(run_parked=pb.RunParked()).SerializeToString(),
    ],
)
def test_an_unknown_word_inside_an_event_is_refused(payload):
    """States, outcomes, classes and lanes are closed lists."""
    assert codec.decode(finished()).step == "a"
    with pytest.raises(ValueError):
        codec.decode(payload)


def test_fields_of_a_newer_version_are_passed_over():
    """Fields are only added, and an added one must not stop an older reader in the middle of an upgrade."""
    inner = (
        pb.TimedOut(step="a", time={"seconds": int(NOON.timestamp())}).SerializeToString() + b"\x9a\x06\x01x"
    )
    payload = bytes([0x5A, len(inner)]) + inner  # field 11, timed_out
    assert codec.decode(payload) == ev.TimedOut("a", NOON)
