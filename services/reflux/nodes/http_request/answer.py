"""An answer as a step sees it: header fields as text, the body by its content type."""

from __future__ import annotations

import base64
import re
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
# Only encodings of text: Python's codecs also know some that are none, or that take quadratic time.
_CHARSET: Final = re.compile(
    r"charset=[\"']?(utf-?8|utf-16(?:le|be)?|us-ascii|iso-8859-\d+|latin-?1|windows-125\d|koi8-[ru]"
    r"|shift_jis|euc-(?:jp|kr)|gb(?:k|2312|18030)|big5)\b"
)

Format = Literal["json", "text", "base64", "none"]


def to_output(answer: Answer) -> Output:
    """The step's output."""
    headers: dict[str, str] = {}
    for name, value in answer.headers.items():
        key = name.lower()
        # aiohttp keeps bytes that are not UTF-8 as surrogates.
        text = _whole(value)
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
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
    found = _CHARSET.search(parameters)
    try:
        return _whole(body.decode(found[1] if found else "utf-8", errors="replace"))
    except LookupError:
        return body.decode(errors="replace")


def _whole(text: str) -> str:
    """Text without halves of surrogate pairs, which are in no JSON document."""
    return text.encode(errors="replace").decode()
