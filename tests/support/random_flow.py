"""Random flows of the whole language, random answers, and a `Walk` that checks every attempt it starts.

What a flow reads is always something that surely comes before, so that it compiles; a few conditions fail on
purpose. An answer depends only on the seed, the step and the attempt: a run that is taken over meets the same
world again.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from reflux.core import event as ev
from reflux.core import word as said
from reflux.core.command import StartAttempt, StartChild
from reflux.core.document import Json
from reflux.core.effect import EffectClass
from reflux.core.event import SETTLED, Choice, Outcome, StepState
from reflux.core.flow import Flow, Join
from reflux.core.names import UNDO, StepPath
from reflux.core.state import ROOT
from reflux.core.word import Overrule, Pause, Resume, Signal, Word, WordId
from tests.support.walk import Answer, Walk, ambiguous, done, failed, flow_of, not_sent

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from reflux.core.state import RunState

MAX_STEPS: Final = 14
SIGNALS: Final = ("ready", "steady")
INPUT: Final = {"yes": True, "no": False, "n": 3}
WAITS: Final = ("100ms", "2s", "{{ input.n }}")


def random_flow(
    rng: Random,
    *,
    nodes: Sequence[str] = ("x",),
    waits: Sequence[str] = WAITS,
    without: Collection[str] = (),
    first: Sequence[Mapping[str, Any]] = (),
    beside: Mapping[str, Any] | None = None,
) -> Flow:
    """A flow with every kind of step, nested up to three levels, that calls these nodes and waits so long.

    `without`: kinds of steps that it has not; `flow` is also the flow that hears of a failure, `result` what
    makes something else of a node's output. `first`: steps that come before all others; `beside`: what else
    stands beside the steps.
    """
    spec: dict[str, Any] = {}
    if rng.random() < 0.2:
        spec["policies"] = {"timeout": rng.choice(["2s", "1m"])}
    if "flow" not in without and rng.random() < 0.3:
        spec["policies"] = {**spec.get("policies", {}), "on_failure": {"flow": "tell"}}
    steps = _Maker(rng, nodes, waits, without).steps(0, least=1)
    if rng.random() < 0.2:
        last = steps[-1]["id"]
        spec["output"] = rng.choice(
            [{"s": f"{{{{ steps.{last}.state }}}}"}, f"{{{{ steps.{last}.?output.n }}}}"]
        )
    for key, value in (beside or {}).items():
        spec[key] = {**spec[key], **value} if key in spec and key == "policies" else value
    return flow_of(*first, *steps, **spec)


def random_effects(rng: Random, flow: Flow) -> dict[str, EffectClass]:
    """A class for each step; half of them pure."""
    paths = [each for path in flow.steps for each in (path, path + UNDO)]
    return {path: rng.choice([EffectClass.PURE] * 3 + list(EffectClass)) for path in paths}


class _Maker:
    def __init__(
        self, rng: Random, nodes: Sequence[str], waits: Sequence[str], without: Collection[str]
    ) -> None:
        self._rng = rng
        self._nodes = nodes
        self._waits = waits
        self._without = without
        self._count = 0

    def steps(self, depth: int, *, least: int = 0, in_parallel: bool = False) -> list[dict[str, Any]]:
        """A list of steps: in list order, or a graph by `needs` in which a step may wait for a later one."""
        rng = self._rng
        wanted = max(0, min(rng.randint(least, 4), MAX_STEPS - self._count))
        names = [f"s{self._count + number}" for number in range(wanted)]
        self._count += wanted
        graph = rng.random() < 0.4
        ranks = rng.sample(range(wanted), wanted)
        made = []
        for place, name in enumerate(names):
            keys: dict[str, Any] = {}
            before = names[place - 1 : place] if place else []
            if graph or rng.random() < 0.15:
                order = ranks if graph else list(range(wanted))
                earlier = [other for at, other in enumerate(names) if order[at] < order[place]]
                before = rng.sample(earlier, rng.randint(0, min(2, len(earlier))))
                keys["needs"] = before
            if before and rng.random() < 0.3:
                keys["join"] = rng.choice(list(Join)).value
            made.append(
                {
                    "id": name,
                    **keys,
                    **self._common(before),
                    **self._action(depth, before, in_parallel=in_parallel),
                }
            )
        return made

    def _common(self, before: list[str]) -> dict[str, Any]:
        rng = self._rng
        keys: dict[str, Any] = {}
        if rng.random() < 0.2:
            keys["when"] = self._condition(before)
        if rng.random() < 0.35:
            keys["on_error"] = "continue"
        if rng.random() < 0.04:
            keys["disabled"] = True
        return keys

    def _condition(self, before: list[str]) -> str:
        choices = ["input.yes"] * 4 + ["input.no"] * 2 + ["input.n"]
        choices += [f"steps.{name}.state == 'SUCCEEDED'" for name in before]
        choices += [f"steps.{name}.attempts > 1" for name in before]
        return "{{ " + self._rng.choice(choices) + " }}"

    def _value(self, before: list[str]) -> dict[str, Any]:
        return {name: f"{{{{ steps.{name}.?output ?? input.n }}}}" for name in before} or {"n": 1}

    def _action(self, depth: int, before: list[str], *, in_parallel: bool) -> dict[str, Any]:
        rng = self._rng
        kinds = ["node"] * 6 + ["set", "set", "fail"]
        kinds += ["wait", "signal", "approve", "flow", "flow"]
        kinds += (
            ["if", "switch", "parallel", "parallel", "foreach", "while", "try", "try"] if depth < 3 else []
        )
        kinds += [] if in_parallel else ["return"]
        match rng.choice([kind for kind in kinds if kind not in self._without]):
            case "node":
                called = {"node": self._node(), "with": self._value(before)}
                return {**called, **self._policies(), **self._besides(before)}
            case "set":
                result = {"result": "{{ [self.output, self.state] }}"} if rng.random() < 0.2 else {}
                return {"set": self._value(before), **result}
            case "return":
                return {"return": self._value(before)}
            case "fail":
                return {"fail": {"message": "as {{ input.n }} said"}}
            case "flow":
                keys = {"flow": "other", "with": self._value(before), **self._limit()}
                if rng.random() < 0.2:
                    keys["wait"] = "detached"
                if rng.random() < 0.4:
                    keys["compensate"] = {"node": self._node(), "with": {"it": "{{ self.?output ?? 0 }}"}}
                return keys
            case "wait":
                return {"wait": {"for": rng.choice(self._waits)}}
            case "signal":
                wait = {"signal": rng.choice(SIGNALS), "timeout": rng.choice(["1s", "9s"])}
                return {"wait": {**wait, "on_timeout": rng.choice(["fail", "continue"])}}
            case "approve":
                then = rng.choice(["fail", "approve", "reject"])
                return {"approve": {"message": "{{ input.n }}?", "timeout": "4s", "on_timeout": then}}
            case kind:
                return {**self._container(kind, depth + 1, before, in_parallel=in_parallel), **self._limit()}

    def _node(self) -> str:
        return self._nodes[0] if len(self._nodes) == 1 else self._rng.choice(self._nodes)

    def _policies(self) -> dict[str, Any]:
        rng = self._rng
        keys: dict[str, Any] = {}
        if rng.random() < 0.5:
            keys["retry"] = {
                "attempts": rng.randint(1, 3),
                "delay": "1s",
                "jitter": rng.choice(["full", "none"]),
            }
        if rng.random() < 0.15:
            keys["timeout"] = {"total": rng.choice(["500ms", "3s"])}
        return keys

    def _besides(self, before: list[str]) -> dict[str, Any]:
        rng = self._rng
        keys: dict[str, Any] = {}
        if rng.random() < 0.4:
            undo = {
                "node": self._node(),
                "with": {"why": "{{ error.code }}", "it": "{{ self.?output.?of ?? 0 }}"},
            }
            undo["with"] |= self._value(before) if rng.random() < 0.3 else {}
            if rng.random() < 0.1:
                undo["with"]["bad"] = "{{ self.output.missing }}"
            keys["compensate"] = undo
        if "result" not in self._without and rng.random() < 0.2:
            keys["result"] = rng.choice(
                ["{{ self.output.of }}", "{{ [self.attempts, self.?version] }}", "{{ self.output.no }}"]
            )
        return keys

    def _limit(self) -> dict[str, Any]:
        total = self._rng.choice(["500ms", "3s", None, None, None])
        return {"timeout": {"total": total}} if total else {}

    def _container(self, kind: str, depth: int, before: list[str], *, in_parallel: bool) -> dict[str, Any]:
        if kind == "if":
            then = self.steps(depth, in_parallel=in_parallel)
            other = self.steps(depth, in_parallel=in_parallel)
            return {"if": {"when": self._condition(before), "then": then, "else": other}}
        if kind == "switch":
            cases: list[dict[str, Any]] = [
                {"when": self._condition(before), "steps": self.steps(depth, in_parallel=in_parallel)}
                for _ in range(self._rng.randint(1, 2))
            ]
            if self._rng.random() < 0.5:
                cases.append({"else": self.steps(depth, in_parallel=in_parallel)})
            return {"switch": cases}
        if kind == "foreach":
            return self._foreach(depth)
        if kind == "while":
            return self._while(depth, in_parallel=in_parallel)
        if kind == "try":
            return self._try(depth, in_parallel=in_parallel)
        names = "abc"[: self._rng.randint(1, 3)]
        branches = {name: self.steps(depth, in_parallel=True) for name in names}
        join = self._rng.choice(["all", "all", "any", self._rng.randint(1, len(names))])
        return {"parallel": {"branches": branches, "join": join}}

    def _foreach(self, depth: int) -> dict[str, Any]:
        rng = self._rng
        items: Any = [*range(rng.randint(0, 4))] if rng.random() < 0.8 else "{{ [input.n, 'a'] }}"
        loop = {"in": items, "as": "it", "parallel": rng.randint(1, 3)}
        loop["on_item_error"] = rng.choice(["fail", "collect"])
        body = self._body(depth, in_parallel=True)
        keys: dict[str, Any] = {"foreach": loop, "steps": body}
        if rng.random() < 0.5:
            keys["result"] = f"{{{{ [index, steps.{body[-1]['id']}.state] }}}}"
        return keys

    def _while(self, depth: int, *, in_parallel: bool) -> dict[str, Any]:
        rng = self._rng
        body = self._body(depth, in_parallel=in_parallel)
        last = body[-1]["id"]
        when = rng.choice(["index < 2", f"steps.{last}.state != 'SUCCEEDED'", "input.no", "index < 9"])
        keys = {"while": {"when": f"{{{{ {when} }}}}", "max": rng.randint(1, 4), "steps": body}}
        if rng.random() < 0.5:
            keys["result"] = f"{{{{ steps.{last}.?output ?? index }}}}"  # type: ignore[assignment]
        return keys

    def _try(self, depth: int, *, in_parallel: bool) -> dict[str, Any]:
        rng = self._rng
        last = rng.random() < 0.5
        inside = in_parallel or last
        parts: dict[str, Any] = {"steps": self.steps(depth, in_parallel=inside)}
        when = ["{{ error.code == 'UNAVAILABLE' }}", "{{ error.step != '' }}", "{{ input.n }}"]
        if not last or rng.random() < 0.7:
            parts["catch"] = [
                {"when": rng.choice(when), "steps": self.steps(depth, in_parallel=inside)}
                for _ in range(rng.randint(1, 2))
            ]
        if last:
            parts["finally"] = self.steps(depth, in_parallel=True)
        return {"try": parts}

    def _body(self, depth: int, *, in_parallel: bool) -> list[dict[str, Any]]:
        """At least one step, also when the flow has as many as it may."""
        found = self.steps(depth, least=1, in_parallel=in_parallel)
        if not found:
            self._count += 1
            found = [{"id": f"s{self._count - 1}", "set": {"n": 1}}]
        return found


def random_word(rng: Random, number: int, state: RunState) -> Word:
    """Something that somebody says, whether or not it makes sense just then."""
    number_, step = WordId(f"w{number}"), StepPath(rng.choice([*state.steps]))
    match rng.randrange(7):
        case 0 | 1:
            return Signal(number_, "me", rng.choice(SIGNALS), rng.choice(["", "", "k"]), Json.of(number))
        case 2:
            asked = [path for path in state.awaited if not state.awaited[path].signal] or [step]
            return said.Answer(number_, "me", rng.choice(asked), rng.random() < 0.5, None, "")
        case 3:
            return Pause(number_, "me", "")
        case 4:
            return Resume(number_, "me", "")
        case 5:
            return Overrule(number_, "me", step, Choice.SKIP, "")
        case _:
            choices = [Choice.CONFIRM, Choice.RETRY, Choice.FALL_BACK, Choice.FAIL]
            parked = [*state.parked] or [step]
            return Overrule(number_, "me", rng.choice(parked), rng.choice(choices), "", version="1")


def random_answer(seed: int, command: StartAttempt, effect: EffectClass) -> Answer:
    """What becomes of an attempt in the world of this seed."""
    rng = Random(f"{seed} {command.step} {command.attempt}")
    after = rng.choice([0.0, 0.0, 0.1, 0.3, 1.0, 5.0])
    claimed_by = "" if effect is EffectClass.PURE or rng.random() < 0.3 else "x@1"
    match rng.choices(range(5), (55, 20, 8, 8, 15))[0]:
        case 0:
            return done({"of": command.step}, after=after, claimed_by=claimed_by)
        case 1:
            return failed("UNAVAILABLE", after=after, claimed_by=claimed_by)
        case 2:
            return failed("NOT_FOUND", after=after, claimed_by=claimed_by)
        case 3:
            return not_sent(after=after)
        case _:
            return ambiguous(claimed_by, after=after)


@dataclass(slots=True)
class RandomWalk(Walk):
    """A walk through a random world that looks closely at every attempt."""

    seed: int = 0

    def _answer(self, command: StartAttempt | StartChild) -> Answer:
        if isinstance(command, StartChild):
            rng = Random(f"{self.seed} {command.requested.step} child")
            after = rng.choice([0.0, 0.1, 1.0, 5.0])
            made = (done({"of": "child"}, after=after), failed("UNAVAILABLE", after=after), not_sent())
            return rng.choice(made)
        self._check(command)
        return random_answer(self.seed, command, self.effect_of(command.step))

    def _check(self, command: StartAttempt) -> None:
        run = self.state.steps[command.step]
        assert not self.state.waits_for(command.step), f"{command.step} starts too early"
        for path in self.state.around(command.step):
            assert path == ROOT or self.state.steps[path].state is StepState.RUNNING
        if run.undoes is None:
            assert not self.state.cancel, "an attempt starts after a cancel"
            assert self.state.compensation is None, "a step starts while the run is undone"
        else:
            self._check_undo(run.undoes)
        assert command.attempt == len(run.finished) + 1
        for event in self.journal:
            if isinstance(event, ev.AttemptFinished | ev.StepSettled) and event.step == command.step:
                assert event.state not in SETTLED, f"{command.step} has an outcome and starts again"
        last = run.unresolved
        if last is not None:
            assert command.generation == last.generation, "an ambiguous effect is asked for with another key"
            assert command.version == "1", "an ambiguous effect is asked for in another scope"

    def _check_undo(self, step: StepPath) -> None:
        """What is undone was done, and what was done after it is undone or given up before."""
        assert self.state.compensation is not None
        settled = [
            event.step
            for event in self.journal
            if getattr(event, "state", None) in SETTLED
            and not isinstance(event, ev.OutcomeKept)
            and event.step
        ]
        later = settled[settled.index(step) + 1 :]
        for path in later:
            undo = self.state.steps.get(StepPath(path + UNDO))
            assert undo is None or undo.state in (*SETTLED, StepState.PARKED), (
                f"{step} is undone before {path}"
            )
        run = self.state.steps[step]
        if run.child is None:
            assert run.finished[-1].outcome is Outcome.DONE, f"{step} is undone and was not done"

    def check_end(self) -> None:
        """The run has ended or waits for a person, and its journal says the same as memory."""
        if self.state.finished is None:
            assert self.state.phase is ev.RunPhase.PARKED, self.trace
            assert self.state.parked
        elif self.state.finished.state is not ev.RunPhase.CANCELED:
            assert not self.state.parked
        if self.state.finished is not None and self.state.compensation:
            assert not self.state.to_undo, "something was never undone"
        assert not self.state.child_runs or self.state.finished is None, "the run has left a child behind"
        assert all(run.flight is None for run in self.state.steps.values())
        certain = [
            (event.step, event.generation)
            for event in self.journal
            if isinstance(event, ev.AttemptFinished) and event.outcome is Outcome.DONE
        ]
        assert len(certain) == len(set(certain)), "an effect is done twice"
