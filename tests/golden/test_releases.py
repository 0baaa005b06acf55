"""What journals may hold is written down for each release, so that old and new ones can live side by side.

An orchestrator never takes a shard that a newer release has owned, because that one may have recorded what it
cannot fold. So whoever changes `journal/v1/event.proto` raises `RELEASE` and adds a line to `releases.json`.
"""

import json
from hashlib import sha256
from pathlib import Path

from reflux.api.journal.v1 import event_pb2
from reflux.orchestrator.store.members import RELEASE

RELEASES = json.loads((Path(__file__).parent / "releases.json").read_text())


def test_a_journal_that_holds_something_new_is_a_new_release() -> None:
    """Comments do not count."""
    digest = sha256(event_pb2.DESCRIPTOR.serialized_pb).hexdigest()
    assert {str(RELEASE): digest}.items() <= RELEASES.items(), f"the journal of a new release: {digest}"
    assert max(map(int, RELEASES)) == RELEASE
