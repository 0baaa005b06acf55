"""`reflux run fork`, `retry` and `step`: what is asked, and what of the answer a person sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from reflux.core.errors import Refused
from reflux.core.reasons import Reason
from tests.unit.cli.shapes import RUN, a_run

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

NEW = "0193a1b2-c3d4-7000-8000-000000000002"
PLAN = {
    "run_id": RUN,
    "from_steps": ["pay"],
    "flow_version": 3,
    "kept": [
        {"step": "open", "state": "SUCCEEDED", "run_id": RUN, "changed": True},
        {"step": "ask", "state": "SUCCEEDED", "run_id": NEW, "changed": False},
    ],
    "kept_count": 2,
    "anew": [{"step": "pay", "why": "from", "state": "FAILED", "repeats_effect": True}],
    "anew_count": 4,
}


def test_a_fork_says_what_it_keeps(server: FakeServer, reflux: Reflux) -> None:
    """The new id first, then every step: kept from where, or done anew and why."""
    server.operations.answers = [{"run": a_run("RUNNING", id=NEW), "plan": PLAN}]
    ended = reflux(
        "run",
        "fork",
        RUN,
        "pay",
        "--flow-version",
        "newest",
        "--version",
        "pay=2.0.0",
        "--input",
        '{"n": 1}',
        ok=True,
    )
    lines = ended.stdout.splitlines()
    assert lines[0] == f"run {NEW} is RUNNING"
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["open", "kept", "SUCCEEDED"],
        ["ask", "kept", "SUCCEEDED"],
        ["pay", "anew", "FAILED"],
    ]
    assert "its definition has changed since" in lines[2]
    assert f"from run {NEW}" in lines[3]
    assert "may repeat an outside effect" in lines[4]
    assert lines[5] == "and 3 more steps"
    document, request = server.operations.said[0]
    assert document == {
        "from_step": "pay",
        "flow_version": "newest",
        "versions": {"pay": "2.0.0"},
        "input": {"n": 1},
        "dry_run": False,
    }
    assert request.run_id == RUN


def test_a_dry_run_makes_no_run(server: FakeServer, reflux: Reflux) -> None:
    """Only the plan is shown."""
    server.operations.answers = [{"run": None, "plan": PLAN}]
    ended = reflux("run", "retry", RUN, "--dry-run", "--json", ok=True)
    assert orjson.loads(ended.stdout) == {"run": None, "plan": PLAN}
    assert server.operations.said[0][0]["dry_run"] is True


def test_a_refusal_is_told(server: FakeServer, reflux: Reflux) -> None:
    """In the words of the server, with the exit status of a refusal."""
    server.next_errors = [Refused(Reason.RUN_NOT_FAILED, "it SUCCEEDED")]
    ended = reflux("run", "retry", RUN)
    assert ended.status != 0
    assert "it SUCCEEDED" in ended.stderr


def test_a_pin_has_a_form(server: FakeServer, reflux: Reflux) -> None:
    """STEP=VERSION, told before anything is sent."""
    ended = reflux("run", "fork", RUN, "pay", "--version", "2.0.0")
    assert "STEP=VERSION" in ended.stderr
    assert not server.operations.said


def test_a_step_alone_prints_its_output(server: FakeServer, reflux: Reflux) -> None:
    """Of a flow with an input or a context, of a run with what it saw; the exit status is the run's."""
    ended = reflux("flow", "step", "orders", "pay", "--context", '{"input": {"n": 1}}', ok=True)
    assert orjson.loads(ended.stdout) == {"total": 9007199254740993}
    reflux("run", "step", RUN, "lines[3]/price", "--input", '{"n": 2}', "--version", "2.0.0", ok=True)
    (first, of_flow), (second, of_run) = server.operations.said
    assert first == {"flow_version": "newest", "node_version": "", "context": {"input": {"n": 1}}}
    assert (of_flow.flow_id, of_flow.step) == ("orders", "pay")
    assert second == {"flow_version": "same", "node_version": "2.0.0", "input": {"n": 2}}
    assert (of_run.run_id, of_run.step) == (RUN, "lines[3]/price")
    server.operations.answers = [a_run("FAILED")]
    assert reflux("run", "step", RUN, "pay").status == 1
    assert reflux("run", "step", RUN, "pay", "--input", "1", "--context", "{}").status == 2


def test_failures_are_listed_by_how_often_they_happen(server: FakeServer, reflux: Reflux) -> None:
    """The most frequent first; its fingerprint finds the runs."""
    rows = [line.split() for line in reflux("run", "failures", ok=True).stdout.splitlines()[1:]]
    assert [row[:2] for row in rows] == [["0123456789abcdef", "3"], ["00000000000000ff", "1"]]
    assert "NODE_FAULT:" in rows[0][3:]


def test_a_bulk_is_counted_before_it_is_done(server: FakeServer, reflux: Reflux) -> None:
    """Without --expect nothing is done, and the command says with what it would be."""
    run = {"run_id": RUN, "reason": "", "new_run_id": "", "state": "FAILED"}
    server.operations.answers = [
        {"matched": 3, "handled": 0, "outcomes": [], "runs": [run], "next_page_token": ""}
    ]
    ended = reflux("run", "bulk", "retry", "--flow", "orders", "--state", "failed", ok=True)
    assert ended.stdout.splitlines()[-1] == "3 runs match; do it with --expect 3"
    assert server.operations.said[0][0] == {
        "operation": "retry",
        "filter": {"flow_id": "orders", "states": ["FAILED"]},
        "arguments": {},
        "limit": 200,
        "dry_run": True,
    }
    assert reflux("run", "bulk", "retry").status == 2


@pytest.mark.parametrize(
    ("said", "arguments"),
    [
        (("skip", "--step", "lines[3]/ok", "--reason", "paid"), {"step": "lines[3]/ok", "reason": "paid"}),
        (("signal", "--name", "go", "--payload", "null"), {"name": "go", "payload": None}),
        (("signal", "--name", "go"), {"name": "go"}),
    ],
)
def test_a_bulk_says_a_word_to_each_run(
    server: FakeServer, reflux: Reflux, said: tuple[str, ...], arguments: dict[str, object]
) -> None:
    """What a word needs is given as to one run."""
    server.operations.answers = [
        {"matched": 0, "handled": 0, "outcomes": [], "runs": [], "next_page_token": ""}
    ]
    reflux("run", "bulk", *said, "--flow", "orders", "--expect", "2", ok=True)
    document = server.operations.said[0][0]
    assert (document["operation"], document["arguments"]) == (said[0], arguments)


def test_a_bulk_goes_through_all_pages_under_one_handle(server: FakeServer, reflux: Reflux) -> None:
    """Outcomes are added up; a run that refused makes the exit status 1."""

    def page(token: str, **counts: int) -> dict[str, object]:
        outcomes = [
            {"reason": reason, "count": count, "message": "no" if reason != "DONE" else "", "run_id": RUN}
            for reason, count in counts.items()
        ]
        handled = sum(counts.values())
        return {"matched": 5, "handled": handled, "outcomes": outcomes, "runs": [], "next_page_token": token}

    server.operations.answers = [page("more", DONE=3), page("", DONE=1, STEP_NEVER_RAN=1)]
    ended = reflux("run", "bulk", "fork", "--key", "A", "--from-step", "pay", "--expect", "5")
    assert ended.status == 1
    rows = [line.split()[:2] for line in ended.stdout.splitlines()[1:]]
    assert rows == [["DONE", "4"], ["STEP_NEVER_RAN", "1"]]
    (first, one), (second, two) = server.operations.said
    assert first == second
    assert first["expected_count"] == 5
    assert first["arguments"] == {"from_step": "pay"}
    assert (one.page_token, two.page_token) == ("", "more")
    assert one.request_id == two.request_id != ""
