"""`search_key: "{{ input.order.id }}"`: what a flow's runs are found by.

It is evaluated once, when a run is started, over `input` and `vars`; a run whose key cannot be made is not
started, because nobody would find it. Null gives a run no key, so a key that may be missing is written with
`.?` or `??`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux.core.document import Json
from reflux.core.errors import InvalidArgument
from reflux.core.expression import ExpressionError
from reflux.core.expression.values import described
from reflux.core.flow.problems import ProblemCode
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from reflux.core.document import JsonValue
    from reflux.core.expression import Template
    from reflux.core.flow.model import Flow
    from reflux.core.flow.problems import Place
    from reflux.core.flow.reading import Reader

MAX_KEY: Final = 200
"""Characters."""
_ROOTS: Final = ("input", "vars")


def read_search_key(reader: Reader, place: Place | None) -> Template | None:
    """The template of a flow's key, as far as it could be read."""
    if place is None:
        return None
    if not isinstance(place.value, str) or not place.value:
        hint = "such as {{ input.order.id }}"
        reader.problems.add(ProblemCode.WRONG_TYPE, place, "search_key is a text", hint)
        return None
    template = reader.template(place)
    for reference in template.references:
        if reference.root not in _ROOTS:
            message = f"search_key is made when a run starts: there is no {reference.root[:100]} yet"
            reader.problems.add_unknown(ProblemCode.UNKNOWN_ROOT, place, message, reference.root, _ROOTS)
    if "{{" not in place.value:
        message = "search_key is the same for every run"
        reader.problems.add(ProblemCode.BAD_VALUE, place, message, "make it of the input")
    return template


def key_of(flow: Flow, given: Json) -> str | None:
    """The key of a run with this input; None when the flow has none, or the key is null or empty.

    Raises:
        InvalidArgument: INPUT_INVALID, it cannot be made, is too long, or is an object or a list.
    """
    if flow.search_key is None:
        return None
    try:
        value = flow.search_key.evaluate({"input": given.value, "vars": flow.vars})
    except ExpressionError as error:
        raise _refused(flow, error.render()) from None
    text = _text(value)
    if text is None:
        raise _refused(flow, f"it must be a text, a number, true or false, not {described(value)}")
    if len(text) > MAX_KEY or "\0" in text:
        raise _refused(flow, f"it has at most {MAX_KEY} characters, none of them NUL")
    return text or None


def _text(value: JsonValue) -> str | None:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool() | int() | float():
            return Json.of(value).raw.decode()
        case _:
            return None


def _refused(flow: Flow, why: str) -> InvalidArgument:
    return InvalidArgument(Reason.INPUT_INVALID, f"the search_key of flow {flow.name} cannot be made: {why}")
