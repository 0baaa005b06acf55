"""`reflux flow`: what becomes of a document, and what is wrong with it, told where it was written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Reflux
    from tests.unit.cli.fakes import FakeServer

ONE = """\
# kept in git
name: orders
description: Takes orders
spec:
  steps:
    - id: hello
      set: {text: "Hello", code: "1e3"}
"""
TWO = ONE.replace('"Hello"', '"Good day"')
BAD = """\
name: broken
spec:
  steps:
    - id: a
      nod: http.request

    - id: b
      set:
        x: "{{ steps.nothing.output }}"
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, server: FakeServer) -> None:
    for name, text in {"one": ONE, "two": TWO, "bad": BAD}.items():
        (tmp_path / f"{name}.yaml").write_text(text)


def test_apply_says_what_became_of_the_flow(reflux: Reflux) -> None:
    """Created, unchanged, changed: with the version it is at."""
    assert reflux("flow", "apply", "one.yaml", ok=True).stdout == "flow orders created, version 1\n"
    assert reflux("flow", "apply", "one.yaml", ok=True).stdout == "flow orders unchanged, version 1\n"
    assert reflux("flow", "apply", "two.yaml", ok=True).stdout == "flow orders changed, version 2\n"


@pytest.mark.parametrize("text", [ONE, '{"name": "orders", "spec": {"steps": [{"id": "a", "set": {}}]}}'])
def test_apply_reads_yaml_and_json_from_standard_input(reflux: Reflux, text: str) -> None:
    """`-`, and the content decides."""
    assert reflux("flow", "apply", "-", given=text, ok=True).stdout == "flow orders created, version 1\n"


def test_yaml_may_begin_with_a_brace(reflux: Reflux) -> None:
    """A flow mapping is YAML, not broken JSON."""
    text = "{name: orders, spec: {steps: [{id: a, set: {}}]}}"
    assert reflux("flow", "apply", "-", given=text, ok=True).stdout == "flow orders created, version 1\n"


def test_problems_are_told_with_their_lines_and_hints(reflux: Reflux) -> None:
    """All at once, in a table: the line in the file, the pointer, what is wrong, what to do."""
    ended = reflux("flow", "apply", "bad.yaml")
    assert ended.status == 2
    title, *rows = ended.stdout.splitlines()
    assert title.split()[:3] == ["LINE", "PLACE", "PROBLEM"]
    found = {row.split()[1]: row for row in rows}
    assert found["/spec/steps/0/nod"].split()[0] == "5"
    assert "did you mean node?" in found["/spec/steps/0/nod"]
    assert found["/spec/steps/1/set/x"].split()[0] == "9"
    assert "bad.yaml is not saved" in ended.stderr


def test_one_bad_file_does_not_keep_the_others(reflux: Reflux, server: FakeServer) -> None:
    """The good ones are saved, and the exit status says that something was wrong."""
    ended = reflux("flow", "apply", "bad.yaml", "one.yaml")
    assert ended.status == 2
    assert "flow orders created, version 1" in ended.stdout
    assert list(server.flows.flows) == ["orders"]


def test_text_that_is_no_document_is_refused_before_it_is_sent(reflux: Reflux, server: FakeServer) -> None:
    """With line and column, by the server's own reader."""
    ended = reflux("flow", "apply", "-", given="name: a\nname: b\n")
    assert ended.status == 2
    assert "stdin has the key 'name' twice in one object (line 2, column 1)" in ended.stderr
    assert server.asked == []


def test_plan_shows_calls_and_problems(reflux: Reflux, server: FakeServer) -> None:
    """0 without a problem, 1 with; a file, standard input or a saved flow."""
    text = ONE.replace('set: {text: "Hello", code: "1e3"}', 'node: http.request\n      with: {url: "x"}')
    ended = reflux("flow", "plan", "-", given=text, ok=True)
    assert ended.stdout.splitlines()[1].split() == [
        "hello",
        "http.request",
        "1.0.0",
        "100",
        "%",
        "by",
        "input",
        "safe",
    ]
    assert reflux("flow", "plan", "bad.yaml").status == 1
    reflux("flow", "apply", "one.yaml", ok=True)
    assert reflux("flow", "plan", "orders").status == 0
    assert server.asked[-1] == "PlanFlow"


def test_a_flow_that_was_shown_can_be_applied_again(reflux: Reflux) -> None:
    """`get --yaml` and `apply` are inverse, also for a text that looks like a number."""
    reflux("flow", "apply", "one.yaml", ok=True)
    shown = reflux("flow", "get", "orders", "--yaml", ok=True).stdout
    assert "code: '1e3'" in shown
    assert reflux("flow", "apply", "-", given=shown, ok=True).stdout == "flow orders unchanged, version 1\n"


def test_an_older_version_that_was_shown_can_be_applied_again(reflux: Reflux) -> None:
    """It has the flow's name, which a version by itself does not know."""
    reflux("flow", "apply", "one.yaml", ok=True)
    reflux("flow", "apply", "two.yaml", ok=True)
    shown = reflux("flow", "get", "orders", "--version", "1", "--yaml", ok=True).stdout
    assert reflux("flow", "apply", "-", given=shown, ok=True).stdout == "flow orders changed, version 3\n"


def test_diff_compares_versions(reflux: Reflux) -> None:
    """Default: the one before and the current one; 1 when they differ, 0 when not."""
    for file in ("one.yaml", "two.yaml"):
        reflux("flow", "apply", file, ok=True)
    ended = reflux("flow", "diff", "orders")
    assert ended.status == 1
    lines = ended.stdout.splitlines()
    assert lines[:2] == ["--- version 1", "+++ version 2"]
    changed = [line.split(maxsplit=1) for line in lines[2:] if line[0] in "+-"]
    assert changed == [["-", "text: Hello"], ["+", "text: Good day"]]
    assert reflux("flow", "diff", "orders", "2", "1").stdout.splitlines()[:2] == [
        "--- version 2",
        "+++ version 1",
    ]
    same = reflux("flow", "diff", "orders", "2", "2")
    assert (same.status, same.stdout) == (0, "")


def test_diff_shows_what_a_file_would_change(reflux: Reflux) -> None:
    """Nothing when applying it would make no new version: the order of keys is no change."""
    reflux("flow", "apply", "one.yaml", ok=True)
    spec = 'spec: {steps: [{set: {code: "1e3", text: "Hello"}, id: hello}]}'
    shuffled = f"{spec}\ndescription: Takes orders\nname: orders\n"
    assert reflux("flow", "diff", "orders", "-", given=shuffled).status == 0
    ended = reflux("flow", "diff", "orders", "two.yaml")
    assert ended.status == 1
    assert ended.stdout.splitlines()[:2] == ["--- version 1", "+++ two.yaml"]
    assert reflux("flow", "diff", "orders", "bad.yaml").status == 2


def test_there_is_nothing_before_the_first_version(reflux: Reflux) -> None:
    """It is said, not guessed."""
    reflux("flow", "apply", "one.yaml", ok=True)
    ended = reflux("flow", "diff", "orders")
    assert ended.status == 2
    assert "there is nothing before it" in ended.stderr


def test_rollback_and_history(reflux: Reflux) -> None:
    """A rollback is a new version; the history has all of them, newest first."""
    for file in ("one.yaml", "two.yaml"):
        reflux("flow", "apply", file, ok=True)
    ended = reflux("flow", "rollback", "orders", "1", ok=True)
    assert ended.stdout == "flow orders is at version 3, which equals version 1\n"
    rows = reflux("flow", "history", "orders", ok=True).stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["VERSION", "3", "2", "1"]
    assert reflux("flow", "rollback", "orders", "9").status == 3


def test_lists_have_every_page(reflux: Reflux) -> None:
    """However small the pages of the server are."""
    for name in "abcde":
        reflux("flow", "apply", "-", given=ONE.replace("orders", name), ok=True)
    rows = reflux("flow", "list", ok=True).stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["FLOW", *"abcde"]


def test_an_empty_list_says_what_to_do(reflux: Reflux) -> None:
    """On stderr: stdout stays empty for whoever counts lines."""
    ended = reflux("flow", "list", ok=True)
    assert ended.stdout == ""
    assert "reflux flow apply FILE" in ended.stderr


def test_delete(reflux: Reflux) -> None:
    """Gone, and gone is 3."""
    reflux("flow", "apply", "one.yaml", ok=True)
    assert reflux("flow", "delete", "orders", ok=True).stdout == "flow orders is deleted\n"
    assert reflux("flow", "delete", "orders").status == 3


def test_apply_says_what_does_not_fit_the_nodes(server: FakeServer, reflux: Reflux) -> None:
    """It is saved all the same: nodes may come later. Programs get it too."""
    server.flows.unfit = [
        flow_pb.Problem(code="INPUT_INVALID", pointer="/spec/steps/0", message="'url' is missing")
    ]
    ended = reflux("flow", "apply", "one.yaml", ok=True)
    assert "flow orders created, version 1" in ended.stdout
    assert "is saved, and does not fit the nodes as they are now" in ended.stderr
    assert "'url' is missing" in ended.stdout
    (shown,) = json.loads(reflux("flow", "apply", "one.yaml", "--json", ok=True).stdout)["flows"]
    assert (shown["result"], shown["problems"][0]["code"]) == ("unchanged", "INPUT_INVALID")
