"""Journals of former versions fold to the states they had then, for ever.

Each file in `journals/` holds a flow, the stored events of one run of it in base64, and the state they gave
when the file was made. None of the three is ever changed: a failure here means that runs which wait in
somebody's database would go on from another state than the one they stopped in.

To add one, write a file with `about`, `flow` and `journal` and run this test: it fails, and its message is
the `expected` to look at and to append. The journal of a real run, in the order of `seq`:

    SELECT replace(encode(payload, 'base64'), chr(10), '') FROM orchestrator.journal
    WHERE run_id = '…' ORDER BY seq
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from reflux.core.flow import compile_flow
from reflux.core.run import fold
from reflux.core.walker import next_wake
from reflux.orchestrator import codec
from reflux.orchestrator.run_view import stamp
from tests.support.walk import RUN

if TYPE_CHECKING:
    from reflux.core.event import Failure
    from reflux.core.state import RunState

JOURNALS = sorted((Path(__file__).parent / "journals").glob("*.yaml"))


def summary(state: RunState) -> dict[str, Any]:
    """What a state says, in the words of these files."""
    ended = state.finished
    by_trigger = {"trigger": state.values["trigger"]} if state.created.trigger else {}
    said = {
        "heard": dict(state.heard),
        "kept": [*state.signals],
        "awaited": {path: [*awaited] for path, awaited in state.awaited.items()},
        "paused": state.paused.actor if state.paused else None,
    }
    return (
        by_trigger
        | (said if any(said.values()) else {})
        | {
            "phase": state.phase.value,
            "output": ended.output.raw.decode() if ended and ended.output else None,
            "failure": _failure(ended.failure if ended else state.quarantine),
            "unresolved": list(state.unresolved_effects),
            "wake": stamp(next_wake(state)),
            "steps": {
                path: {
                    "state": run.state.value,
                    "generation": run.generation,
                    "used": run.used,
                    "outcomes": [finished.outcome.value for finished in run.finished],
                    "claims": {number: claim.node_version for number, claim in run.claims.items()},
                    "in_flight": run.flight.started.attempt if run.flight else None,
                    "skip_reason": run.skip_reason.value if run.skip_reason else None,
                    "output": run.output.raw.decode() if run.output else None,
                    "failure": _failure(run.failure),
                    "due": stamp(state.due.get(path)),
                }
                | ({"held": [run.held.why, stamp(run.held.until)]} if run.held else {})
                for path, run in state.steps.items()
            },
        }
    )


def _failure(failure: Failure | None) -> list[str] | None:
    return failure and [failure.code, str(failure.reason), failure.message, failure.step]


@pytest.mark.parametrize("file", JOURNALS, ids=lambda file: file.stem)
def test_a_stored_journal_folds_to_the_state_it_had(file):
    """Byte for byte what an earlier version wrote, compiled and folded by this one."""
    case = yaml.safe_load(file.read_text(encoding="utf-8"))
    result = compile_flow(case["flow"])
    assert result.flow is not None, result.problems
    events = [codec.decode(base64.b64decode(line, validate=True)) for line in case["journal"]]
    found = summary(fold(RUN, result.flow, events))
    if "expected" not in case:
        pytest.fail("append:\n" + yaml.safe_dump({"expected": found}, sort_keys=False), pytrace=False)
    assert found == case["expected"]


def test_the_journals_hold_every_kind_of_event():
    """A kind that no golden journal shows could change its meaning unseen."""
    held = {
        type(codec.decode(base64.b64decode(line)))
        for file in JOURNALS
        for line in yaml.safe_load(file.read_text(encoding="utf-8"))["journal"]
    }
    assert held == set(codec._ENCODERS)
