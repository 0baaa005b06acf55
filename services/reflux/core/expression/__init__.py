"""Expressions and templates: how a flow says what it computes.

The language is CEL (https://github.com/google/cel-spec) over plain JSON values, with `??`, and without what
JSON has no values for: unsigned numbers, bytes, message types and optional values. It has no clock, no
randomness and no way to loop without a bound, so evaluation is a function of the scope, and cheap.

    source ─ lexer ─► tokens ─ parser ─► nodes ─ compiler ─► closures over a frame
                                           └── references ─► what a flow is checked against
    values, operators, moments, functions/    what can be computed with
    selection, control                        what is read, and whether
    budget, frame                             what one evaluation may spend
    expression, template                      the two things that others use

    expression = compile_expression("steps.fetch.output.total > vars.limit")
    expression.references                     # the two paths, with how much of each must exist
    expression.evaluate({"steps": …, "vars": …})

    template = compile_template({"url": "https://api.example/{{ input.id }}", "lines": "{{ input.lines }}"})
    template.evaluate({"input": …})           # the same document with values in place

Nothing but `ExpressionSyntaxError` (compiling) and `ExpressionError` (evaluating) is ever raised.
"""

from reflux.core.document import MAX_DEPTH, JsonValue
from reflux.core.expression.budget import MAX_ITERATIONS, MAX_SIZE, MAX_SOURCE, MAX_WORK, Room
from reflux.core.expression.errors import ErrorCode, ExpressionError, ExpressionProblem, ExpressionSyntaxError
from reflux.core.expression.expression import Expression, compile_expression
from reflux.core.expression.functions import FUNCTIONS, Function
from reflux.core.expression.parser import RESERVED
from reflux.core.expression.references import ALIASES, Reference
from reflux.core.expression.template import Template, compile_template, readable_part, template_problems

__all__ = [
    "ALIASES",
    "FUNCTIONS",
    "MAX_DEPTH",
    "MAX_ITERATIONS",
    "MAX_SIZE",
    "MAX_SOURCE",
    "MAX_WORK",
    "RESERVED",
    "ErrorCode",
    "Expression",
    "ExpressionError",
    "ExpressionProblem",
    "ExpressionSyntaxError",
    "Function",
    "JsonValue",
    "Reference",
    "Room",
    "Template",
    "compile_expression",
    "compile_template",
    "readable_part",
    "template_problems",
]
