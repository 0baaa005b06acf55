"""Source text to tokens.

A token's `kind` is the text itself for operators and keywords, else NAME, INT, DOUBLE, STRING or END.
Inside a template the lexer also finds the end of the expression: the first `}}` that is neither in a
string literal nor closes map literals. It never looks further than `MAX_SOURCE` characters ahead,
so an unclosed `{{` in a large text costs nothing.

Tokens are those of CEL (https://github.com/google/cel-spec, "Syntax") without unsigned and bytes
literals, which JSON has no values for, and with `??`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from reflux.core.expression.budget import MAX_SOURCE
from reflux.core.expression.errors import ErrorCode, ExpressionSyntaxError

NAME: Final = "name"
INT: Final = "int"
DOUBLE: Final = "double"
STRING: Final = "string"
END: Final = "end"

KEYWORDS = frozenset({"true", "false", "null", "in"})

# One alternative per kind, the longest spelling first. Each is linear: no repetition over alternatives
# that could match the same character.
_TOKEN = re.compile(
    r"""
    (?P<space>   (?: [ \t\r\n\f] | //[^\n]* )+ )
  | (?P<string>  [rR] (?: \"{3} .*? \"{3} | '{3} .*? '{3} | " [^"\r\n]* " | ' [^'\r\n]* ' )
               | \"{3} (?: [^\\] | \\. )*? \"{3}   | '{3} (?: [^\\] | \\. )*? '{3}
               | " (?: [^"\\\r\n] | \\. )* "       | ' (?: [^'\\\r\n] | \\. )* ' )
  | (?P<double>  (?: [0-9]+ \. [0-9]+ | \. [0-9]+ ) (?: [eE] [+-]? [0-9]+ )? | [0-9]+ [eE] [+-]? [0-9]+ )
  | (?P<int>     0[xX][0-9a-fA-F]+ | [0-9]+ )
  | (?P<name>    [A-Za-z_][A-Za-z0-9_]* )
  | (?P<symbol>  && | \|\| | == | != | <= | >= | \?\? | \.\? | [-+*/%<>!?:.,()\[\]{}] )
    """,
    re.VERBOSE | re.DOTALL,
)

_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"} | {
    c: c for c in "\\?\"'`"
}
_ESCAPE = re.compile(
    r"\\(?: (?P<simple>[abfnrtv\\?\"'`]) | [xX](?P<byte>[0-9a-fA-F]{2}) | u(?P<short>[0-9a-fA-F]{4})"
    r"  | U(?P<long>[0-9a-fA-F]{8}) | (?P<octal>[0-3][0-7]{2}) )",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """`value` is the name, the number or the decoded string; for symbols the symbol."""

    kind: str
    value: str | int | float
    start: int
    end: int


def tokenize(source: str, start: int = 0, *, in_template: bool = False) -> tuple[list[Token], int]:
    """The tokens from `start`, ended by an END token, and the offset after the expression.

    With `in_template` the expression ends before `}}` and the offset is the one after it; otherwise
    it is the whole rest of the source.

    Raises:
        ExpressionSyntaxError: SYNTAX for what is no token or is not closed, TOO_LONG.
    """
    limit = min(len(source), start + MAX_SOURCE)
    tokens: list[Token] = []
    position, braces = start, 0
    while position < limit:
        if source[position] == "}" and in_template and braces == 0:
            if not source.startswith("}}", position):
                raise _refuse("unexpected '}'", position, source)
            return [*tokens, Token(END, "", position, position)], position + 2
        found = _TOKEN.match(source, position, limit)
        if found is None:
            raise _no_token(source, position)
        kind, text = str(found.lastgroup), found.group()
        if kind != "space":
            tokens.append(_token(kind, text, position, source))
            braces += (text == "{") - (text == "}")
        position = found.end()
    if limit < len(source):
        message = f"this expression is longer than {MAX_SOURCE:,} characters"
        raise ExpressionSyntaxError(message, ErrorCode.TOO_LONG, start, source)
    if in_template:
        raise _refuse("'{{' is not closed by '}}'", start - 2, source)
    return [*tokens, Token(END, "", position, position)], position


def _token(kind: str, text: str, start: int, source: str) -> Token:
    end = start + len(text)
    following = source[end : end + 1]
    value: str | int | float = text
    match kind:
        case "string":
            value = _unquote(text, start, source)
        case "double":
            value = float(text)
        case "int":
            value = int(text, 0) if text[:2] in {"0x", "0X"} else int(text)
            if following in {"u", "U"}:
                raise _refuse("there are no unsigned numbers; leave out the 'u'", end, source)
        case "name" if text in {"b", "B", "br", "rb", "Br", "bR", "BR"} and following in {"'", '"'}:
            raise _refuse("there are no bytes; use a string, or base64.decode()", start, source)
        case "name" if text in KEYWORDS:
            kind = text
        case "symbol":
            kind = text
    if kind in {INT, DOUBLE} and (following.isalnum() or following == "_"):
        raise _refuse("a number may not run into a name", end, source)
    return Token(kind, value, start, end)


def _unquote(text: str, start: int, source: str) -> str:
    """The characters that a string literal means."""
    raw = text[0] in "rR"
    quoted = text[1:] if raw else text
    width = 3 if quoted[:3] in {'"""', "'''"} else 1
    body = quoted[width:-width]
    if raw or "\\" not in body:
        return body
    offset = start + width
    parts: list[str] = []
    position = 0
    while (slash := body.find("\\", position)) >= 0:
        found = _ESCAPE.match(body, slash)
        if found is None:
            raise _refuse("unknown escape in a string; a backslash is written '\\\\'", offset + slash, source)
        parts += [body[position:slash], _unescape(found, offset + slash, source)]
        position = found.end()
    return "".join([*parts, body[position:]])


def _unescape(found: re.Match[str], position: int, source: str) -> str:
    if simple := found["simple"]:
        return _SIMPLE[simple]
    hexadecimal = found["byte"] or found["short"] or found["long"]
    point = int(hexadecimal, 16) if hexadecimal else int(found["octal"], 8)
    if point > 0x10FFFF or 0xD800 <= point <= 0xDFFF:
        raise _refuse("this escape is not a Unicode character", position, source)
    return chr(point)


def _no_token(source: str, position: int) -> ExpressionSyntaxError:
    character = source[position]
    if character in "'\"" or source[position : position + 2] in {"r'", 'r"', "R'", 'R"'}:
        return _refuse("this string is not closed", position, source)
    hint = {"=": "; equality is '=='", "&": "; 'and' is '&&'", "|": "; 'or' is '||'"}.get(character, "")
    return _refuse(f"unexpected {character!r}{hint}", position, source)


def _refuse(message: str, position: int, source: str) -> ExpressionSyntaxError:
    return ExpressionSyntaxError(message, ErrorCode.SYNTAX, position, source)
