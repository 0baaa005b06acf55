"""What to do about a problem when whoever found it has nothing better to say: one sentence for each code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

HINTS: Final[Mapping[str, str]] = {
    "UNKNOWN_KEY": "remove it; a note for people goes into notes",
    "MISPLACED_KEY": "move it to a step that it goes with, or remove it",
    "MISSING_KEY": "add the key at this place",
    "TWO_SPELLINGS": "keep the present spelling and remove the older one",
    "WRONG_TYPE": "write a value of the type that is asked for",
    "BAD_VALUE": "give a value that the rule in the message allows",
    "BAD_NAME": "choose a name of a-z, 0-9, . _ and - that begins with a letter",
    "LIMIT_EXCEEDED": "stay within the limit: split the flow, or move a part into a flow of its own",
    "BAD_SCHEMA": "check it against JSON Schema 2020-12",
    "BAD_SCHEDULE": "write five fields such as 0 2 * * mon-fri, and an IANA zone such as Europe/Oslo",
    "NO_ACTION": "give the step one action, such as node",
    "SEVERAL_ACTIONS": "keep one of them; make another step of the other",
    "DUPLICATE_ID": "give one of the two another id",
    "PATH_TAKEN": "choose another path",
    "CYCLE": "remove one of the needs in the circle",
    "OTHER_LIST": "need the container around it instead",
    "RETURN_IN_PARALLEL": "return after the parallel step",
    "RETURN_IN_FOREACH": "return after the foreach step",
    "RETURN_IN_TRY": "return after the try step",
    "BAD_EXPRESSION": "mend the expression at the place that the message counts to",
    "NOT_A_CONDITION": "write one expression that gives true or false: {{ a == b }}",
    "TEMPLATE_NOT_ALLOWED": "write a plain value here",
    "UNKNOWN_ROOT": "read what is there at this place: input, vars, steps, run, flow or trigger",
    "UNKNOWN_FIELD": "read a field that is there",
    "UNKNOWN_STEP": "read a step of this flow",
    "STEP_NOT_BEFORE": "read a step that surely comes before, or name it in needs",
    "MAY_BE_SKIPPED": "guard the reading with .? or ??",
    "UNKNOWN_NODE": "start a node version of that name, or name one that is registered",
    "UNKNOWN_VERSION": "start that version, or name one that is registered",
    "NO_ROUTE": "give a version a weight in the node's route",
    "UNKNOWN_CREDENTIAL": "name a slot that the node has: `reflux flow plan` shows them",
    "SECRET_MISSING": "set the variable where the orchestrator starts",
    "UNKNOWN_FLOW": "save that flow first, or name one that is there",
    "FLOW_CYCLE": "use a loop, or split the flow",
    "CACHE_NOT_PURE": "remove cache, or call a node that is pure",
    "EFFECT_WEAKER": "remove effect, or declare a class that allows more",
    "INPUT_INVALID": "give the node or flow what its input schema asks for",
    "OUTPUT_UNKNOWN": "read what is there, or read it with .? or ??",
}
"""By `ProblemCode`."""
