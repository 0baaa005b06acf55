"""Functions of strings. A position counts characters (Unicode code points) from 0."""

# ruff: noqa: D103  # the table in this package's __init__ says what each function does

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reflux.core.expression.errors import ErrorCode, Fault
from reflux.core.expression.values import Value, double_text, kind, scalar_text, to_double, with_article

if TYPE_CHECKING:
    from reflux.core.expression.budget import Budget

_SPACE = " \t\n\r\v\f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
_CLAUSE_WORK = 16  # units for writing a value
_CLAUSE = re.compile(r"%(?:\.([0-9]{1,2}))?([a-zA-Z%]?)")


def contains(budget: Budget, text: str, part: str) -> bool:
    budget.search(len(text), len(part))
    return part in text


def starts_with(budget: Budget, text: str, part: str) -> bool:
    budget.read(len(part))
    return text.startswith(part)


def ends_with(budget: Budget, text: str, part: str) -> bool:
    budget.read(len(part))
    return text.endswith(part)


def index_of(budget: Budget, text: str, part: str, start: int = 0) -> int:
    _check_range(start, len(text), len(text))
    budget.search(len(text), len(part))
    return text.find(part, start)


def last_index_of(budget: Budget, text: str, part: str, start: int | None = None) -> int:
    last = len(text) if start is None else start
    _check_range(last, len(text), len(text))
    # A search from the end has no linear worst case: it is paid for as if every place were compared.
    budget.spend((len(text) >> 8) * (len(part) + 1) + (len(part) >> 8))
    return text.rfind(part, 0, last + len(part))


def char_at(_budget: Budget, text: str, position: int) -> str:
    _check_range(position, len(text), len(text))
    return text[position : position + 1]


def substring(budget: Budget, text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    _check_range(start, stop, len(text))
    budget.build_text(stop - start)
    return text[start:stop]


def _check_range(start: int, stop: int, length: int) -> None:
    if not 0 <= start <= stop <= length:
        raise Fault(ErrorCode.INDEX, f"this place is outside the string, which has {length:,} characters")


def replace(budget: Budget, text: str, old: str, new: str, count: int = -1) -> str:
    budget.search(len(text), len(old))
    found = text.count(old)
    if 0 <= count < found:
        found = count
    budget.build_text(len(text) + found * (len(new) - len(old)))
    return text.replace(old, new, found)


def split(budget: Budget, text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    budget.search(len(text), len(separator))
    cuts = text.count(separator) if separator else max(len(text) - 1, 0)
    if 0 < limit <= cuts:
        cuts = limit - 1
    budget.build_items(cuts + 1)
    budget.build_text(len(text))
    if separator:
        return text.split(separator, cuts)
    return [*text[:cuts], text[cuts:]]


def join(budget: Budget, parts: list[Value], separator: str = "") -> str:
    budget.spend(len(parts))
    for part in parts:
        if type(part) is not str:
            message = f"join() wants a list of strings, not with {with_article(kind(part))} in it"
            raise Fault(ErrorCode.WRONG_TYPE, message)
    budget.build_text(sum(map(len, parts)) + len(separator) * max(len(parts) - 1, 0))
    return separator.join(parts)


def lower_ascii(budget: Budget, text: str) -> str:
    _pay_for_case(budget, text)
    if text.isascii():
        return text.lower()
    return text.encode(errors="surrogatepass").lower().decode(errors="surrogatepass")  # ASCII only


def upper_ascii(budget: Budget, text: str) -> str:
    _pay_for_case(budget, text)
    if text.isascii():
        return text.upper()
    return text.encode(errors="surrogatepass").upper().decode(errors="surrogatepass")  # ASCII only


def _pay_for_case(budget: Budget, text: str) -> None:
    budget.build_text(len(text))
    if not text.isascii():  # it goes to UTF-8 and back, which costs four times as much
        budget.spend(len(text) * 3 >> 5)


def trim(budget: Budget, text: str) -> str:
    budget.build_text(len(text))
    return text.strip(_SPACE)


def format_text(budget: Budget, pattern: str, values: list[Value]) -> str:
    budget.build_text(len(pattern))
    budget.spend(pattern.count("%") * _CLAUSE_WORK)
    parts: list[str] = []
    position = used = 0
    for clause in _CLAUSE.finditer(pattern):
        parts.append(pattern[position : clause.start()])
        position = clause.end()
        if clause.group() == "%%":
            parts.append("%")
            continue
        if used == len(values):
            raise Fault(ErrorCode.BAD_VALUE, "format() has more clauses in its text than values in its list")
        digits = None if clause[1] is None else int(clause[1])
        parts.append(_formatted(clause[2], digits, values[used]))
        if type(values[used]) is not str:
            budget.spend(len(parts[-1]) >> 3)
        used += 1
    if used < len(values):
        raise Fault(ErrorCode.BAD_VALUE, "format() has more values in its list than clauses in its text")
    parts.append(pattern[position:])
    budget.build_text(sum(map(len, parts)))
    return "".join(parts)


def _formatted(clause: str, digits: int | None, value: Value) -> str:
    numeric = type(value) in {int, float}
    if clause == "s" and digits is None:
        text = scalar_text(value)
        if text is not None:
            return text
    elif clause in {"d", "x"} and type(value) is int and digits is None:
        return format(value, clause)
    elif clause in {"f", "e"} and numeric:
        # Checked by way of double_text, which refuses what is not finite.
        double_text(number := to_double(value))
        return format(number, f".{6 if digits is None else digits}{clause}")
    if clause in {"s", "d", "x", "f", "e"}:
        raise Fault(ErrorCode.WRONG_TYPE, f"format() cannot write {with_article(kind(value))} as %{clause}")
    raise Fault(ErrorCode.BAD_VALUE, "format() knows %s, %d, %x, %f, %.2f, %e and %%")
