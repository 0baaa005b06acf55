"""A delivery as it came, and as the expressions of a trigger see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.core.errors import InvalidArgument, Violation
from reflux.core.flow.webhook import is_hidden
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.bodies import read_body, read_query
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reflux.core.document import JsonValue

MAX_DELIVERY_ID: Final = 256
"""Characters."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sender has sent."""

    method: str
    path: str
    """Below /hooks/."""
    query: str
    headers: Mapping[str, str]
    """By lower-case name; a field that came more than once is joined with commas (RFC 9110, 5.3)."""
    body: bytes

    def named(self, header: str) -> str | None:
        """The delivery id that stands in `header`; None without one.

        Raises:
            InvalidArgument: ARGUMENT_INVALID, it can be no id.
        """
        text = self.headers.get(header)
        return None if text is None else _delivery_id(text, header)

    def named_in_body(self) -> str | None:
        """The delivery id that is the body's `id`; None when the body is no JSON object with such a text.

        Raises:
            InvalidArgument: ARGUMENT_INVALID, it can be no id.
        """
        try:
            body = documents.parse_json(self.body, what="the body")
        except InvalidArgument:  # whoever reads the body by its content type says so
            return None
        text = body.get("id") if isinstance(body, dict) else None
        return _delivery_id(text, "id") if isinstance(text, str) else None

    def value(self, signature: str | None) -> dict[str, JsonValue]:
        """The root `request`; `signature` is the header that proves the sender, which is not in it.

        Raises:
            InvalidArgument: the body is not what its headers say.
        """
        coding = self.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            message = f"the body is encoded with {coding[:50]!r}: send it as it is"
            raise InvalidArgument(Reason.CONTENT_TYPE_UNSUPPORTED, message)
        headers: dict[str, JsonValue] = {
            name: value for name, value in self.headers.items() if name != signature and not is_hidden(name)
        }
        return {
            "method": self.method,
            "path": self.path,
            "headers": headers,
            "query": read_query(self.query),
            "body": read_body(self.headers.get("content-type", ""), self.body),
        }


def _delivery_id(text: str, place: str) -> str:
    if 0 < len(text) <= MAX_DELIVERY_ID and text.isascii() and text.isprintable():
        return text
    message = f"{place} names this delivery in 1 to {MAX_DELIVERY_ID} printable ASCII characters"
    raise InvalidArgument(Reason.ARGUMENT_INVALID, message, violations=[Violation(place, message)])


def joined(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Header fields by name.

    >>> joined([("accept", "a"), ("accept", "b")])
    {'accept': 'a, b'}
    """
    headers: dict[str, str] = {}
    for name, value in fields:
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
