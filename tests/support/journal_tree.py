"""The trace that a run must have, told from what the run itself shows: `GET /api/runs/{id}/steps`.

Attempts, the tries of each, who was tried and who answered stand in the journal and in the log of tries;
spans are told by other processes on another way. `expected` writes the tree of the first and `seen` that of
the second in the same words, so that two lists of lines are compared and nothing is left out or too much.

A flow of plain steps is meant, whose GETs and POSTs succeed where they are done, and versions that are all
up: every try reaches a node.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc

from tests.support.otlp import ReceivedSpan, Trace

ORCHESTRATOR, ENVOY, NODE = "reflux-orchestrator", "reflux-envoy", "reflux-node"


def expected(run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], *, shadow: str = "") -> list[str]:
    """The lines of a run's tree.

    Args:
        run: as the API shows it.
        steps: as the API shows them; every `tried` must be known.
        shadow: the version that gets a copy of every pure call that the route gives to somebody.
    """
    lines = [_line(0, ORCHESTRATOR, f"run {run['flow_name']}", run["state"])]
    for step in steps:
        lines.append(_line(1, ORCHESTRATOR, f"step {step['id']}", step["state"]))
        for attempt in step["attempts"]:
            assert attempt["tried_known"], attempt
            lines += _attempt(step["node"], attempt, shadow)
    return lines


def _attempt(node: str, attempt: Mapping[str, Any], shadow: str) -> Iterator[str]:
    told = (attempt[each] for each in ("outcome", "reason", "chosen", "answered_by", "tries"))
    yield _line(2, ORCHESTRATOR, f"attempt {attempt['attempt']}", *told)
    yield _line(3, ENVOY, f"node {node}")
    for each in attempt["tried"]:
        name = f"{node}@{each['version']}"
        yield _line(4, ENVOY, f"try {name}", each["version"], each["code"])
        yield _line(5, NODE, name, "failed" if each["code"] != "OK" else "")
        if each["code"] == "OK":
            yield _line(6, NODE, "GET" if attempt["effect"] == "pure" else "POST")
    if shadow and attempt["effect"] == "pure" and attempt["reason"] != "pin":
        yield _line(4, ENVOY, "mirror")
        yield _line(5, NODE, f"{node}@{shadow}", "copy")
        yield _line(6, NODE, "GET")


def seen(trace: Trace) -> list[str]:
    """The lines of a trace; copies come after the tries that they were made beside."""

    def below(span: ReceivedSpan, depth: int) -> Iterator[str]:
        yield _line(depth, span.service, span.name, *_said(span))
        for child in sorted(trace.children(span), key=lambda each: each.name == "mirror"):
            yield from below(child, depth + 1)

    return [line for root in trace.roots for line in below(root, 0)]


def _said(span: ReceivedSpan) -> tuple[object, ...]:
    """What a span says that the run says too."""
    said = span.attributes
    if span.service == ORCHESTRATOR:
        if span.name.startswith("run "):
            return (said["reflux.run.state"],)
        if span.name.startswith("step "):
            return (said["reflux.step.state"],)
        names = ("outcome", "reason", "chosen", "answered_by", "tries")
        return tuple(said.get(f"reflux.{name}", "") for name in names)
    if span.service == ENVOY and span.name.startswith("try "):
        number = int(said.get("grpc.status_code", 0))
        [code] = [each.name for each in grpc.StatusCode if each.value[0] == number]
        assert span.failed == (code != "OK"), span
        return (said["reflux.node.version"], code)
    if span.service == NODE and span.kind == "SERVER":
        return ("failed",) if span.failed else ("copy",) if said.get("reflux.shadow") else ()
    return ()


def _line(depth: int, service: str, name: str, *said: object) -> str:
    words = [word for word in (str(each) for each in said) if word]
    return f"{'  ' * depth}{service}: {name}" + (f" [{', '.join(words)}]" if words else "")
