"""After a refused write a run is written again as soon as it was read again, and not before."""

from __future__ import annotations

from reflux.core.names import RunId
from reflux.orchestrator.store.errors import RowRefused
from reflux.orchestrator.store.journal import ShardLease, Submission, Writer

RUN, OTHER = RunId("0197a000-0000-7000-8000-000000000001"), RunId("0197a000-0000-7000-8000-000000000002")
LEASE = ShardLease(1, 1)


def test_reading_a_run_again_ends_its_refusal():
    """Its later events are refused until then, because the one before them is missing; others never are."""
    writer = Writer("")
    writer._after_refusal(Submission(LEASE, RUN, 4, [b"bad"]))
    later = Submission(LEASE, RUN, 5, [b"good"])
    assert isinstance(writer._refusal(later, set()), RowRefused)
    assert writer._refusal(Submission(LEASE, OTHER, 5, [b"good"]), set()) is None
    writer.read_again(OTHER, 2)
    assert isinstance(writer._refusal(later, set()), RowRefused)
    writer.read_again(RUN, 5)
    assert writer._refusal(later, set()) is None


def test_what_its_former_life_has_submitted_stays_refused():
    """It may wait behind the refused one while the run is read: written after that it would leave a gap."""
    writer = Writer("")
    writer._after_refusal(Submission(LEASE, RUN, 4, [b"bad", b"good"]))
    writer.read_again(RUN, 4)
    assert isinstance(writer._refusal(Submission(LEASE, RUN, 6, [b"late"]), set()), RowRefused)
    assert writer._refusal(Submission(LEASE, RUN, 4, [b"new"]), set()) is None
