"""What differs between two revisions of a route, target by target, in the words of the API.

A difference is named by the target's version and the field, so that a person reads `2.0.0 weight 1000 → 3000`
and never two documents side by side. A target that came or went is one difference, with all its fields.

Order is meaning (see `routes`), and of itself it changes only when the targets that stayed stand in another
order, or when a new one does not stand at the end: either moves users from one version to another.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reflux.controlplane.routes import Target

_FIELDS: Final = ("weight", "fallback", "tries", "try_timeout", "shadow")


@dataclass(frozen=True, slots=True)
class Change:
    """One difference."""

    version: str
    """Of the target; empty when the order of the targets changed."""
    field: str
    """target (it came or went), weight, fallback, tries, try_timeout or order."""
    before: str
    """JSON; empty when there was nothing."""
    after: str
    """JSON; empty when there is nothing."""


def diff(before: Sequence[Target], after: Sequence[Target]) -> tuple[Change, ...]:
    """The differences in the order of `after`, then the targets that went, then the order."""
    old, new = ({target.version: target for target in each} for each in (before, after))
    changes = [change for target in after for change in _target(old.get(target.version), target)]
    changes += [
        Change(version, "target", _json(_shown(old[version])), "") for version in old if version not in new
    ]
    kept = [version for version in old if version in new]
    if list(new) != kept + [version for version in new if version not in old]:
        changes.append(Change("", "order", _json(list(old)), _json(list(new))))
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
        shown["try_timeout"] = f"{Decimal(target.try_timeout_ms) / 1000:f}s"
    if target.shadow:
        shown["shadow"] = target.shadow
    return shown


def _json(value: object) -> str:
    return orjson.dumps(value).decode()
