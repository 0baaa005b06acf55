"""A Route as people write it: the proto3 JSON form of `reflux.api.routing.v1.Route`, checked and read.

Every problem is found at once, each at its place. What the service fills in itself (`state`, `author`, …) may
stand in a document and is not read, so that one can get a route, change it and put it back.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from reflux.controlplane.routes import TOTAL_WEIGHT, Ejection, Limits, Route, Target
from reflux.core.errors import Violation
from reflux.core.expression import ExpressionSyntaxError, compile_expression
from reflux.core.route import MAX_TRIES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from reflux.core.document import JsonValue

MAX_TARGETS: Final = 32
MAX_CHAIN: Final = 16
"""Tries of one call, over all versions of its chain."""
MAX_TRY_TIMEOUT_MS: Final = 3_600_000
MAX_NOTE: Final = 1_000
"""Characters."""
NOTE_FORM: Final = f"a note is text of at most {MAX_NOTE} characters without NUL"

MAX_STICKY: Final = 1_000
"""Characters of its source."""
MAX_SALT: Final = 64
"""Characters."""

_READ: Final = frozenset({"node", "revision", "targets", "sticky", "salt", "note"})
_OUTPUT_ONLY: Final = frozenset(
    {"state", "waiting_for", "author", "update_time", "refusal", "contracts_ignored", "left_out"}
)
_TARGET: Final = frozenset(
    {"version", "weight", "fallback", "tries", "try_timeout", "ejection", "shadow", "limits"}
)
_EJECTION: Final = frozenset({"threshold_percent", "consecutive", "interval", "base_time", "min_requests"})
_LIMITS: Final = frozenset({"max_requests", "max_pending"})
MAX_LIMIT: Final = 100_000
_DURATION: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")
_INT32: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class RouteDocument:
    """What was read. Usable only when there are no violations."""

    revision: int = 0
    targets: tuple[Target, ...] = ()
    note: str = ""
    sticky: str = ""
    salt: str | None = None
    violations: tuple[Violation, ...] = ()


def read(node: str, value: JsonValue, known: Collection[str]) -> RouteDocument:
    """Read the route of `node` out of `value`; `known` are the versions that exist."""
    reader = _Reader(node, known)
    return reader.document(value)


def is_note(text: str) -> bool:
    """Whether a text may be kept as the note of a revision."""
    return len(text) <= MAX_NOTE and "\0" not in text


def read_policy(node: str, revision: int, value: Any) -> Route:
    """A route as `write_policy` wrote it; a list is what older releases wrote: targets and nothing else."""
    if isinstance(value, list):
        return Route(node, revision, read_targets(value), salt="")
    return Route(node, revision, read_targets(value["targets"]), value["sticky"], value["salt"])


def write_policy(route: Route) -> dict[str, Any]:
    """A route as the database keeps it; its salt is known by then."""
    assert route.salt is not None, "a route is kept with its salt"
    return {"targets": write_targets(route.targets), "sticky": route.sticky, "salt": route.salt}


def read_targets(value: list[dict[str, Any]]) -> tuple[Target, ...]:
    """Targets as `write_targets` wrote them."""
    return tuple(
        Target(
            each["version"],
            each["weight"],
            tuple(each["fallback"]),
            each["tries"],
            each["try_timeout_ms"],
            Ejection(**each["ejection"]) if each.get("ejection") else None,
            each.get("shadow", 0),
            Limits(**each["limits"]) if each.get("limits") else None,
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
            "ejection": asdict(target.ejection) if target.ejection else None,
            "shadow": target.shadow,
            "limits": asdict(target.limits) if target.limits else None,
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
        sticky = self._sticky(value.get("sticky", ""))
        salt = self._salt(value.get("salt"))
        return RouteDocument(revision, targets, note, sticky, salt, tuple(self.violations))

    def _sticky(self, value: JsonValue) -> str:
        if not isinstance(value, str) or len(value) > MAX_STICKY or "\0" in value:
            self._wrong(
                "/sticky", f"an expression of at most {MAX_STICKY} characters, such as input.customer"
            )
            return ""
        if not value.strip():
            return ""
        try:
            roots = compile_expression(value).roots
        except ExpressionSyntaxError as error:
            self._wrong(
                "/sticky", f"{error.message}; write an expression such as input.customer, without braces"
            )
            return ""
        if roots != {"input"}:
            named = ", ".join(sorted(roots)) or "nothing"
            self._wrong(
                "/sticky", f"it reads {named}; it must read input, the input of the call, and only that"
            )
        return value

    def _salt(self, value: JsonValue) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > MAX_SALT or "\0" in value:
            self._wrong(
                "/salt", f"text of at most {MAX_SALT} characters; leave it out to keep the present one"
            )
            return None
        return value

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
        timeout = self._milliseconds(value, "try_timeout", place, (1, MAX_TRY_TIMEOUT_MS))
        ejection = self._ejection(value.get("ejection"), f"{place}/ejection")
        shadow = self._integer(value, "shadow", place, 0, TOTAL_WEIGHT, default=0)
        if shadow and weight:
            self._wrong(f"{place}/shadow", "a version with weight answers itself; give it shadow or weight")
        limits = self._limits(value.get("limits"), f"{place}/limits")
        chain = tuple(map(str, fallback))
        return Target(str(version), weight, chain, tries, timeout, ejection, shadow, limits)

    def _limits(self, value: JsonValue, place: str) -> Limits | None:
        """0 is no limit, as in a message that does not name one; so is an object that names none."""
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(place, f"an object with any of {', '.join(sorted(_LIMITS))}")
            return None
        self._closed(value, _LIMITS, place)
        requests, pending = (
            self._integer(value, name, place, 0, MAX_LIMIT, default=0) or None
            for name in ("max_requests", "max_pending")
        )
        return Limits(requests, pending) if requests or pending else None

    def _ejection(self, value: JsonValue, place: str) -> Ejection | None:
        if value is None:
            return None
        if not isinstance(value, dict):
            self._wrong(place, f"an object with any of {', '.join(sorted(_EJECTION))}")
            return None
        self._closed(value, _EJECTION, place)
        usual = Ejection()
        hour, day = 3_600_000, 86_400_000
        return Ejection(
            self._integer(value, "threshold_percent", place, 0, 100, default=0) or usual.threshold_percent,
            self._integer(value, "consecutive", place, 0, 10_000, default=0) or usual.consecutive,
            self._milliseconds(value, "interval", place, (100, hour)) or usual.interval_ms,
            self._milliseconds(value, "base_time", place, (100, day)) or usual.base_time_ms,
            self._integer(value, "min_requests", place, 0, 100_000, default=0) or usual.min_requests,
        )

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

    def _milliseconds(
        self, value: Mapping[str, JsonValue], name: str, place: str, bounds: tuple[int, int]
    ) -> int | None:
        """A duration as proto3 JSON writes it; None without one."""
        text = value.get(name)
        if text is None:
            return None
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        milliseconds = int(Decimal(match[1]) * 1000) if match else 0
        if not bounds[0] <= milliseconds <= bounds[1]:
            low, high = (f"'{Decimal(each) / 1000:f}s'" for each in bounds)
            self._wrong(f"{place}/{name}", f"seconds as text, such as '0.25s', from {low} to {high}")
            return None
        return milliseconds

    def _closed(self, value: Mapping[str, JsonValue], names: Collection[str], place: str) -> None:
        for name in value:
            if name not in names:
                self._wrong(f"{place}/{name}", f"unknown; the fields are {', '.join(sorted(names))}")

    def _wrong(self, pointer: str, message: str) -> None:
        self.violations.append(Violation(pointer, message))
