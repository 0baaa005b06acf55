"""Readings that are right although they look daring: the faulty ones are in the corpus."""

from __future__ import annotations

import pytest

from reflux.core.flow import compile_flow

A = {"id": "a", "node": "x"}
IF = {"id": "i", "if": {"when": "{{ input.x }}", "then": [{"id": "b", "node": "x"}]}}
WHEN = {"id": "w", "node": "x", "when": "{{ input.x }}"}
PARALLEL = {"id": "p", "parallel": {"branches": {"l": [{"id": "c", "node": "x"}]}}}


def reading(text, *before, **keys):
    steps = [*before, {"id": "reader", "node": "x", "with": {"v": text}, **keys}]
    return compile_flow({"name": "reader", "spec": {"vars": {"limit": 1}, "steps": steps}}).problems


@pytest.mark.parametrize(
    "text",
    [
        "{{ steps.b.?output }}",
        "{{ steps.b.output.id ?? 0 }}",
        "{{ steps.b.?output.?amount ?? 0 }}",
        "{{ has(steps.b.output) ? steps.b.output.id : 0 }}",
        "{{ has(steps.b.output) && steps.b.output.ok }}",
        "{{ steps.i.output }}",
        "{{ steps.b.state == 'SKIPPED' }}",
        "{{ steps.b.error }}{{ steps.b.attempts }}{{ steps.b.version }}",
    ],
)
def test_a_step_of_a_branch_is_read_with_a_guard_or_by_what_is_always_there(text):
    """Only `output` is absent from a skipped step; the container itself has one."""
    assert reading(text, IF) == ()


def test_a_guard_covers_a_step_with_when():
    """The same rule as for branches."""
    assert reading("{{ steps.w.output ?? 0 }}", WHEN) == ()


def test_every_branch_of_parallel_has_run():
    """Reading into it needs no guard."""
    assert reading("{{ steps.c.output }}", PARALLEL) == ()


SEED = {"id": "a", "node": "x", "on_error": "continue"}
RESCUE = {"id": "r", "node": "x", "needs": ["a"], "join": "one_failed"}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("{{ steps.r.?output }}", {"needs": ["r"], "join": "all_done"}),
        ("{{ steps.r.output.n ?? 0 }}{{ steps.r.state }}", {}),
        ("{{ steps.r.output }}", {"needs": ["r"]}),
        ("{{ steps.r.output }}", {"needs": ["a", "r"]}),
        ("{{ steps.r.output }}", {"needs": ["r"], "join": "any_success"}),
    ],
)
def test_a_step_that_is_done_only_after_a_failure_is_read_with_a_guard_or_by_what_is_skipped_with_it(
    text, keys
):
    """What needs it, or all it names, does not get what it needs either when that is skipped by its join."""
    assert reading(text, SEED, RESCUE, **keys) == ()


def test_what_is_skipped_with_it_may_be_so_through_others():
    """A skip by a join is passed on, so long as each step on the way asks for success."""
    middle = {"id": "m", "node": "x", "needs": ["r"]}
    assert reading("{{ steps.r.output }}{{ steps.m.output }}", SEED, RESCUE, middle, needs=["m"]) == ()


def test_any_success_joins_steps_whose_conditions_exclude_each_other():
    """One of them is done, and that is for the author to know; of steps that need a failure none may be."""
    first, second = {**WHEN, "needs": []}, {**WHEN, "id": "w2", "needs": []}
    merge = {"id": "m", "node": "x", "needs": ["w", "w2"], "join": "any_success"}
    assert reading("{{ steps.m.output }}", first, second, merge, needs=["m"], join="all_done") == ()
    other = {**RESCUE, "id": "r2"}
    merge = {"id": "m", "node": "x", "needs": ["r", "r2"], "join": "any_success"}
    [problem] = reading("{{ steps.m.output }}", SEED, RESCUE, other, merge, needs=["m"], join="all_done")
    assert problem.code == "MAY_BE_SKIPPED"


def test_inside_its_own_branch_a_step_reads_its_neighbours_plainly():
    """Reader and step are skipped together."""
    inner = [{"id": "b", "node": "x"}, {"id": "c", "node": "x", "with": {"v": "{{ steps.b.output }}"}}]
    flow = {"name": "inner", "spec": {"steps": [{"id": "i", "if": {"when": True, "then": inner}}]}}
    assert compile_flow(flow).problems == ()


def test_a_branch_reads_what_came_before_its_container():
    """The container waited for it."""
    inner = [{"id": "b", "node": "x", "with": {"v": "{{ steps.a.output }}"}}]
    steps = [A, {"id": "p", "parallel": {"branches": {"l": inner}}}]
    assert compile_flow({"name": "outer", "spec": {"steps": steps}}).problems == ()


def test_needs_make_an_unordered_step_readable():
    """What is waited for, directly or through others, came before."""
    middle = {"id": "m", "node": "x", "needs": ["a"]}
    assert reading("{{ steps.a.output }}", A, middle, needs=["m"]) == ()


def test_a_branch_that_failed_and_was_let_pass_needs_no_guard():
    """Reading it fails then, and says so; nothing is silently empty."""
    assert reading("{{ steps.f.output }}", {"id": "f", "node": "x", "on_error": "continue"}) == ()


@pytest.mark.parametrize(
    "text",
    [
        "{{ vars.limit }}{{ vars.?unknown ?? 0 }}{{ vars[input.name] }}",
        "{{ run.id }}{{ run.started_at }}{{ run.attempt }}{{ flow.name }}{{ flow.version }}",
        "{{ input }}",
        "{{ input.anything.at[0].all }}",
        "{{ input.steps.map(steps, steps.output) }}",
        "no template at all",
    ],
)
def test_other_roots(text):
    """vars, run and flow are known before the run, the input is not; macro variables hide roots."""
    assert reading(text) == ()
