"""Flows of the first users stay valid; what is saved is in present spelling."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reflux.core.flow import Jitter, OnError, compile_flow, digest
from reflux.core.flow.actions import KEYS_OF

BODY = [{"id": "b", "node": "x"}]
ACTIONS = {
    "node": {"node": "x"},
    "if": {"if": {"when": True, "then": BODY}},
    "switch": {"switch": [{"else": BODY}]},
    "foreach": {"foreach": {"in": [1], "as": "n"}, "steps": BODY},
    "while": {"while": {"when": True, "max": 2, "steps": BODY}},
    "parallel": {"parallel": {"branches": {"l": BODY}}},
    "try": {"try": {"steps": BODY, "finally": []}},
    "flow": {"flow": "other"},
}


def saved(**spec):
    result = compile_flow({"name": "older", "spec": spec})
    assert result.problems == ()
    return result


def test_retry_and_timeout_of_a_node_step():
    """maxAttempts, an explicit list of delays in seconds, and a timeout in seconds for each attempt."""
    step = {"id": "a", "node": "x", "retry": {"maxAttempts": 3, "backoff": [1, 2.5]}, "timeout": 90}
    result = saved(steps=[step])
    assert result.spec["steps"][0] == {
        "id": "a",
        "node": "x",
        "retry": {"attempts": 3, "delay": ["1s", "2s500ms"], "jitter": "none"},
        "timeout": {"attempt": "1m30s"},
    }
    retry = result.flow.steps["a"].retry
    assert (retry.attempts, retry.jitter) == (3, Jitter.NONE)
    assert [retry.delay_before(n, 0.0) for n in (2, 3, 4)] == [
        timedelta(seconds=1),
        timedelta(seconds=2.5),
        timedelta(seconds=2.5),
    ]


def test_a_list_of_delays_says_how_many_attempts_there_are():
    """Backoff without maxAttempts meant one attempt more than delays."""
    step = {"id": "a", "node": "x", "retry": {"backoff": [1, 3, 10]}}
    assert saved(steps=[step]).flow.steps["a"].retry.attempts == 4


def test_a_timeout_of_a_container_is_its_total():
    """A container has no attempts, so a bare timeout is for the whole of it."""
    result = saved(steps=[{"id": "p", "parallel": {"branches": {"b": []}}, "timeout": "5m"}])
    assert result.spec["steps"][0]["timeout"] == {"total": "5m"}
    assert result.flow.steps["p"].timeout.total == timedelta(minutes=5)


@pytest.mark.parametrize("kind", [kind for kind, keys in KEYS_OF.items() if "timeout" in keys])
def test_every_step_that_takes_a_timeout_takes_a_bare_one(kind):
    """Only a node step has attempts; of every other one it is the total."""
    step = {"id": "s", **ACTIONS[kind], "timeout": "4s"}
    assert saved(steps=[step]).spec["steps"][0]["timeout"] == {"attempt" if kind == "node" else "total": "4s"}


def test_version_beside_node_becomes_a_pin():
    """`version:` is part of the node's name now, in the place of `node`."""
    result = saved(steps=[{"id": "a", "version": "1.0.0", "node": "http.request", "with": {}}])
    assert list(result.spec["steps"][0].items())[1] == ("node", "http.request@1.0.0")
    action = result.flow.steps["a"].action
    assert (action.node, action.version) == ("http.request", "1.0.0")


def test_policies():
    """MaxDurationSec is the run's timeout, onError what steps do by default."""
    result = saved(policies={"maxDurationSec": 7200, "onError": "continue"}, steps=[{"id": "a", "node": "x"}])
    assert result.spec["policies"] == {"timeout": "2h", "on_error": "continue"}
    assert result.flow.timeout == timedelta(hours=2)
    assert result.flow.steps["a"].on_error is OnError.CONTINUE


def test_older_roots_are_renamed_in_every_template_and_nowhere_else():
    """`inputs` and `nodes` as roots are renamed; as fields, in text and as macro variables they stay."""
    result = saved(
        steps=[
            {"id": "nodes", "node": "x", "with": {"inputs": "inputs {{ inputs.nodes }}{{ (inputs).x }}"}},
            {
                "id": "b",
                "when": "{{ nodes.nodes.output.inputs == 'inputs' }}",
                "set": {"x": ["{{ input.l.map(nodes, nodes.inputs + inputs.n) }}"]},
            },
            {
                "id": "c",
                "switch": [{"when": "{{ inputs.x }}", "steps": [{"id": "d", "return": "{{ inputs }}"}]}],
            },
            {
                "id": "e",
                "if": {
                    "when": "{{ inputs.y }}",
                    "then": [{"id": "f", "fail": {"message": "{{ inputs.m }}"}}],
                },
            },
        ]
    )
    first, second, third, fourth = result.spec["steps"]
    assert first["with"] == {"inputs": "inputs {{ input.nodes }}{{ (input).x }}"}
    assert second["when"] == "{{ steps.nodes.output.inputs == 'inputs' }}"
    assert second["set"] == {"x": ["{{ input.l.map(nodes, nodes.inputs + input.n) }}"]}
    assert third["switch"][0] == {"when": "{{ input.x }}", "steps": [{"id": "d", "return": "{{ input }}"}]}
    assert fourth["if"]["when"] == "{{ input.y }}"
    assert fourth["if"]["then"][0]["fail"] == {"message": "{{ input.m }}"}


def test_what_was_rewritten_is_not_rewritten_again():
    """Saving a saved spec changes nothing, so it makes no new version."""
    step = {
        "id": "a",
        "node": "x",
        "version": "1",
        "retry": {"backoff": [1]},
        "timeout": 3,
        "with": {"v": "{{ inputs.x }}"},
    }
    once = saved(steps=[step], policies={"maxDurationSec": 1})
    twice = compile_flow({"name": "older", "spec": once.spec})
    assert twice.spec == once.spec
    assert digest(twice.spec) == once.flow.digest


def test_a_first_step_webhook_trigger_becomes_a_trigger():
    """What it gave is the run's input now, whoever read it; nobody waits for it any more."""
    result = saved(
        steps=[
            {"id": "Hook", "node": "webhook.trigger", "with": {"path": "orders", "method": "PUT"}},
            {
                "id": "a",
                "needs": ["Hook"],
                "timeout": 5,
                "node": "x",
                "with": {"n": "{{ nodes.Hook.output.n }}"},
            },
            {
                "id": "b",
                "when": "{{ steps.Hook.output == input }}",
                "set": {"t": "{{steps.Hook.output}} steps.Hook.output"},
            },
        ]
    )
    assert list(result.spec) == ["triggers", "steps"]
    assert result.spec["triggers"] == [{"id": "hook", "type": "webhook", "path": "orders", "method": "PUT"}]
    assert result.spec["steps"] == [
        {"id": "a", "needs": [], "timeout": {"attempt": "5s"}, "node": "x", "with": {"n": "{{ input.n }}"}},
        {"id": "b", "when": "{{ input == input }}", "set": {"t": "{{input}} steps.Hook.output"}},
    ]
    (hook,) = result.flow.triggers
    assert (hook.id, hook.method, hook.path, hook.pointer) == ("hook", "PUT", "orders", "/spec/steps/0/with")
    assert result.flow.steps["a"].pointer == "/spec/steps/1"
    assert result.inputs == {"a": {"n": "{{ input.n }}"}}
    again = compile_flow({"name": "older", "spec": result.spec})
    assert (again.spec, again.flow.digest) == (result.spec, result.flow.digest)


@pytest.mark.parametrize(
    ("older", "present"),
    [
        ("steps['hook'].output.n", "input.n"),
        ('nodes[ "hook" ]["output"].n', "input.n"),
        ("steps.hook['output']", "input"),
        ("steps.hook.?output", "input"),
        ("steps.hook.?output.n.m ?? 1", "input.?n.m ?? 1"),
        ("steps.?hook.output['n'] ?? 1", "input[?'n'] ?? 1"),
        ("steps[?'hook'].output[?0] ?? 1", "input[?0] ?? 1"),
        ("(steps.hook.?output).n ?? 1", "(input).?n ?? 1"),
        ("steps.hook.?output ?? input.a", "input ?? input.a"),
        ("steps . hook . output . n", "input . n"),
    ],
)
def test_what_the_first_step_gave_is_read_however_its_keys_are_written(older, present):
    """In brackets and optional ones; what might have been missing still may."""
    hook = {"id": "hook", "node": "webhook.trigger", "with": {"path": "orders"}}
    result = saved(steps=[hook, {"id": "a", "set": {"x": f"{{{{ {older} }}}}, {{{{ {older} }}}}"}}])
    assert result.spec["steps"][0]["set"] == {"x": f"{{{{ {present} }}}}, {{{{ {present} }}}}"}


def test_a_trigger_that_is_there_comes_before_the_one_that_is_moved():
    """Both spellings in one flow are two triggers."""
    there = {"id": "there", "type": "webhook", "path": "there"}
    step = {"id": "hook", "node": "webhook.trigger", "with": {"path": "orders"}}
    result = saved(triggers=[there], steps=[step, {"id": "a", "node": "x"}])
    assert [hook.id for hook in result.flow.triggers] == ["there", "hook"]
