"""The documents that people send with requests, read strictly: every wrong place at once, with what is right.

fields = Fields.of(body, what="the fork", known=("from_step", …))
step = fields.text("from_step", required=True)
fields.check()                         # raises InvalidArgument with all that was wrong
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from reflux.core.document import Json
from reflux.core.errors import InvalidArgument, Violation
from reflux.core.flow.problems import nearest
from reflux.core.reasons import Reason
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from google.api.httpbody_pb2 import HttpBody  # type: ignore[import-untyped]

    from reflux.core.document import JsonValue

MAX_TEXT: Final = 1_000
"""Characters of a text."""
MAX_ENTRIES: Final = 1_000
"""Of a map or a list."""


class Fields:
    """The fields of one object, and everything that is wrong with them."""

    def __init__(self, value: JsonValue, *, what: str, known: Collection[str], pointer: str = "") -> None:
        self._what = what
        self._pointer = pointer
        self._wrong: list[Violation] = []
        self._values: Mapping[str, JsonValue] = {}
        if isinstance(value, dict):
            self._values = value
        elif value is not None:
            self._add("", f"{what} is an object")
        for key in self._values:
            if key not in known:
                self._add(key, f"there is no such field; {nearest(key, known)}".rstrip("; "))

    @classmethod
    def of(cls, body: HttpBody, *, what: str, known: Collection[str]) -> Fields:
        """The fields of a request's document; none of an empty one.

        Raises:
            InvalidArgument: it cannot be read.
        """
        return cls(documents.parse(body, what=what), what=what, known=known)

    def has(self, name: str) -> bool:
        """Whether it was given; null is not."""
        return self._values.get(name) is not None

    def says(self, name: str) -> bool:
        """Whether it was given, and is not empty."""
        return self._values.get(name) not in (None, "", [], {})

    def text(self, name: str, *, required: bool = False, most: int = MAX_TEXT) -> str:
        """A text; empty when it was not given."""
        value = self._values.get(name)
        if value is None:
            if required:
                self._add(name, f"{self._what} needs it")
            return ""
        if not isinstance(value, str) or len(value) > most or "\0" in value or (required and not value):
            self._add(name, f"a text of at most {most} characters, without NUL")
            return ""
        return value

    def flag(self, name: str, *, required: bool = False) -> bool:
        """True or false; false when it was not given."""
        value = self._values.get(name)
        if isinstance(value, bool) or (value is None and not required):
            return bool(value)
        self._add(name, "true or false, and must be there" if required else "true or false")
        return False

    def number(self, name: str, *, least: int, most: int) -> int | None:
        """A whole number."""
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._add(name, f"a whole number from {least} to {most}")
            return None
        return value

    def version(self, name: str) -> str | int:
        """`same`, `newest`, or the number of a version."""
        value = self._values.get(name)
        if value is None or value in ("same", "newest"):
            return value or "same"
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if text.isascii() and text.isdecimal() and 0 < int(text[:12]) < 1 << 31:
            return int(text)
        self._add(name, "same, newest, or the number of a version")
        return "same"

    def texts(self, name: str) -> dict[str, str]:
        """A map of texts."""
        value = self._values.get(name)
        if value is None:
            return {}
        if isinstance(value, dict) and len(value) <= MAX_ENTRIES:
            found = {key: text for key, text in value.items() if isinstance(text, str) and text}
            if len(found) == len(value):
                return found
        self._add(name, f"an object of at most {MAX_ENTRIES} texts")
        return {}

    def list_of_texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self._values.get(name)
        if value is None:
            return []
        if isinstance(value, list) and len(value) <= MAX_ENTRIES:
            found = [text for text in value if isinstance(text, str) and text]
            if len(found) == len(value):
                return found
        self._add(name, f"a list of at most {MAX_ENTRIES} texts")
        return []

    def time(self, name: str) -> datetime | None:
        """A time as RFC 3339 has it, with its zone."""
        value = self._values.get(name)
        if value is None:
            return None
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            self._add(name, "a time such as 2026-01-31T12:00:00Z")
            return None
        return at

    def json(self, name: str) -> Json | None:
        """Any value; None when it was not given."""
        value = self._values.get(name)
        return None if value is None else Json.of(value)

    def anything(self, name: str, most: int) -> Json | None:
        """Any value of at most so many bytes, null among them; None when it was not given.

        Raises:
            InvalidArgument: DOCUMENT_TOO_LARGE.
        """
        if name not in self._values:
            return None
        document = Json.of(self._values[name])
        if len(document.raw) > most:
            message = f"{name} is {len(document.raw)} bytes; the limit is {most}"
            violations = [Violation(f"{self._pointer}/{name}", message)]
            raise InvalidArgument(Reason.DOCUMENT_TOO_LARGE, message, violations=violations)
        return document

    def object(self, name: str, *, what: str, known: Collection[str]) -> Fields:
        """The fields of an object within; give what is wrong with them back by `take`."""
        return Fields(self._values.get(name), what=what, known=known, pointer=f"{self._pointer}/{name}")

    def take(self, inner: Fields) -> None:
        """Counts what is wrong with an object within as wrong here."""
        self._wrong.extend(inner._wrong)

    def wrong(self, name: str, message: str) -> None:
        """Says what is wrong with a field."""
        self._add(name, message)

    def check(self) -> None:
        """Refuses the document if anything is wrong with it.

        Raises:
            InvalidArgument: ARGUMENT_INVALID, with a violation for each place.
        """
        if self._wrong:
            first = self._wrong[0]
            message = f"{self._what}: {first.pointer.removeprefix('/') or 'it'}: {first.message}"
            raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=self._wrong)

    def _add(self, name: str, message: str) -> None:
        place = f"{self._pointer}/{name[:100]}" if name else self._pointer
        self._wrong.append(Violation(place, message))
