"""The functions of the language: one fixed table, which is also their documentation.

Every function may be called in two ways, `size(list)` and `list.size()`: the receiver is the first
argument. The three with a dot (`json.encode`) are always called by their full name.

There is no clock and no randomness, since an expression evaluated again must give the same. There
are no regular expressions: Python's engine may take exponential time, and matching in time linear in
the text needs another engine; a `transform.execute` step has one, in a sandbox.
"""

from __future__ import annotations

import difflib

from reflux.core.expression.functions import conversions, lists, numbers, strings, times
from reflux.core.expression.functions.signature import Function, function
from reflux.core.expression.moments import SECOND

__all__ = ["FUNCTIONS", "Function", "hint"]

_TABLE = (
    # -- strings
    function(
        "contains(text: string, part: string): bool", "whether `part` occurs in `text`", strings.contains
    ),
    function("startsWith(text: string, part: string): bool", "whether `text` begins so", strings.starts_with),
    function("endsWith(text: string, part: string): bool", "whether `text` ends so", strings.ends_with),
    function(
        "indexOf(text: string, part: string, start?: int): int",
        "the first place of `part` at or after `start`, else -1",
        strings.index_of,
    ),
    function(
        "lastIndexOf(text: string, part: string, start?: int): int",
        "the last place of `part` at or before `start`, else -1",
        strings.last_index_of,
    ),
    function(
        "charAt(text: string, position: int): string",
        "the character at a place; at the very end an empty string",
        strings.char_at,
    ),
    function(
        "substring(text: string, start: int, end?: int): string",
        "the characters from `start` up to, without, `end`",
        strings.substring,
    ),
    function(
        "replace(text: string, old: string, new: string, count?: int): string",
        "`text` with every `old`, or the first `count`, replaced",
        strings.replace,
    ),
    function(
        "split(text: string, separator: string, limit?: int): list",
        "the parts between separators, at most `limit` of them; characters if the separator is empty",
        strings.split,
    ),
    function("join(parts: list, separator?: string): string", "the strings of a list as one", strings.join),
    function("lowerAscii(text: string): string", "A to Z as a to z, all else unchanged", strings.lower_ascii),
    function("upperAscii(text: string): string", "a to z as A to Z, all else unchanged", strings.upper_ascii),
    function("trim(text: string): string", "without white space at both ends", strings.trim),
    function(
        "format(pattern: string, values: list): string",
        "`pattern` with %s %d %x %f %.2f %e replaced by the values in turn; %% is a percent sign",
        strings.format_text,
    ),
    # -- lists and maps
    function(
        "size(value: string|list|map): int", "how many characters, elements or entries there are", lists.size
    ),
    function("keys(value: map): list", "the keys, in the order of the document", lists.keys),
    function("values(value: map): list", "the values, in the order of the document", lists.values),
    function("sum(elements: list): number", "the sum of numbers; 0 for an empty list", lists.total),
    function(
        "min(values...: any): any",
        "the smallest of its arguments, or of the elements of one list",
        lists.smallest,
    ),
    function(
        "max(values...: any): any",
        "the largest of its arguments, or of the elements of one list",
        lists.largest,
    ),
    function(
        "sort(elements: list): list", "in ascending order; numbers, strings, bools or times alike", lists.sort
    ),
    function("distinct(elements: list): list", "without repetitions, in order of appearance", lists.distinct),
    function("flatten(elements: list): list", "the elements of its lists, one level deep", lists.flatten),
    function("reverse(value: string|list): any", "back to front", lists.reverse),
    function(
        "slice(elements: list, start: int, end?: int): list",
        "the elements from `start` up to, without, `end`",
        lists.slice_list,
    ),
    function("first(elements: list): any", "the first element; an error if there is none", lists.first),
    function("last(elements: list): any", "the last element; an error if there is none", lists.last),
    function("range(count: int): list", "the ints from 0 up to, without, `count`", lists.integers),
    # -- numbers
    function("abs(value: number): number", "without its sign", numbers.absolute),
    function("ceil(value: number): number", "the next whole number upwards", numbers.ceil),
    function("floor(value: number): number", "the next whole number downwards", numbers.floor),
    function(
        "round(value: number): number", "the nearest whole number; halves away from zero", numbers.rounded
    ),
    function("trunc(value: number): number", "without its fraction", numbers.trunc),
    function("sign(value: number): number", "-1, 0 or 1", numbers.sign),
    # -- conversions
    function(
        "int(value: int|double|string|timestamp): int",
        "towards zero; a decimal text; the seconds since 1970",
        conversions.to_int,
    ),
    function("double(value: int|double|string): double", "as a double", conversions.to_double),
    function(
        "string(value: string|int|double|bool|timestamp|duration): string",
        "as text; lists and maps by json.encode()",
        conversions.to_string,
    ),
    function("bool(value: bool|string): bool", "the bool that 'true' or 'false' spells", conversions.to_bool),
    function(
        "type(value: any): string",
        "null, bool, int, double, string, list, map, timestamp or duration",
        conversions.type_of,
    ),
    function(
        "timestamp(value: string|int|timestamp): timestamp",
        "from RFC 3339 text, or seconds since 1970",
        conversions.to_timestamp,
    ),
    function(
        "duration(value: string|duration): duration",
        "from text such as 1h30m, 90s, 250ms, 7d",
        conversions.to_duration,
    ),
    function(
        "base64.encode(text: string): string", "the UTF-8 of `text` in base64", conversions.base64_encode
    ),
    function(
        "base64.decode(text: string): string", "the text whose UTF-8 is in base64", conversions.base64_decode
    ),
    function("json.encode(value: any): string", "compact JSON", conversions.json_encode),
    function("json.decode(text: string): any", "the value that JSON text spells", conversions.json_decode),
    # -- parts of times; the zone is UTC unless given, and an offset such as '+02:00'
    function(
        "getFullYear(value: timestamp, zone?: string): int",
        "the year",
        times.date_part(lambda date: date.year),
    ),
    function(
        "getMonth(value: timestamp, zone?: string): int",
        "the month, from 0",
        times.date_part(lambda date: date.month - 1),
    ),
    function(
        "getDate(value: timestamp, zone?: string): int",
        "the day of the month, from 1",
        times.date_part(lambda date: date.day),
    ),
    function(
        "getDayOfMonth(value: timestamp, zone?: string): int",
        "the day of the month, from 0",
        times.date_part(lambda date: date.day - 1),
    ),
    function(
        "getDayOfWeek(value: timestamp, zone?: string): int",
        "the day of the week, Sunday is 0",
        times.date_part(lambda date: date.isoweekday() % 7),
    ),
    function(
        "getDayOfYear(value: timestamp, zone?: string): int",
        "the day of the year, from 0",
        times.date_part(lambda date: date.timetuple().tm_yday - 1),
    ),
    function(
        "getHours(value: timestamp|duration, zone?: string): int",
        "the hour of the day, or the whole hours of a duration",
        times.time_part(lambda date: date.hour, 3_600 * SECOND),
    ),
    function(
        "getMinutes(value: timestamp|duration, zone?: string): int",
        "the minute of the hour, or the whole minutes of a duration",
        times.time_part(lambda date: date.minute, 60 * SECOND),
    ),
    function(
        "getSeconds(value: timestamp|duration, zone?: string): int",
        "the second of the minute, or the whole seconds of a duration",
        times.time_part(lambda date: date.second, SECOND),
    ),
    function(
        "getMilliseconds(value: timestamp|duration, zone?: string): int",
        "the millisecond of the second, or the whole milliseconds of a duration",
        times.time_part(lambda date: date.microsecond // 1_000, SECOND // 1_000),
    ),
)

# The names that CEL's math library has for the same functions.
_ALIASES = {f"math.{name}": name for name in ("abs", "ceil", "floor", "round", "trunc", "sign")} | {
    "math.least": "min",
    "math.greatest": "max",
}

_BY_NAME = {entry.name: entry for entry in _TABLE}

FUNCTIONS: dict[str, Function] = _BY_NAME | {alias: _BY_NAME[name] for alias, name in _ALIASES.items()}
"""Every function by every name it has. `default(value, fallback)`, `has()` and the macros are syntax."""


def hint(name: str) -> str:
    """What to add to the message about an unknown function."""
    if name == "matches":
        return "; regular expressions need a transform.execute step"
    close = difflib.get_close_matches(name, FUNCTIONS, n=1)
    return f"; did you mean {close[0]}()?" if close else ""
