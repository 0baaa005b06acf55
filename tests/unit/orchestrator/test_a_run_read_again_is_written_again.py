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
    assert isinstance(writer._refusal(later), RowRefused)
    assert writer._refusal(Submission(LEASE, OTHER, 5, [b"good"])) is None
    writer.read_again(OTHER)
    assert isinstance(writer._refusal(later), RowRefused)
    writer.read_again(RUN)
    assert writer._refusal(later) is None
