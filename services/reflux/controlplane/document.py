"""A Route as people write it: the proto3 JSON form of `reflux.api.routing.v1.Route`, checked and read.

Every problem is found at once, each at its place. What the service fills in itself (`state`, `author`, …) may
stand in a document and is not read, so that one can get a route, change it and put it back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.routes import TOTAL_WEIGHT, Target
from reflux.core.errors import Violation

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from reflux.core.document import JsonValue

MAX_TARGETS: Final = 32
MAX_TRIES: Final = 5
"""Of one version."""
MAX_CHAIN: Final = 16
"""Tries of one call, over all versions of its chain."""
MAX_TRY_TIMEOUT_MS: Final = 3_600_000
MAX_NOTE: Final = 1_000
"""Characters."""
NOTE_FORM: Final = f"a note is text of at most {MAX_NOTE} characters without NUL"

_READ: Final = frozenset({"node", "revision", "targets", "note"})
_OUTPUT_ONLY: Final = frozenset({"state", "waiting_for", "author", "update_time", "refusal"})
_TARGET: Final = frozenset({"version", "weight", "fallback", "tries", "try_timeout", "shadow"})
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_INT32: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class RouteDocument:
    """What was read. Usable only when there are no violations."""

    revision: int = 0
    targets: tuple[Target, ...] = ()
    note: str = ""
    violations: tuple[Violation, ...] = ()


def read(node: str, value: JsonValue, known: Collection[str]) -> RouteDocument:
    """Read the route of `node` out of `value`; `known` are the versions that exist."""
    reader = _Reader(node, known)
    return reader.document(value)


def is_note(text: str) -> bool:
    """Whether a text may be kept as the note of a revision."""
    return len(text) <= MAX_NOTE and "\0" not in text


def read_targets(value: list[dict[str, Any]]) -> tuple[Target, ...]:
    """Targets as `write_targets` wrote them."""
    return tuple(
        Target(
            each["version"],
            each["weight"],
            tuple(each["fallback"]),
            each["tries"],
            each["try_timeout_ms"],
            each.get("shadow", 0),
        )
        for each in value
    )


def write_targets(targets: Iterable[Target]) -> list[dict[str, Any]]:
    """Targets as the database keeps them."""
    return [
        {
            "version": target.version,
            "weight": target.weight,
            "fallback": list(target.fallback),
            "tries": target.tries,
            "try_timeout_ms": target.try_timeout_ms,
            "shadow": target.shadow,
        }
        for target in targets
    ]


@dataclass(slots=True)
class _Reader:
    node: str
    known: Collection[str]
    violations: list[Violation] = field(default_factory=list)

    def document(self, value: JsonValue) -> RouteDocument:
        if not isinstance(value, dict):
            self._wrong("", "a route is an object with the member targets")
            return RouteDocument(violations=tuple(self.violations))
        self._closed(value, _READ | _OUTPUT_ONLY, "")
        if value.get("node", self.node) != self.node:
            self._wrong("/node", f"this is the route of {self.node}; leave node out")
        revision = self._integer(value, "revision", "", 0, _INT32 - 1, default=0)
        note = value.get("note", "")
        if not isinstance(note, str) or not is_note(note):
            self._wrong("/note", NOTE_FORM)
            note = ""
        targets = self._targets(value.get("targets"))
        return RouteDocument(revision, targets, note, tuple(self.violations))

    def _targets(self, value: JsonValue) -> tuple[Target, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_TARGETS:
            self._wrong("/targets", f"give a list of 1 to {MAX_TARGETS} targets")
            return ()
        before = len(self.violations)
        targets = [self._target(each, f"/targets/{index}") for index, each in enumerate(value)]
        if len(self.violations) > before:
            return ()
        self._together(targets)
        return tuple(targets)

    def _target(self, value: JsonValue, place: str) -> Target:
        if not isinstance(value, dict):
            self._wrong(place, "a target is an object with version and weight")
            return Target("", 0)
        self._closed(value, _TARGET, place)
        version = value.get("version")
        self._version(version, f"{place}/version")
        weight = self._integer(value, "weight", place, 0, TOTAL_WEIGHT, default=0)
        fallback = value.get("fallback", [])
        if not isinstance(fallback, list):
            self._wrong(f"{place}/fallback", "a list of versions, in the order they are tried")
            fallback = []
        for index, each in enumerate(fallback):
            self._version(each, f"{place}/fallback/{index}")
        tries = self._integer(value, "tries", place, 0, MAX_TRIES, default=0) or 1
        timeout = self._timeout(value.get("try_timeout"), f"{place}/try_timeout")
        shadow = self._integer(value, "shadow", place, 0, TOTAL_WEIGHT, default=0)
        if shadow and weight:
            self._wrong(f"{place}/shadow", "a version with weight answers itself; give it shadow or weight")
        return Target(str(version), weight, tuple(map(str, fallback)), tries, timeout, shadow)

    def _together(self, targets: list[Target]) -> None:
        """What only the targets together can break; each of them is well-formed."""
        tries = {target.version: target.tries for target in targets}
        seen: set[str] = set()
        for index, target in enumerate(targets):
            place = f"/targets/{index}"
            if target.version in seen:
                self._wrong(f"{place}/version", f"{target.version} is a target already; list it once")
            seen.add(target.version)
            chain = [target.version]
            for step, version in enumerate(target.fallback):
                if version in chain:
                    again = (
                        f"{version} comes twice in the chain {' → '.join([*chain, version])}; list it once"
                    )
                    self._wrong(f"{place}/fallback/{step}", again)
                chain.append(version)
            total = sum(tries.get(version, 1) for version in chain)
            if total > MAX_CHAIN:
                self._wrong(place, f"its chain has {total} tries; at most {MAX_CHAIN} are allowed")
        shadows = sum(target.shadow for target in targets)
        if shadows > TOTAL_WEIGHT:
            self._wrong("/targets", f"the shadows sum to {shadows}; at most {TOTAL_WEIGHT} basis points")
        weights = sum(target.weight for target in targets)
        if weights != TOTAL_WEIGHT:
            self._wrong(
                "/targets", f"the weights sum to {weights}; they must sum to {TOTAL_WEIGHT} basis points"
            )

    def _version(self, value: JsonValue, place: str) -> None:
        if not isinstance(value, str) or value not in self.known:
            named = ", ".join(sorted(self.known)) or "none"
            self._wrong(place, f"{self.node} has no version {value!r}; it has {named}")

    def _integer(
        self, value: Mapping[str, JsonValue], name: str, place: str, low: int, high: int, *, default: int
    ) -> int:
        number = value.get(name, default)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            self._wrong(f"{place}/{name}", f"a whole number from {low} to {high}")
            return default
        return number

    def _timeout(self, value: JsonValue, place: str) -> int | None:
        if value is None:
            return None
        match = _DURATION.fullmatch(value) if isinstance(value, str) else None
        milliseconds = int(Decimal(match[1]) * 1000) if match else 0
        if not 1 <= milliseconds <= MAX_TRY_TIMEOUT_MS:
            self._wrong(place, "seconds as text, such as '0.25s', from '0.001s' to '3600s'")
            return None
        return milliseconds

    def _closed(self, value: Mapping[str, JsonValue], names: Collection[str], place: str) -> None:
        for name in value:
            if name not in names:
                self._wrong(f"{place}/{name}", f"unknown; the fields are {', '.join(sorted(names))}")

    def _wrong(self, pointer: str, message: str) -> None:
        self.violations.append(Violation(pointer, message))
