"""What expressions may read: roots, fields, and steps that surely come before.

A step is looked for in the innermost list that holds both the reader (or a container around it) and the step
(or a container around it): there one must come before the other. Whatever the step is inside of, on the way
down from that list, may be the reason why it has no output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.model import IfAction, ReturnAction, SwitchAction
from reflux.core.flow.model import ParallelAction as Parallel
from reflux.core.flow.problems import ProblemCode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Reference
    from reflux.core.flow.order import Order
    from reflux.core.flow.problems import Path, Problems
    from reflux.core.flow.steps import Draft, Draftbook
    from reflux.core.names import StepPath

ROOTS: Final = ("input", "vars", "steps", "run", "flow", "trigger")
_UNBUILT_ROOTS: Final = frozenset({"error", "self", "index"})
_FIELDS: Final = {
    "run": ("id", "started_at", "attempt"),
    "flow": ("name", "version"),
    "trigger": ("id", "type"),
}
_STEP_FIELDS: Final = ("output", "state", "error", "attempts", "version")


def check_references(
    book: Draftbook, order: Order, variables: Mapping[str, JsonValue], problems: Problems
) -> None:
    """Record every reference of every step that cannot be right, and every `return` inside `parallel`."""
    checker = _Checker(book, order, variables, problems)
    for draft in book.drafts.values():
        for path, reference in draft.reads:
            checker.check(draft, path, reference)
        checker.check_return(draft)


class _Checker:
    def __init__(
        self, book: Draftbook, order: Order, variables: Mapping[str, JsonValue], problems: Problems
    ) -> None:
        self._book = book
        self._order = order
        self._variables = variables
        self._problems = problems
        self._names = {str(path): path for path in book.drafts if not path.startswith("?")}

    def check(self, reader: Draft, path: Path, reference: Reference) -> None:
        """Judge one read of `reader`, whose text stands at `path`."""
        root, *fields = reference.path
        field = str(fields[0]) if fields else None
        if root == "request":
            message = "request is there for the input of a trigger only: a run goes on without it"
            hint = "let the trigger's input take what the steps need of it"
            self._problems.add(ProblemCode.UNKNOWN_ROOT, path, message, hint)
        elif root in _UNBUILT_ROOTS:
            self._problems.add(ProblemCode.NOT_SUPPORTED_YET, path, f"{root} is not supported yet")
        elif root not in ROOTS:
            message = f"there is nothing called {str(root)[:100]!r} to read"
            self._problems.add_unknown(ProblemCode.UNKNOWN_ROOT, path, message, str(root), ROOTS)
        elif root == "steps":
            self._check_step(reader, path, reference)
        elif root == "vars" and field is not None and reference.required > 1:
            self._check_field(path, "vars", field, self._variables)
        elif root in _FIELDS and field is not None:
            self._check_field(path, str(root), field, _FIELDS[str(root)])

    def check_return(self, draft: Draft) -> None:
        """A branch of `parallel` cannot end the run under the others."""
        around = [self._book.drafts[path].step.action for path in self._around(draft.step.path)]
        if isinstance(draft.step.action, ReturnAction) and any(isinstance(it, Parallel) for it in around):
            message = "return is not allowed inside parallel: the other branches are running"
            where = draft.place.at("return")
            self._problems.add(ProblemCode.RETURN_IN_PARALLEL, where, message, "return after it")

    def _check_field(self, path: Path, root: str, field: str, known: Collection[str]) -> None:
        if field not in known:
            message = f"{root} has no {field[:100]!r}"
            self._problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, known)

    def _check_step(self, reader: Draft, path: Path, reference: Reference) -> None:
        _, *fields = reference.path
        if len(fields) < 2:
            message = "name the step and what of it is read, in plain words"
            hint = "such as steps.fetch.output"
            self._problems.add(ProblemCode.UNKNOWN_FIELD, path, message, hint)
            return
        name, field = str(fields[0]), str(fields[1])
        step = self._names.get(name)
        if step is None:
            message = f"there is no step {name[:100]!r}"
            self._problems.add_unknown(ProblemCode.UNKNOWN_STEP, path, message, name, self._names)
        elif field == "cost":
            self._problems.add(ProblemCode.NOT_SUPPORTED_YET, path, "cost is not supported yet")
        elif field not in _STEP_FIELDS:
            self._check_field(path, f"steps.{name}", field, _STEP_FIELDS)
        else:
            self._check_order(reader.step.path, step, path, reference)

    def _check_order(self, reader: StepPath, step: StepPath, path: Path, reference: Reference) -> None:
        near, far = self._meet(reader, step)
        if near == far:
            self._problems.add(ProblemCode.STEP_NOT_BEFORE, path, _why_inside(reader, step, near))
            return
        if not self._order.comes_before(far, near):
            later = self._order.comes_before(near, far)
            why = "comes later" if later else "does not surely come before this one"
            hint = "" if later else f"add {far} to the needs of {near}, or move it"
            self._problems.add(ProblemCode.STEP_NOT_BEFORE, path, f"the step {step} {why}", hint)
            return
        reason = self._may_be_skipped(step, far)
        if reference.path[2] == "output" and reference.required > 2 and reason:
            message = f"the step {step} may have no output: {reason}"
            hint = f"write steps.{step}.?output…, give another value with ??, or ask has(steps.{step}.output)"
            self._problems.add(ProblemCode.MAY_BE_SKIPPED, path, message, hint)

    def _meet(self, reader: StepPath, step: StepPath) -> tuple[StepPath, StepPath]:
        """The two steps of the innermost common list that are, or hold, the reader and the step."""
        holders = {self._book.drafts[path].step.scope: path for path in (step, *self._around(step))}
        for path in (reader, *self._around(reader)):
            far = holders.get(self._book.drafts[path].step.scope)
            if far is not None:
                return path, far
        raise AssertionError("every step is inside the root")

    def _may_be_skipped(self, step: StepPath, outermost: StepPath) -> str:
        """Why the output may be absent; empty when it is there unless something failed."""
        path: StepPath | None = step
        while path is not None:
            draft = self._book.drafts[path]
            if path != step and isinstance(draft.step.action, IfAction | SwitchAction):
                return f"its branch of {path} may not be taken"
            if draft.step.disabled:
                return f"{path} is disabled"
            if draft.step.when is not None:
                return f"{path} has when"
            path = None if path == outermost else draft.step.parent
        return ""

    def _around(self, path: StepPath) -> Iterator[StepPath]:
        """The containers around a step, the innermost first."""
        parent = self._book.drafts[path].step.parent
        while parent is not None:
            yield parent
            parent = self._book.drafts[parent].step.parent


def _why_inside(reader: StepPath, step: StepPath, common: StepPath) -> str:
    """Why a step cannot be read when reader and step are inside, or are, the step `common`."""
    if reader == step:
        return "a step cannot read itself"
    if step == common:
        return f"the step {step} is not over while this one runs inside it"
    if reader == common:
        return f"the step {step} is inside this one"
    return f"the step {step} is in another branch of {common}"
