"""`reflux run signal`, `send`, `answer`, `pause` and so on: what a person says reaches the API as meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import RUN, a_run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("pause", RUN, "--reason", "lunch"), ("PauseRunRequest", "", {"reason": "lunch"})),
        (("resume", RUN), ("ResumeRunRequest", "", {"reason": ""})),
        (("terminate", RUN), ("TerminateRunRequest", "", {"reason": ""})),
        (("skip", RUN, "lines[3]/ok"), ("SkipStepRequest", "lines[3]/ok", {"reason": ""})),
        (
            ("answer", RUN, "ok", "--reject", "--comment", "no"),
            ("AnswerStepRequest", "ok", {"approved": False, "comment": "no"}),
        ),
        (
            ("answer", RUN, "ok", "--approve", "--form", '{"n": 1}'),
            ("AnswerStepRequest", "ok", {"approved": True, "comment": "", "form": {"n": 1}}),
        ),
        (
            ("complete", RUN, "pay", "confirm", "--output", "[1]"),
            ("CompleteStepRequest", "pay", {"choice": "confirm", "reason": "", "output": [1]}),
        ),
        (
            ("complete", RUN, "pay", "fall_back", "--version", "2.0.0"),
            ("CompleteStepRequest", "pay", {"choice": "fall_back", "reason": "", "version": "2.0.0"}),
        ),
    ],
)
def test_each_command_says_one_thing(server: FakeServer, reflux: Reflux, command, said) -> None:
    """With a handle of its own, so that it can be repeated; the run's state is printed."""
    ended = reflux("run", *command, ok=True)
    [(kind, step, given)] = server.runs.said
    assert given.pop("request_id")
    assert (kind, step, given) == said
    assert ended.stdout == f"run {RUN} is SUCCEEDED\n"


def test_a_signal_says_who_took_it(server: FakeServer, reflux: Reflux, tmp_path: Path) -> None:
    """Or that it is kept; the payload may come from a file."""
    (tmp_path / "box.yaml").write_text("n: 1\n")
    assert (
        "step w took it" in reflux("run", "signal", RUN, "shipped", "--payload", "@box.yaml", ok=True).stdout
    )
    assert server.runs.said[0][2]["payload"] == {"n": 1}
    server.runs.taken_by = ""
    assert "kept" in reflux("run", "signal", RUN, "shipped", "--id", "mine", ok=True).stdout
    assert server.runs.said[1][2] == {"name": "shipped", "signal_id": "mine"}


def test_a_signal_to_whoever_waits_prints_the_runs_that_took_it(server: FakeServer, reflux: Reflux) -> None:
    """One a line; when there is none, until when it is kept."""
    assert reflux("run", "send", "shipped", "--key", "k", ok=True).stdout == f"{RUN}\n"
    server.runs.taken_by = ""
    ended = reflux("run", "send", "shipped", "--key", "k", ok=True)
    assert (ended.stdout, "kept until" in ended.stderr) == ("", True)


def test_a_token_is_printed_alone(server: FakeServer, reflux: Reflux) -> None:
    """So that a script can put it into a message."""
    assert reflux("run", "token", RUN, "ok", ok=True).stdout == "token-of-ok\n"


def test_an_answer_must_say_which(server: FakeServer, reflux: Reflux) -> None:
    """Nothing is approved by leaving something out."""
    ended = reflux("run", "answer", RUN, "ok")
    assert ended.status != 0
    assert server.runs.said == []


def test_a_refusal_is_told(server: FakeServer, reflux: Reflux) -> None:
    """With its reason and its words."""
    server.next_errors = [Refused(Reason.APPROVAL_ANSWERED, "ada has approved step ok already")]
    ended = reflux("run", "answer", RUN, "ok", "--reject")
    assert ended.status != 0
    assert "ada has approved step ok already" in ended.stderr


def test_a_terminated_run_lists_what_nobody_knows(server: FakeServer, reflux: Reflux) -> None:
    """On stderr, for a person to look after."""
    server.runs.run = a_run("CANCELED", unresolved_effects=["pay"])
    assert "pay" in reflux("run", "terminate", RUN, ok=True).stderr
