"""Older spellings, read and rewritten: the spec that is saved knows only the present ones.

    retry.maxAttempts: 3            retry.attempts: 3
    retry.backoff: [1, 3, 10]       retry.delay: [1s, 3s, 10s], jitter: none, attempts: 4 unless given
    timeout: 30  or  timeout: 30s   timeout: {attempt: 30s} of a node step, {total: 30s} of any other
    node: a, version: 1.0.0         node: a@1.0.0
    policies.maxDurationSec: 60     policies.timeout: 1m
    policies.onError: continue      policies.on_error: continue
    {{ inputs.x }}                  {{ input.x }}
    {{ nodes.a.output }}            {{ steps.a.output }}
    a step node: webhook.trigger    a trigger (`hookstep`)

Rewriting never judges: what has an unexpected shape stays as it is, for the compiler to refuse. Only where
both spellings stand side by side nobody can say which one counts; that is a problem of its own. What moved is
remembered, so that problems name the place in the document that was sent.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reflux.core.expression import ExpressionProblem, compile_template
from reflux.core.flow import hookstep
from reflux.core.flow.durations import format_duration, parse_duration
from reflux.core.flow.problems import Path, Place, ProblemCode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.flow.problems import Problems

_ALIAS: Final = re.compile(r"[\s(]*(inputs|nodes)\b")
_PRESENT: Final = {"inputs": "input", "nodes": "steps"}
_WITHOUT_ATTEMPTS: Final = frozenset({"if", "switch", "foreach", "while", "parallel", "try", "flow"})
_TEMPLATED: Final = frozenset({"with", "when", "set", "return", "fail", "wait", "result"})


def rewrite(spec: Place, problems: Problems, origins: dict[Path, Path]) -> JsonValue:
    """`spec` in present spelling, a new value; adds to `origins` where what moved came from."""
    lifted = hookstep.lift(spec.value, origins.__setitem__)
    return _Rewriter(problems, origins).spec(Place(lifted, spec.path))


class _Rewriter:
    def __init__(self, problems: Problems, origins: dict[Path, Path]) -> None:
        self._problems = problems
        self._origins = origins

    def spec(self, spec: Place) -> JsonValue:
        return self._members(
            spec, {"steps": self._steps, "policies": self._policies, "output": self._templates}
        )

    def _members(self, place: Place, rules: Mapping[str, Callable[[Place], JsonValue]]) -> JsonValue:
        """An object with `rules` applied to its members, in their order."""
        if not isinstance(place.value, dict):
            return place.value
        return {
            key: rules[key](place.at(key)) if key in rules else value for key, value in place.value.items()
        }

    def _items(self, place: Place, rule: Callable[[Place], JsonValue]) -> JsonValue:
        if not isinstance(place.value, list):
            return place.value
        return [rule(place.at(n)) for n in range(len(place.value))]

    def _steps(self, place: Place) -> JsonValue:
        return self._items(place, self._step)

    def _step(self, place: Place) -> JsonValue:
        if not isinstance(place.value, dict):
            return place.value
        rules: dict[str, Callable[[Place], JsonValue]] = dict.fromkeys(_TEMPLATED, self._templates)
        rules |= {"retry": self._retry, "if": self._if, "switch": self._switch, "parallel": self._parallel}
        rules |= {"foreach": self._foreach, "while": self._while, "try": self._try, "steps": self._steps}
        rules["cache"] = lambda cache: self._members(cache, {"key": self._templates})
        rules["compensate"] = self._compensation
        rules["timeout"] = self._total_timeout if _WITHOUT_ATTEMPTS & place.value.keys() else self._timeout
        step = self._members(place, rules)
        assert isinstance(step, dict), "members of an object are an object"
        return self._version(step, place.path)

    def _compensation(self, place: Place) -> JsonValue:
        rules = {"with": self._templates, "retry": self._retry, "timeout": self._timeout}
        found = self._members(place, rules)
        return self._version(found, place.path) if isinstance(found, dict) else found

    def _if(self, place: Place) -> JsonValue:
        return self._members(place, {"when": self._templates, "then": self._steps, "else": self._steps})

    def _switch(self, place: Place) -> JsonValue:
        rules = {"when": self._templates, "steps": self._steps, "else": self._steps}
        return self._items(place, lambda case: self._members(case, rules))

    def _parallel(self, place: Place) -> JsonValue:
        def branches(inner: Place) -> JsonValue:
            if not isinstance(inner.value, dict):
                return inner.value
            return {name: self._steps(inner.at(name)) for name in inner.value}

        return self._members(place, {"branches": branches})

    def _foreach(self, place: Place) -> JsonValue:
        return self._members(place, {"in": self._templates})

    def _while(self, place: Place) -> JsonValue:
        return self._members(place, {"when": self._templates, "steps": self._steps})

    def _try(self, place: Place) -> JsonValue:
        def handlers(inner: Place) -> JsonValue:
            rules = {"when": self._templates, "steps": self._steps}
            return self._items(inner, lambda case: self._members(case, rules))

        return self._members(place, {"steps": self._steps, "catch": handlers, "finally": self._steps})

    def _version(self, step: dict[str, JsonValue], path: Path) -> JsonValue:
        node, version = step.get("node"), step.get("version")
        if not isinstance(node, str) or not isinstance(version, str):
            return step
        if "@" in node:
            self._two((*path, "version"), "version", "node")
            return {key: value for key, value in step.items() if key != "version"}
        pinned: dict[str, JsonValue] = {"node": f"{node}@{version}"}
        return {key: pinned.get(key, value) for key, value in step.items() if key != "version"}

    def _retry(self, place: Place) -> JsonValue:
        retry = self._rename(place, {"maxAttempts": "attempts", "backoff": "delay"})
        older = isinstance(place.value, dict) and "backoff" in place.value
        if not isinstance(retry, dict) or not older:
            return retry
        delays = retry.get("delay")
        if isinstance(delays, list):
            retry["delay"] = [_as_duration(delay) for delay in delays]
            retry.setdefault("attempts", len(delays) + 1)
        retry.setdefault("jitter", "none")
        return retry

    def _timeout(self, place: Place) -> JsonValue:
        return self._short_timeout(place, "attempt")

    def _total_timeout(self, place: Place) -> JsonValue:
        return self._short_timeout(place, "total")

    def _short_timeout(self, place: Place, meaning: str) -> JsonValue:
        if isinstance(place.value, dict | list | bool) or place.value is None:
            return place.value
        self._origins[*place.path, meaning] = self._problems.origin(place.path)
        return {meaning: _as_duration(place.value)}

    def _policies(self, place: Place) -> JsonValue:
        policies = self._rename(place, {"maxDurationSec": "timeout", "onError": "on_error"})
        older = isinstance(place.value, dict) and "maxDurationSec" in place.value
        if isinstance(policies, dict) and older:
            policies["timeout"] = _as_duration(policies["timeout"])
        return policies

    def _rename(self, place: Place, names: dict[str, str]) -> JsonValue:
        if not isinstance(place.value, dict):
            return place.value
        renamed: dict[str, JsonValue] = {}
        for key, value in place.value.items():
            present = names.get(key, key)
            if present != key and present in place.value:
                self._two((*place.path, key), key, present)
                continue
            if present != key:
                self._origins[*place.path, present] = self._problems.origin((*place.path, key))
            renamed[present] = value
        return renamed

    def _two(self, path: Path, older: str, present: str) -> None:
        message = f"{older} is the older spelling of {present}, which is there too"
        self._problems.add(ProblemCode.TWO_SPELLINGS, path, message, f"remove {older}")

    def _templates(self, place: Place) -> JsonValue:
        """A value with the older roots renamed in every template inside."""
        if isinstance(place.value, str):
            return _present_roots(place.value)
        if isinstance(place.value, dict):
            return self._members(place, dict.fromkeys(place.value, self._templates))
        return self._items(place, self._templates)


def _present_roots(text: str) -> str:
    if "{{" not in text or not ("inputs" in text or "nodes" in text):
        return text
    try:
        references = compile_template(text).references
    except ExpressionProblem:
        return text
    pieces: list[str] = []
    done = 0
    for reference in sorted(references, key=lambda found: found.start):
        older = _ALIAS.match(text, reference.start, reference.end)
        if older:
            pieces += [text[done : older.start(1)], _PRESENT[older[1]]]
            done = older.end(1)
    return "".join([*pieces, text[done:]])


def _as_duration(value: JsonValue) -> JsonValue:
    """A number of seconds as text; anything else as it is."""
    if isinstance(value, str):
        return value
    try:
        return format_duration(parse_duration(value))
    except ValueError:
        return value
