"""What differs between two revisions of a route, target by target, in the words of the API.

A difference is named by the target's version and the field, so that a person reads `2.0.0 weight 1000 → 3000`
and never two documents side by side. A target that came or went is one difference, with all its fields.

Order is meaning (see `routes`), and of itself it changes only when the targets that stayed stand in another
order, or when a new one does not stand at the end: either moves users from one version to another.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reflux.controlplane.routes import Route, Target

_FIELDS: Final = ("weight", "fallback", "tries", "try_timeout", "ejection", "shadow", "limits")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    version: str
    """Of the target; empty when what differs is the route's own."""
    field: str
    """target (it came or went), or one of its fields (`_FIELDS`); of the route: order, sticky, salt."""
    before: str
    """JSON; empty when there was nothing."""
    after: str
    """JSON; empty when there is nothing."""


def diff(before: Route | None, after: Route) -> tuple[Change, ...]:
    """The differences in the order of `after`, then the targets that went, then the route's own.

    `before` is None for the first route of a node; its salt, which nobody chose, is no difference then.
    """
    sides = (before.targets if before else ()), after.targets
    old, new = ({target.version: target for target in each} for each in sides)
    changes = [change for target in after.targets for change in _target(old.get(target.version), target)]
    changes += [
        Change(version, "target", _json(_shown(old[version])), "") for version in old if version not in new
    ]
    kept = [version for version in old if version in new]
    if list(new) != kept + [version for version in new if version not in old]:
        changes.append(Change("", "order", _json(list(old)), _json(list(new))))
    if (then := before.sticky if before else "") != after.sticky:
        changes.append(
            Change("", "sticky", _json(then) if then else "", _json(after.sticky) if after.sticky else "")
        )
    if before is not None and before.salt != after.salt:
        changes.append(Change("", "salt", _json(before.salt), _json(after.salt)))
    return tuple(changes)


def _target(before: Target | None, after: Target) -> Iterator[Change]:
    now = _shown(after)
    if before is None:
        yield Change(after.version, "target", "", _json(now))
        return
    then = _shown(before)
    for field in _FIELDS:
        if then.get(field) != now.get(field):
            texts = (_json(each[field]) if field in each else "" for each in (then, now))
            yield Change(after.version, field, *texts)


def _shown(target: Target) -> dict[str, Any]:
    """A target in the form of the API, without the fields that say nothing."""
    shown: dict[str, Any] = {
        "version": target.version,
        "weight": target.weight,
        "fallback": list(target.fallback),
        "tries": target.tries,
    }
    if target.try_timeout_ms is not None:
        shown["try_timeout"] = _seconds(target.try_timeout_ms)
    if (ejection := target.ejection) is not None:
        shown["ejection"] = {
            "threshold_percent": ejection.threshold_percent,
            "consecutive": ejection.consecutive,
            "interval": _seconds(ejection.interval_ms),
            "base_time": _seconds(ejection.base_time_ms),
            "min_requests": ejection.min_requests,
        }
    if target.shadow:
        shown["shadow"] = target.shadow
    if (limits := target.limits) is not None:
        shown["limits"] = {name: value for name, value in asdict(limits).items() if value is not None}
    return shown


def _seconds(milliseconds: int) -> str:
    return f"{Decimal(milliseconds) / 1000:f}s"


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
