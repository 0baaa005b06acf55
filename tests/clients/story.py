"""What every client example prints, whatever its language."""

from __future__ import annotations

import json
import re


def told_whole(output: str, language: str) -> None:
    """Every line of the story is there, in order, nothing missing and nothing doubled."""
    lines = output.splitlines()
    assert lines[0] == f"flow greet-from-{language} is at version 1", "an equal document makes no new version"
    run = re.fullmatch(r"run (\S+) is RUNNING", lines[1])
    assert run, lines[1]
    events = [line.split() for line in lines[2:-5]]
    assert [int(seq) for seq, _ in events] == list(range(1, len(events) + 1))
    kinds = [kind for _, kind in events]
    assert kinds[0] == "RunCreated"
    assert kinds[-1] == "RunFinished"
    assert kinds.count("RunFinished") == 1
    assert lines[-5:-3] == ["step greeting is SUCCEEDED", "step done is SUCCEEDED"]
    assert lines[-3] == f"run {run[1]} is SUCCEEDED", "the same request_id gives the same run"
    assert json.loads(lines[-2]) == {"text": "Hello Ada", "steps": 1}
    assert lines[-1] == "NOT_FOUND FLOW_NOT_FOUND: there is no flow 'no-such-flow'"
