"""What expressions may read: roots, fields, and steps that surely come before.

A step is looked for in the innermost list that holds both the reader (or a container around it) and the step
(or a container around it): there one must come before the other. Whatever the step is inside of, on the way
down from that list, may be the reason why it has no output, or, when it is a loop, why there is no single
such step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.flow.model import (
    ForeachAction,
    IfAction,
    ParallelAction,
    ReturnAction,
    SwitchAction,
    TryAction,
    WhileAction,
)
from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.roots import ERROR_FIELDS, FIELDS, INDEX, ROOTS, RUN_ERROR_FIELDS, STEP_FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from reflux.core.document import JsonValue
    from reflux.core.flow.order import Order
    from reflux.core.flow.problems import Path, Problems
    from reflux.core.flow.steps import Draft, Draftbook, Read
    from reflux.core.names import StepPath

_LOOPS: Final = ForeachAction | WhileAction


def check_references(
    book: Draftbook,
    order: Order,
    variables: Mapping[str, JsonValue],
    problems: Problems,
    output: Iterable[Read] = (),
) -> None:
    """Record every reference that cannot be right, and every `return` in a wrong place.

    `output` is what the output of the flow reads, once everything else is over.
    """
    checker = _Checker(book, order, variables, problems)
    for draft in book.drafts.values():
        for read in draft.reads:
            checker.check(draft, read)
        checker.check_return(draft)
    for read in output:
        checker.check(None, read)


class _Checker:
    def __init__(
        self, book: Draftbook, order: Order, variables: Mapping[str, JsonValue], problems: Problems
    ) -> None:
        self._book = book
        self._order = order
        self._variables = variables
        self._problems = problems
        self._names = {str(path): path for path in book.drafts if not path.startswith("?")}

    def check(self, reader: Draft | None, read: Read) -> None:
        """Judge one read of `reader`; of the flow's own output without one."""
        root, *fields = read.reference.path
        field = str(fields[0]) if fields else None
        if root == "steps":
            self._check_step(reader, read)
        elif root == "vars" and field is not None and read.reference.required > 1:
            self._check_field(read.place, "vars", field, self._variables)
        elif root not in (known := (*ROOTS, *sorted(self._roots_of(reader, read)))):
            self._unknown_root(reader, read, str(root), known)
        elif root == "error" and field is not None and read.roots >= {"self", "error"}:  # it undoes a step
            self._check_field(read.place, "error", field, RUN_ERROR_FIELDS)
        elif root in FIELDS and field is not None:
            self._check_field(read.place, str(root), field, FIELDS[str(root)])

    def _unknown_root(self, reader: Draft | None, read: Read, root: str, known: Collection[str]) -> None:
        path = read.place
        if root == "self" and reader is not None and _part_of(reader, read) == "result":
            message = "the result of a loop has no self: it is made of what an iteration gave"
            loop = reader.step.action
            last = loop.body.last if isinstance(loop, _LOOPS) else None
            hint = f"read the steps of the body, such as steps.{last or 'fetch'}.output"
            self._problems.add(ProblemCode.UNKNOWN_ROOT, path, message, hint)
        elif root == "self":
            message = "self is there only in result and in compensate"
            self._problems.add(ProblemCode.UNKNOWN_ROOT, path, message, "a step cannot read itself elsewhere")
        elif root == "request":
            message = "request is there for the input of a trigger only: a run goes on without it"
            hint = "let the trigger's input take what the steps need of it"
            self._problems.add(ProblemCode.UNKNOWN_ROOT, path, message, hint)
        elif root in (INDEX, "error"):
            where = "inside a loop" if root == INDEX else "inside a catch"
            self._problems.add(ProblemCode.UNKNOWN_ROOT, path, f"{root} is there only {where}")
        else:
            message = f"there is nothing called {root[:100]!r} to read"
            self._problems.add_unknown(ProblemCode.UNKNOWN_ROOT, path, message, root, known)

    def _roots_of(self, reader: Draft | None, read: Read) -> set[str]:
        """What may be read there beside what may be read everywhere."""
        roots = set(read.roots)
        if reader is None:
            return roots
        inner = reader.step
        for path in self._around(reader.step.path):
            action = self._book.drafts[path].step.action
            if isinstance(action, _LOOPS):
                roots.add(INDEX)
            if isinstance(action, ForeachAction):
                roots.add(action.name)
            if isinstance(action, TryAction) and 1 <= inner.branch <= len(action.handlers):
                roots.add("error")
            inner = self._book.drafts[path].step
        return roots

    def check_return(self, draft: Draft) -> None:
        """Nothing that goes on beside it, or must come after it, may be cut off."""
        if not isinstance(draft.step.action, ReturnAction):
            return
        for path in self._around(draft.step.path):
            match self._book.drafts[path].step.action:
                case ParallelAction():
                    code, why = ProblemCode.RETURN_IN_PARALLEL, "parallel: the other branches are running"
                case ForeachAction():
                    code, why = ProblemCode.RETURN_IN_FOREACH, "foreach: other iterations may be running"
                case TryAction(last=last) if last is not None:
                    code, why = ProblemCode.RETURN_IN_TRY, "a try with finally, which must come after it"
                case _:
                    continue
            message = f"return is not allowed inside {why}"
            self._problems.add(code, draft.place.at("return"), message, "return after it")

    def _check_field(self, path: Path, root: str, field: str, known: Collection[str]) -> None:
        if field not in known:
            message = f"{root} has no {field[:100]!r}"
            self._problems.add_unknown(ProblemCode.UNKNOWN_FIELD, path, message, field, known)

    def _check_step(self, reader: Draft | None, read: Read) -> None:
        _, *fields = read.reference.path
        path = read.place
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
        elif field not in STEP_FIELDS:
            self._check_field(path, f"steps.{name}", field, STEP_FIELDS)
        elif field == "error" and len(fields) > 2 and fields[2] not in ERROR_FIELDS:
            self._check_field(path, f"steps.{name}.error", str(fields[2]), ERROR_FIELDS)
        elif reader is None:
            self._check_from_the_end(step, read)
        elif read.inside and reader.step.path in self._around(step):
            self._check_inside(reader.step.path, step, read)
        else:
            self._check_order(reader.step.path, step, read)

    def _check_from_the_end(self, step: StepPath, read: Read) -> None:
        """When a run ends well all its steps have settled."""
        if loop := self._loop_between(step, None):
            self._invisible(step, loop, read)
        else:
            *_, outermost = (step, *self._around(step))
            self._check_output(step, read, self._may_be_skipped(step, outermost))

    def _check_inside(self, container: StepPath, step: StepPath, read: Read) -> None:
        """What a container reads of the steps in it.

        A loop its body after an iteration, a `try` its body before a handler is chosen, and any other one its
        branches when it is over.
        """
        if inner := self._loop_between(step, container):
            self._invisible(step, inner, read)
            return
        outermost = next(path for path in (step, *self._around(step)) if self._parent(path) == container)
        branch = self._book.drafts[outermost].step.branch
        if branch and _part_of(self._book.drafts[container], read) == "try":  # a handler is chosen
            why = f"the step {step} is not done before a handler of {container} is chosen"
            self._problems.add(ProblemCode.STEP_NOT_BEFORE, read.place, why, "read the steps of its body")
            return
        reason = self._may_be_skipped(step, outermost)
        reason = reason or self._may_be_left(container, branch)
        if isinstance(self._book.drafts[container].step.action, WhileAction):
            reason = reason or "the first time there is no former iteration"
        self._check_output(step, read, reason)

    def _check_order(self, reader: StepPath, step: StepPath, read: Read) -> None:
        near, far = self._meet(reader, step)
        if near == far:
            if self._later_part_of_try(reader, step, near) and (loop := self._loop_between(step, near)):
                self._invisible(step, loop, read)
            elif self._later_part_of_try(reader, step, near):
                self._check_output(step, read, f"{near} may have failed before it")
            else:
                why = _why_inside(reader, step, near)
                self._problems.add(ProblemCode.STEP_NOT_BEFORE, read.place, why)
            return
        if not self._order.comes_before(far, near):
            later = self._order.comes_before(near, far)
            why = "comes later" if later else "does not surely come before this one"
            hint = "" if later else f"add {far} to the needs of {near}, or move it"
            self._problems.add(ProblemCode.STEP_NOT_BEFORE, read.place, f"the step {step} {why}", hint)
        elif step != far and (loop := self._loop_between(step, self._parent(far))):
            self._invisible(step, loop, read)
        else:
            self._check_output(step, read, self._may_be_skipped(step, far, near))

    def _check_output(self, step: StepPath, read: Read, reason: str) -> None:
        if read.reference.path[2] == "output" and read.reference.required > 2 and reason:
            message = f"the step {step} may have no output: {reason}"
            hint = f"write steps.{step}.?output…, give another value with ??, or ask has(steps.{step}.output)"
            self._problems.add(ProblemCode.MAY_BE_SKIPPED, read.place, message, hint)

    def _loop_between(self, step: StepPath, outer: StepPath | None) -> StepPath | None:
        """The outermost loop around `step` that is inside `outer`, if there is one."""
        found = None
        for path in self._around(step):
            if path == outer:
                break
            if isinstance(self._book.drafts[path].step.action, _LOOPS):
                found = path
        return found

    def _invisible(self, step: StepPath, loop: StepPath, read: Read) -> None:
        message = f"the step {step} is done once in each iteration of {loop}"
        hint = f"give {loop} a result and read steps.{loop}.output"
        self._problems.add(ProblemCode.STEP_NOT_BEFORE, read.place, message, hint)

    def _later_part_of_try(self, reader: StepPath, step: StepPath, common: StepPath) -> bool:
        """Whether the reader is in a handler or in `finally`, and the step in a part that came before."""
        action = self._book.drafts[common].step.action
        if not isinstance(action, TryAction) or common in (reader, step):
            return False
        former, later = self._branch_in(common, step), self._branch_in(common, reader)
        return former < later and (former == 0 or later > len(action.handlers))

    def _branch_in(self, container: StepPath, path: StepPath) -> int:
        """The branch of the container that holds the step."""
        while (parent := self._parent(path)) != container:
            assert parent is not None, f"{path} is not inside {container}"
            path = parent
        return self._book.drafts[path].step.branch

    def _parent(self, path: StepPath) -> StepPath | None:
        return self._book.drafts[path].step.parent

    def _meet(self, reader: StepPath, step: StepPath) -> tuple[StepPath, StepPath]:
        """The two steps of the innermost common list that are, or hold, the reader and the step."""
        holders = {self._book.drafts[path].step.scope: path for path in (step, *self._around(step))}
        for path in (reader, *self._around(reader)):
            far = holders.get(self._book.drafts[path].step.scope)
            if far is not None:
                return path, far
        raise AssertionError("every step is inside the root")

    def _may_be_skipped(self, step: StepPath, outermost: StepPath, reader: StepPath | None = None) -> str:
        """Why the output may be absent; empty when it is there unless something failed.

        `reader` reads it, or holds who does, in the list of `outermost`; None: it is read when that is over.
        """
        path: StepPath | None = step
        below = self._book.drafts[step].step
        while path is not None:
            draft = self._book.drafts[path]
            if path != step and (reason := self._may_be_left(path, below.branch)):
                return reason
            below = draft.step
            if draft.step.disabled:
                return f"{path} is disabled"
            if draft.step.when is not None:
                return f"{path} has when"
            if (reason := self._order.unmet[path]) and not self._joins(reader, path):
                return reason
            path = None if path == outermost else draft.step.parent
        return ""

    def _joins(self, reader: StepPath | None, path: StepPath) -> bool:
        """Whether the reader is not done either when the join of the other one does not hold."""
        return reader is not None and path in self._order.joined(reader, self._book)

    def _may_be_left(self, container: StepPath, branch: int) -> str:
        """Why a step in this branch of the container may not have been done; empty when it surely was."""
        match self._book.drafts[container].step.action:
            case IfAction() | SwitchAction():
                return f"its branch of {container} may not be taken"
            case ParallelAction() as action if action.needed < len(action.branches):
                return f"its branch of {container} may be cancelled"
            case TryAction() as action if branch <= len(action.handlers):
                return f"{container} may have failed before it, or not needed it"
            case _:
                return ""

    def _around(self, path: StepPath) -> Iterator[StepPath]:
        """The containers around a step, the innermost first."""
        parent = self._book.drafts[path].step.parent
        while parent is not None:
            yield parent
            parent = self._book.drafts[parent].step.parent


def _part_of(draft: Draft, read: Read) -> str:
    """The key of the step under which it reads."""
    return str(read.place[len(draft.place.path)])


def _why_inside(reader: StepPath, step: StepPath, common: StepPath) -> str:
    """Why a step cannot be read when reader and step are inside, or are, the step `common`."""
    if reader == step:
        return "a step cannot read itself"
    if step == common:
        return f"the step {step} is not over while this one runs inside it"
    if reader == common:
        return f"the step {step} is inside this one"
    return f"the step {step} is in another branch of {common}"
