"""What starts runs by itself: `spec.triggers`, read.

triggers:
  - id: hook
    type: webhook
    path: shop/orders              # served at /hooks/shop/orders
    method: POST                   # the default
    auth: hmac                     # none by default
    secret: { env: SHOP_SECRET }   # a variable of the orchestrator's environment
    signature: standard            # the default; or github, stripe, {header, prefix, encoding}
    delivery_id: webhook-id        # the default; x-github-delivery with github, the body's id with stripe
    respond: run                   # accepted by default
    timeout: 30s                   # with respond: run; the default
    input: { order: "{{ request.body }}" }

Triggers of time are read in `scheduled`, those that people fire in `manual`.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias

from reflux.core.flow.manual import MANUAL_TYPE, Manual, read_manual
from reflux.core.flow.problems import ProblemCode
from reflux.core.flow.scheduled import CRON, INTERVAL, Scheduled, read_scheduled
from reflux.core.flow.triggerparts import InputScope, read_id
from reflux.core.flow.webhook import (
    METHODS,
    PATH_RULE,
    TRIGGER_TYPE,
    Encoding,
    Hmac,
    Respond,
    Scheme,
    Webhook,
    is_hidden,
    is_ours,
    normal_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reflux.core.document import JsonValue
    from reflux.core.expression import Reference, Template
    from reflux.core.flow.problems import Path, Place
    from reflux.core.flow.reading import Reader

MAX_TRIGGERS: Final = 20
"""Of one flow."""
SHORTEST: Final = timedelta(milliseconds=100)
LONGEST: Final = timedelta(seconds=300)
"""Bounds of a sender's wait."""

_DEFAULT_TIMEOUT: Final = timedelta(seconds=30)
_TYPES: Final = (TRIGGER_TYPE, CRON, INTERVAL, MANUAL_TYPE)
_KEYS: Final = (
    "id",
    "type",
    "path",
    "method",
    "auth",
    "secret",
    "signature",
    "delivery_id",
    "respond",
    "timeout",
    "input",
)
_PRESETS: Final[Mapping[str, tuple[Scheme, str, str]]] = {
    "standard": (Scheme.STANDARD, "webhook-signature", ""),
    "stripe": (Scheme.STRIPE, "stripe-signature", ""),
    "github": (Scheme.PLAIN, "x-hub-signature-256", "sha256="),
}
"""Scheme, header and prefix."""
_DELIVERY_IDS: Final[Mapping[str, str | None]] = {"github": "x-github-delivery", "stripe": None}
_HEADER: Final = re.compile(r"[a-z0-9!#$%&'*+.^`|~-]{1,100}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_RESERVED: Final = ("REFLUX_", "OTEL_", "PG")
_REQUEST_FIELDS: Final = ("method", "path", "headers", "query", "body")

Trigger: TypeAlias = Webhook | Scheduled | Manual
"""What starts runs of a flow."""


def read_triggers(
    reader: Reader, place: Place | None, variables: Mapping[str, JsonValue]
) -> tuple[Trigger, ...]:
    """The triggers of a flow whose constants are `variables`, as far as they could be read."""
    items = [] if place is None else reader.items(place, "a list of triggers")
    if place is not None and len(items) > MAX_TRIGGERS:
        message = f"a flow has at most {MAX_TRIGGERS} triggers"
        reader.problems.add(ProblemCode.LIMIT_EXCEEDED, place, message)
    read = [(item, trigger) for item in items[:MAX_TRIGGERS] if (trigger := _read(reader, item, variables))]
    _refuse_twins(reader, read)
    return tuple(trigger for _, trigger in read)


def _read(reader: Reader, place: Place, variables: Mapping[str, JsonValue]) -> Trigger | None:
    """One trigger of any type; None when it is nothing that could be one."""
    if not isinstance(place.value, dict):
        reader.wrong_type(place, "a trigger: an object with id and type")
        return None
    where = reader.required(place, "type")
    kind = reader.text(where)
    if where is None or kind is None:
        return None
    if kind not in _TYPES:
        reader.bad_choice(where, kind, _TYPES)
        return None
    if kind in (CRON, INTERVAL):
        return read_scheduled(reader, place, kind, variables)
    if kind == MANUAL_TYPE:
        return read_manual(reader, place, variables)
    return _Webhook(reader, place, variables).read()


def _refuse_twins(reader: Reader, triggers: list[tuple[Place, Trigger]]) -> None:
    ids: dict[str, Trigger] = {}
    ways: dict[tuple[str, str], Trigger] = {}
    for place, trigger in triggers:
        first = ids.setdefault(trigger.id, trigger)
        if first is not trigger and trigger.id:
            message = f"the id {trigger.id} is taken by {first.pointer}"
            hint = "ids of triggers are unique in a flow"
            reader.problems.add(ProblemCode.DUPLICATE_ID, (*place.path, "id"), message, hint)
        if not isinstance(trigger, Webhook):
            continue
        first = ways.setdefault((trigger.method, trigger.path), trigger)
        if first is not trigger and trigger.path:
            message = f"{trigger.method} /hooks/{trigger.path} is taken by {first.pointer}"
            hint = "give one of them another path or method"
            reader.problems.add(ProblemCode.PATH_TAKEN, (*place.path, "path"), message, hint)


class _Webhook:
    """Reads one trigger of type webhook."""

    def __init__(self, reader: Reader, place: Place, variables: Mapping[str, JsonValue]) -> None:
        self._reader = reader
        self._problems = reader.problems
        self._place = place
        self._variables = variables

    def read(self) -> Webhook:
        """The trigger, as far as it can be read."""
        reader, place = self._reader, self._place
        reader.known_keys(place, _KEYS, ignored=("credentials",))
        if "credentials" in reader.mapping(place):
            message = "a trigger names no credential: its secret is the orchestrator's, not a node's"
            hint = "write secret: { env: NAME }, a variable of the orchestrator's environment"
            self._problems.add(ProblemCode.MISPLACED_KEY, (*place.path, "credentials"), message, hint)
        hmac, preset = self._auth()
        respond = reader.choice(reader.optional(place, "respond"), Respond, Respond.ACCEPTED)
        return Webhook(
            id=read_id(reader, place),
            pointer=self._problems.pointer(place.path),
            method=self._method(),
            path=self._path(),
            hmac=hmac,
            delivery_id=self._delivery_id(hmac, preset),
            respond=respond,
            timeout=self._timeout(respond),
            input=self._input(hmac),
        )

    def _method(self) -> str:
        where = self._reader.optional(self._place, "method")
        text = self._reader.text(where)
        if where is None or text is None:
            return "POST"
        if text not in METHODS:
            self._reader.bad_choice(where, text, METHODS)
        return text

    def _path(self) -> str:
        where = self._reader.required(self._place, "path")
        text = self._reader.text(where)
        if where is None or text is None:
            return ""
        path = normal_path(text)
        if path is None:
            message = f"{text[:100]!r} cannot be the path of a webhook"
            self._problems.add(ProblemCode.BAD_NAME, where, message, f"write {PATH_RULE}")
        elif path == "hooks" or path.startswith("hooks/"):
            message = f"this would be served at /hooks/{path}: a path begins after /hooks/"
            self._problems.add(ProblemCode.BAD_VALUE, where, message, f"write {path[6:] or 'a path'}")
        return path or ""

    # -- who may send ------------------------------------------------------------------------------

    def _auth(self) -> tuple[Hmac | None, str]:
        """How senders prove who they are, and the name of the scheme if it has one."""
        where = self._reader.optional(self._place, "auth")
        auth = self._reader.text(where)
        if where is not None and auth is not None and auth not in ("none", "hmac"):
            self._reader.bad_choice(where, auth, ("none", "hmac"))
            return None, ""
        if auth == "hmac":
            return self._hmac()
        for key in ("secret", "signature"):
            given = self._reader.optional(self._place, key)
            if given is not None:
                message = f"{key} says nothing without auth: hmac"
                self._problems.add(ProblemCode.MISPLACED_KEY, given, message, "add auth: hmac")
        return None, ""

    def _hmac(self) -> tuple[Hmac, str]:
        secret = self._secret()
        where = self._reader.optional(self._place, "signature")
        if where is not None and isinstance(where.value, dict):
            return self._plain(where, secret), ""
        preset = "standard"
        if where is not None and not isinstance(where.value, str):
            self._reader.wrong_type(where, "the name of a scheme, or an object {header, prefix, encoding}")
        elif where is not None:
            preset = str(where.value)
        if preset not in _PRESETS and where is not None:
            self._reader.bad_choice(where, preset, tuple(_PRESETS))
            preset = "standard"
        scheme, header, prefix = _PRESETS[preset]
        return Hmac(secret, scheme, header, prefix), preset

    def _plain(self, where: Place, secret: str) -> Hmac:
        reader = self._reader
        reader.known_keys(where, ("header", "prefix", "encoding"))
        named = reader.required(where, "header")
        header = self._header(named)
        if named is not None and is_ours(header):
            message = f"{header} never comes in: the edge takes headers of the platform away"
            self._problems.add(
                ProblemCode.BAD_VALUE, named, message, "name the header that the sender writes"
            )
        prefix = reader.text(reader.optional(where, "prefix")) or ""
        encoding = reader.choice(reader.optional(where, "encoding"), Encoding, Encoding.HEX)
        return Hmac(secret, Scheme.PLAIN, header, prefix, encoding)

    def _secret(self) -> str:
        where = self._reader.required(self._place, "secret")
        if where is None:
            return ""
        hint = "write {env: NAME}: a secret itself never stands in a flow"
        if not isinstance(where.value, dict):
            self._reader.wrong_type(where, "an object that names an environment variable", hint)
            return ""
        self._reader.known_keys(where, ("env",))
        variable = self._reader.required(where, "env")
        name = self._reader.text(variable)
        if variable is None or name is None:
            return ""
        if _VARIABLE.fullmatch(name) is None:
            message = "this is not the name of an environment variable"
            self._problems.add(ProblemCode.BAD_NAME, variable, message, hint)
        elif name.upper().startswith(_RESERVED):
            message = f"{name} belongs to the platform and is no secret of a flow"
            self._problems.add(ProblemCode.BAD_VALUE, variable, message, "name a variable of your own")
        return name

    def _header(self, where: Place | None) -> str:
        text = self._reader.text(where)
        if where is None or text is None:
            return ""
        if _HEADER.fullmatch(text.lower()) is None:
            message = f"{text[:100]!r} is not the name of a header that the edge lets through"
            hint = "letters, digits and -; a name with _ is refused at the edge"
            self._problems.add(ProblemCode.BAD_NAME, where, message, hint)
        return text.lower()

    # -- what becomes of it ------------------------------------------------------------------------

    def _delivery_id(self, hmac: Hmac | None, preset: str) -> str | None:
        where = self._reader.optional(self._place, "delivery_id")
        if where is None:
            return _DELIVERY_IDS.get(preset, "webhook-id")
        name = self._header(where)
        if hmac is not None and hmac.scheme is Scheme.STANDARD and name != "webhook-id":
            message = "standard webhooks name a delivery in webhook-id, which is signed"
            self._problems.add(ProblemCode.BAD_VALUE, where, message, "remove delivery_id")
        elif is_hidden(name) or (hmac is not None and name and name == hmac.header):
            message = f"{name} may hold or prove a secret, and a delivery id is kept"
            self._problems.add(ProblemCode.BAD_VALUE, where, message, "name another header")
        return name

    def _timeout(self, respond: Respond) -> timedelta:
        where = self._reader.optional(self._place, "timeout")
        if where is None:
            return _DEFAULT_TIMEOUT
        if respond is not Respond.RUN:
            message = "timeout says nothing without respond: run"
            self._problems.add(ProblemCode.MISPLACED_KEY, where, message, "add respond: run")
        return self._reader.duration(where, SHORTEST, LONGEST) or _DEFAULT_TIMEOUT

    def _input(self, hmac: Hmac | None) -> Template | None:
        where = self._reader.optional(self._place, "input")
        if where is None:
            return None
        template = self._reader.template(where)
        for reference in template.references:
            self._check(where.inside(reference.pointer).path, reference, hmac)
        return template

    def _check(self, path: Path, reference: Reference, hmac: Hmac | None) -> None:
        """Judge one read of the input; of the request, no secret is shown."""
        InputScope(self._variables, "request", _REQUEST_FIELDS).check(self._problems, path, reference)
        if len(reference.path) > 2 and reference.path[:2] == ("request", "headers"):
            self._check_header(path, str(reference.path[2]), hmac)

    def _check_header(self, path: Path, name: str, hmac: Hmac | None) -> None:
        if name != name.lower():
            message = f"{name[:100]!r} is never there: names of headers are in lower case"
            self._problems.add(ProblemCode.UNKNOWN_FIELD, path, message, f"write {name.lower()[:100]}")
        elif is_hidden(name) or (hmac is not None and name == hmac.header):
            message = f"{name[:100]!r} is not shown: an input is kept, and this may hold or prove a secret"
            self._problems.add(ProblemCode.UNKNOWN_FIELD, path, message)
