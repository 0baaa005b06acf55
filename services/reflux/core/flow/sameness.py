"""Values as JSON Schema compares them, and as messages quote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from reflux.core.document import JsonValue
    from reflux.core.flow.fitting import Work

_ROOM: Final = 120
_CUT: Final = "…"


def key(value: JsonValue, work: Work | None = None) -> str:
    """The same for what is equal, such as 1 and 1.0, or members in another order, and for nothing else.

    It is a text, because hashes of texts cannot be foreseen. Those of numbers and tuples can be made to
    collide, and a set is then as slow as a list.

    Raises:
        TooMuchWork: there is not enough `work` to walk through the value.
    """
    if not isinstance(value, list | dict):
        if work is not None:
            work.spend(_price(value))
        return _scalar(value)
    written: list[str] = []
    _write(value, written, work)
    return "".join(written)


def _write(value: JsonValue, written: list[str], work: Work | None) -> None:
    if work is not None:
        work.spend(_price(value))
    if isinstance(value, list):
        written.append("[")
        for item in value:
            _write(item, written, work)
        written.append("]")
    elif isinstance(value, dict):
        written.append("{")
        for name in sorted(value):
            written.append(_scalar(name))
            _write(value[name], written, work)
        written.append("}")
    else:
        written.append(_scalar(value))


def _scalar(value: str | float | None) -> str:
    """Each says where it ends, so that no two lists of them read alike."""
    if isinstance(value, str):
        return f'{len(value)}"{value}'
    return f"{int(value)}," if isinstance(value, float) and value.is_integer() else f"{value},"


def _price(value: JsonValue) -> int:
    if isinstance(value, str):
        return 6 + len(value) // 64
    if isinstance(value, dict):
        return 10 + 16 * len(value) + sum(map(len, value)) // 64
    return 40 if isinstance(value, float) else 6  # it may have 300 digits


def quoted(value: JsonValue, room: int = _ROOM) -> str:
    """As Python writes it, but not much more than `room` characters: a message is no copy of a document."""
    if isinstance(value, str):
        return repr(value) if len(value) <= room else f"{value[: max(room - 30, 0)]!r} {_CUT} {value[-30:]!r}"
    if not isinstance(value, list | dict):
        return repr(value)
    said: list[str] = []
    named = isinstance(value, dict)
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        if room <= 0:
            said.append(_CUT)
            break
        one = f"{quoted(name, room)}: " if named else ""
        one += quoted(part, room - len(one))
        said.append(one)
        room -= len(one) + 2
    inside = ", ".join(said)
    return f"{{{inside}}}" if named else f"[{inside}]"


def listed(names: list[str] | list[JsonValue], work: Work) -> str:
    """The first of them, and the verb, such as `'a', 'b' were`.

    Raises:
        TooMuchWork: as `key`.
    """
    work.spend(100)
    said = ", ".join(quoted(name, _ROOM // 4) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{said}{more} {'was' if len(names) == 1 else 'were'}"
