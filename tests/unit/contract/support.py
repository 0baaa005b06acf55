"""A flow of one step that calls `shop.price`, and versions of that node."""

from __future__ import annotations

from reflux.core.contract import Version, misfits, uses_of
from reflux.core.flow import compile_flow

ANY = {"type": "object"}


def taking(required=(), **properties):
    """An input schema, open as most are."""
    return {"type": "object", "properties": properties, "required": list(required)}


def giving(required=(), *, closed=True, **properties):
    """An output schema, closed as most are."""
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {**schema, "additionalProperties": False} if closed else schema


def version(name, takes=ANY, gives=ANY):
    return Version.of(name, takes, gives)


def uses(with_=None, *others, **keys):
    """What a flow uses whose first step, `price`, calls the node; `others` are further steps."""
    step = {"id": "price", "node": "shop.price", **keys}
    if with_ is not None:
        step["with"] = with_
    result = compile_flow({"name": "shop", "spec": {"steps": [step, *others]}})
    assert result.flow is not None, result.problems
    return uses_of(result)


def found(of, new, *serving):
    """The misfits as (code, pointer, sure)."""
    each = (misfit.finding for misfit in misfits(of, new, serving))
    return [(finding.code.value, finding.pointer, finding.sure) for finding in each]


def told(of, new, *serving):
    """Their messages."""
    return [misfit.finding.message for misfit in misfits(of, new, serving)]
