r"""Header fields that carry parameters: `Content-Type` and `Content-Disposition`, read in one pass.

    form-data; name="a"; filename="b; c.txt"   →   ("form-data", {"name": "a", "filename": "b; c.txt"})

The grammar is that of RFC 9110, 5.6.6, with the two escapes that senders of forms write inside quotes, `\"`
and `\\`; any other backslash is one, as browsers mean it. Strangers send these fields, so a field is bounded,
each of its characters is looked at once, and no decoder is chosen by what it says: the extended forms of RFC
2231 and 8187 (`filename*=`, `filename*0=`), which name a charset of their own, are refused; RFC 7578, 4.2,
forbids them in forms.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason

MAX_FIELD: Final = 1_024
"""Characters of one field that is read for its parameters."""

# Possessive throughout (Python 3.11): what does not match fails at once, there is nothing to try again.
_PARAMETER: Final = re.compile(
    r"""[ \t]*+;[ \t]*+
        (?: (?P<name> [^\s;="]++ ) = (?: "(?P<quoted> (?:[^"\\]|\\.)*+ )" | (?P<token> [^\s;"]++ ) ) )?+
        [ \t]*+""",
    re.VERBOSE | re.DOTALL,
)
_FOLD: Final = re.compile(r"\r\n[ \t]++")


def read_field(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The value of a field in lower case, and its parameters by lower-case name.

    >>> read_field('Text/Plain; charset="utf-8"', "it")
    ('text/plain', {'charset': 'utf-8'})

    Raises:
        InvalidArgument: DOCUMENT_UNREADABLE; `what` names the field.
    """
    if len(text) > MAX_FIELD:
        _refuse(f"{what} has more than {MAX_FIELD} characters")
    value = text.partition(";")[0]
    done, parameters = len(value), {}
    while done < len(text):
        found = _PARAMETER.match(text, done)
        if found is None or (found.end() < len(text) and text[found.end()] != ";"):
            _refuse(f'{what} is not a value and, after semicolons, name=value or name="value"')
        done = found.end()
        if found["name"] is None:  # RFC 9110 lets a list of parameters have gaps
            continue
        name = found["name"].lower()
        if "*" in name:
            _refuse(f"{what} has the parameter {name[:50]!r}: write it without a *, as UTF-8")
        if name in parameters:
            _refuse(f"{what} has the parameter {name[:50]!r} more than once")
        quoted = found["quoted"]
        parameters[name] = found["token"] if quoted is None else _unescaped(quoted)
    return value.strip().lower(), parameters


def read_head(head: str, what: str) -> dict[str, str]:
    """Header lines by lower-case name, folded ones in one.

    Raises:
        InvalidArgument: DOCUMENT_UNREADABLE: a line is no header, or comes twice; `what` names the head.
    """
    fields: dict[str, str] = {}
    for line in _FOLD.sub(" ", head).split("\r\n"):
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or not name or name in fields:
            _refuse(f"{what} has a line that is no header, or a header that comes twice")
        fields[name] = value.strip()
    return fields


def _unescaped(quoted: str) -> str:
    return "\\".join([piece.replace('\\"', '"') for piece in quoted.split("\\\\")])


def _refuse(problem: str) -> NoReturn:
    raise InvalidArgument(Reason.DOCUMENT_UNREADABLE, problem)
