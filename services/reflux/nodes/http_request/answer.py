"""An answer as a step sees it: header fields as text, the body by its content type."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final, Literal

from reflux.core.errors import InvalidArgument
from reflux.nodes.http_request.model import Output
from reflux.runtime import documents

if TYPE_CHECKING:
    from pydantic import JsonValue

    from reflux.nodes.http_request.exchange import Answer

_TEXT: Final = frozenset(
    {
        "application/javascript",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/yaml",
    }
)
_CHARSET: Final = "charset="

Format = Literal["json", "text", "base64", "none"]


def to_output(answer: Answer) -> Output:
    """The step's output."""
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    body, body_format = decode(answer.body, headers.get("content-type", ""))
    return Output(
        status=answer.status,
        headers=headers,
        body=body,
        body_format=body_format,
        url=str(answer.request.url),
        elapsed_ms=answer.elapsed_ms,
    )


def decode(body: bytes, content_type: str) -> tuple[JsonValue, Format]:
    """The body as a value, and which kind. JSON that breaks the bounds of a document is given as text."""
    if not body:
        return None, "none"
    kind, _, parameters = content_type.lower().partition(";")
    kind = kind.strip()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return documents.parse_json(body, what="the body"), "json"
        except InvalidArgument:
            return body.decode(errors="replace"), "text"
    if kind.startswith("text/") or kind.endswith("+xml") or kind in _TEXT:
        return _text(body, parameters), "text"
    if not kind:
        try:
            return body.decode(), "text"
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode(), "base64"


def _text(body: bytes, parameters: str) -> str:
    _, found, charset = parameters.partition(_CHARSET)
    try:
        return body.decode(charset.split(";")[0].strip(" \"'") if found else "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")
