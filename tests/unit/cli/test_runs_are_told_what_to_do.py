"""`reflux run signal`, `send`, `answer`, `pause` and so on: what a person says reaches the API as meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reflux.cli.exits import Exit
from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import CREATED, RUN, a_run, a_step, an_event, finished

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


def test_a_link_is_one_that_can_be_clicked(server: FakeServer, reflux: Reflux) -> None:
    """Whole, with the address of the server that was asked."""
    shown = reflux("run", "token", RUN, "ok", "--link", ok=True).stdout
    assert shown == f"http://{server.address}/approve#token-of-ok\n"


@pytest.mark.parametrize("flags", [(), ("--approve", "--reject"), ("--reject", "--approve")])
def test_an_answer_must_say_which(server: FakeServer, reflux: Reflux, flags: tuple[str, ...]) -> None:
    """Nothing is approved by leaving something out, and nothing is said by who says both."""
    ended = reflux("run", "answer", RUN, "ok", *flags)
    assert ended.status == Exit.USAGE
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


def test_a_watch_tells_what_was_said_and_by_whom(server: FakeServer, reflux: Reflux) -> None:
    """A line each: the signal, the answer, the pause and its end, the decision."""
    said = {"actor": "ada", "word": "w", "time": None}
    server.runs.events = [
        CREATED,
        an_event(2, "SignalReceived", name="shipped", key="o-1", payload=1, **said),
        an_event(3, "StepAnswered", "ok", approved=False, form=None, comment="too much", **said),
        an_event(4, "RunPaused", reason="lunch", **said),
        an_event(5, "RunResumed", reason="", **said),
        an_event(6, "StepOverruled", "pay", choice="fall_back", version="2.0.0", reason="ill", **said),
        an_event(7, "RunTerminated", reason="now", **said),
        finished(8, "CANCELED"),
    ]
    shown = reflux("run", "watch", RUN).stdout
    for line in (
        "signal shipped with the key o-1 from ada",
        "ok: rejected by ada: too much",
        "run paused by ada: lunch",
        "run resumed by ada",
        "pay: fall_back 2.0.0, decided by ada: ill",
        "run terminated by ada: now",
    ):
        assert line in shown


def test_why_shows_what_is_asked(server: FakeServer, reflux: Reflux) -> None:
    """In the words of the flow, beside whom it waits for."""
    waiting = {"why": "waits for an answer of ada", "until": None}
    asked = {
        "message": "Pay 3?",
        "form": True,
        "who": ["ada"],
        "until": None,
        "answered_by": "",
        "approved": False,
    }
    server.runs.run = a_run("RUNNING")
    step = a_step(id="ok", action="approve", node="", state="RUNNING", attempts=[], waiting=waiting)
    server.runs.steps = [step | {"approval": asked}]
    shown = reflux("run", "why", RUN, ok=True).stdout
    assert "It asks: Pay 3?" in shown
    assert "waits for an answer of ada" in shown
