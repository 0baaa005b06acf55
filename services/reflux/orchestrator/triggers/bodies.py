"""Bodies of requests as JSON values, by their content type.

| content type                        | value                                                            |
|-------------------------------------|------------------------------------------------------------------|
| none at all (an empty body)         | null                                                             |
| `application/json`, `…+json`        | what it says, as strictly as documents are read                  |
| `application/x-www-form-urlencoded` | an object; a name that comes more than once gives a list         |
| `multipart/form-data`               | the same; a file is `{filename, content_type, base64}`           |
| `text/…`                            | text                                                             |
| anything else, or no type           | `{content_type, base64}`                                         |

What is not what it says it is, is refused: nothing is guessed.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import parse_qsl

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.fields import read_field, read_head
from reflux.runtime import documents

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reflux.core.document import JsonValue

MAX_FIELDS: Final = 1_000
"""Of a form or a query."""
MAX_PART_HEAD: Final = 4_096
"""Bytes of the headers of one part of a multipart body."""
_CHARSETS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
}
"""A closed list: some of what Python calls an encoding takes quadratic time, or runs code."""
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_WHAT: Final = "the body"


def read_body(content_type: str, raw: bytes) -> JsonValue:
    """The value of a body whose size was checked.

    Raises:
        InvalidArgument: DOCUMENT_UNREADABLE, or CONTENT_TYPE_UNSUPPORTED for a charset.
    """
    if not raw:
        return None
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        return documents.parse_json(raw, what=_WHAT)
    if kind == "application/x-www-form-urlencoded":
        return read_query(_decode(raw, "utf-8"), what="the form")
    if kind == "multipart/form-data":
        return _multipart(_parameter(content_type, "boundary", ""), raw)
    if kind.startswith("text/"):
        return _decode(raw, _parameter(content_type, "charset", "utf-8"))
    return {"content_type": content_type, "base64": base64.b64encode(raw).decode()}


def _parameter(content_type: str, name: str, default: str) -> str:
    return read_field(content_type, f"the content type of {_WHAT}")[1].get(name, default)


def read_query(text: str, *, what: str = "the query") -> dict[str, JsonValue]:
    """The fields of a query string or an urlencoded form.

    >>> read_query("a=1&b=x+y&b=")
    {'a': '1', 'b': ['x y', '']}

    Raises:
        InvalidArgument: more than `MAX_FIELDS`, or escapes that are not UTF-8.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except UnicodeDecodeError:
        _refuse(f"{what} has an escape that is not UTF-8")
    except ValueError:
        _refuse(f"{what} has more than {MAX_FIELDS} fields")
    return _gathered(pairs)


def _gathered(pairs: Iterable[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    fields: dict[str, list[JsonValue]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def _decode(raw: bytes, charset: str) -> str:
    codec = _CHARSETS.get(charset.lower())
    if codec is None:
        message = f"{_WHAT} is in the charset {charset[:50]!r}: send it in utf-8"
        raise InvalidArgument(Reason.CONTENT_TYPE_UNSUPPORTED, message)
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        _refuse(f"{_WHAT} is not {codec}")


def _multipart(boundary: str, raw: bytes) -> dict[str, JsonValue]:
    """RFC 7578 over RFC 2046: parts between delimiter lines, each with its headers."""
    if _BOUNDARY.fullmatch(boundary) is None:
        _refuse("multipart/form-data has no boundary of its own")
    delimiter = b"\r\n--" + boundary.encode()
    _, *parts = (b"\r\n" + raw).split(delimiter, MAX_FIELDS + 2)
    if len(parts) > MAX_FIELDS + 1:
        _refuse(f"{_WHAT} has more than {MAX_FIELDS} parts")
    if not parts or not parts[-1].startswith(b"--"):
        _refuse(f"{_WHAT} ends before its last boundary")
    return _gathered(_part(part) for part in parts[:-1])


def _part(part: bytes) -> tuple[str, JsonValue]:
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator or len(head) > MAX_PART_HEAD:
        _refuse(f"a part of {_WHAT} has no end of its headers within {MAX_PART_HEAD} bytes")
    padding, _, lines = head.decode(errors="replace").partition("\r\n")
    if padding.strip(" \t"):
        _refuse(f"{_WHAT} has a line that only begins with its boundary")
    headers = read_head(lines, f"a part of {_WHAT}") if lines else {}
    _, said = read_field(headers.get("content-disposition", ""), f"the disposition of a part of {_WHAT}")
    kind, details = read_field(headers.get("content-type", ""), f"the content type of a part of {_WHAT}")
    if "name" not in said:
        _refuse(f"a part of {_WHAT} has no name")
    if "filename" not in said:
        return said["name"], _decode(content, details.get("charset", "utf-8"))
    return said["name"], {
        "filename": said["filename"],
        "content_type": kind or "text/plain",
        "base64": base64.b64encode(content).decode(),
    }


def _refuse(problem: str) -> NoReturn:
    raise InvalidArgument(Reason.DOCUMENT_UNREADABLE, problem)
