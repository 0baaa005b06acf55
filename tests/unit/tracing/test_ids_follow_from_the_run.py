"""Whoever has a run's id has every id of its trace, and knows whether it is sampled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reflux.core.names import RunId
from reflux.core.trace import (
    SpanContext,
    attempt_context,
    is_sampled,
    parse_traceparent,
    span_id,
    trace_id,
)
from reflux.runtime.ids import uuid7

RUN = RunId("0197a000-0000-7000-8000-000000000001")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def runs(count: int) -> list[RunId]:
    return [RunId(uuid7(NOW + timedelta(milliseconds=number))) for number in range(count)]


def test_the_trace_id_is_the_runs_uuid():
    """Without its dashes, so that a person can go from one to the other."""
    assert trace_id(RUN).hex() == RUN.replace("-", "")


def test_run_steps_and_attempts_have_different_spans_and_always_the_same():
    """Computed anywhere, by anybody; these stand in traces that were sent, so they never change."""
    assert span_id(RUN).hex() == "3128bb2476ca63db"
    assert span_id(RUN, "a").hex() == "958f21b26e34f969"
    assert span_id(RUN, "a", 1).hex() == "89452f5d98cd8b4f"
    other = RunId("0197a000-0000-7000-8000-000000000002")
    named = [(RUN, "", 0), (RUN, "a", 0), (RUN, "a", 1), (RUN, "a", 2), (RUN, "a/b", 1), (other, "a", 1)]
    assert len({span_id(*name) for name in named}) == len(named)


def test_an_attempt_sends_its_own_span_on_as_sampled():
    """In the form of W3C Trace Context."""
    context = attempt_context(RUN, "a", 1)
    assert str(context) == f"00-{trace_id(RUN).hex()}-{span_id(RUN, 'a', 1).hex()}-01"
    assert parse_traceparent(str(context)) == context


def test_a_ratio_samples_that_share_of_the_runs():
    """Also of runs that began in the same millisecond; all of them at 1, none at 0."""
    ids = runs(4_000)
    for ratio in (0.01, 0.25, 0.9):
        share = sum(is_sampled(run, ratio) for run in ids) / len(ids)
        assert abs(share - ratio) < 0.05, ratio
    assert all(is_sampled(run, 1.0) for run in ids)
    assert not any(is_sampled(run, 0.0) for run in ids)


def test_who_is_sampled_at_a_ratio_is_sampled_at_every_larger_one():
    """Orchestrators whose ratios differ for a while, as during a deployment, still agree where they can."""
    for run in runs(500):
        decisions = [is_sampled(run, ratio / 20) for ratio in range(21)]
        assert decisions == sorted(decisions)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\n",
    ],
)
def test_what_is_no_traceparent_counts_as_none(text):
    """W3C: whoever gets one that is not valid starts anew."""
    assert parse_traceparent(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known():
    """W3C asks for it, so that the format can grow."""
    found = parse_traceparent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more")
    assert found == SpanContext(
        bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331"), sampled=False
    )


@given(st.text())
def test_reading_a_traceparent_never_fails(text):
    """It comes from anybody."""
    parse_traceparent(text)
