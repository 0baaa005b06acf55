"""Columns of a batch as binary PostgreSQL arrays of a fixed type, for `unnest`.

psycopg chooses an array's type by its elements, so an empty column, one of NULLs and one of small numbers
each make another prepared statement, and it converts element by element. Here the type is known, there is one
prepared statement, and a column of numbers is packed at once.

Format: `array_send` in PostgreSQL's src/backend/utils/adt/arrayfuncs.c.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from psycopg.adapt import Dumper
from psycopg.pq import Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg.abc import AdaptContext, Buffer

_HEAD: Final = struct.Struct("!IIIII")  # dimensions, has NULLs, type of elements, length, first index
_LENGTH: Final = struct.Struct("!I")
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_BOOL, _BYTEA, _INT8, _INT4, _TEXT, _TIMESTAMPTZ, _UUID = 16, 17, 20, 23, 25, 1184, 2950


class _Array(bytes):
    """An array in its binary form."""


class _Bools(_Array):
    pass


class _Blobs(_Array):
    pass


class _Int8s(_Array):
    pass


class _Int4s(_Array):
    pass


class _Texts(_Array):
    pass


class _Times(_Array):
    pass


class _Uuids(_Array):
    pass


def register(context: AdaptContext) -> None:
    """Teach a connection these types."""
    for kind, dumper in _DUMPERS.items():
        context.adapters.register_dumper(kind, dumper)


def _dumper(array_oid: int) -> type[Dumper]:
    class AsIs(Dumper):
        format = Format.BINARY
        oid = array_oid

        def dump(self, obj: Buffer) -> Buffer:
            return obj

    return AsIs


_DUMPERS: Final = {
    kind: _dumper(oid)
    for kind, oid in (
        (_Bools, 1000),
        (_Blobs, 1001),
        (_Int4s, 1007),
        (_Texts, 1009),
        (_Int8s, 1016),
        (_Times, 1185),
        (_Uuids, 2951),
    )
}


def int4s(values: Sequence[int]) -> bytes:
    """`int[]`.

    Raises:
        struct.error: a value does not fit.
    """
    return _Int4s(_numbers(_INT4, "ii", 4, values))


def int8s(values: Sequence[int]) -> bytes:
    """`bigint[]`.

    Raises:
        struct.error: a value does not fit.
    """
    return _Int8s(_numbers(_INT8, "iq", 8, values))


def bools(values: Sequence[bool]) -> bytes:
    """`bool[]`."""
    return _Bools(_numbers(_BOOL, "i?", 1, values))


def texts(values: Iterable[str | None]) -> bytes:
    """`text[]`; `None` is NULL.

    Raises:
        UnicodeEncodeError: a lone surrogate.
    """
    return _Texts(_items(_TEXT, [None if text is None else text.encode() for text in values]))


def blobs(values: Sequence[bytes | None]) -> bytes:
    """`bytea[]`; `None` is NULL."""
    return _Blobs(_items(_BYTEA, values))


def uuids(values: Iterable[str | None]) -> bytes:
    """`uuid[]` of canonical texts; `None` is NULL.

    Raises:
        ValueError: not hexadecimal.
    """
    raw = [None if text is None else bytes.fromhex(text.replace("-", "")) for text in values]
    return _Uuids(_items(_UUID, raw))


def times(values: Iterable[datetime | None]) -> bytes:
    """`timestamptz[]` of aware times; `None` is NULL.

    Raises:
        TypeError: a time without its zone.
    """
    moments = [None if time is None else (time - _EPOCH) // _MICROSECOND for time in values]
    return _Times(
        _items(_TIMESTAMPTZ, [None if at is None else at.to_bytes(8, "big", signed=True) for at in moments])
    )


def _head(oid: int, length: int, *, nulls: bool) -> bytes:
    return _HEAD.pack(1, nulls, oid, length, 1) if length else struct.pack("!III", 0, 0, oid)


def _numbers(oid: int, pair: str, size: int, values: Sequence[int]) -> bytes:
    flat: list[int] = [size] * (2 * len(values))
    flat[1::2] = values
    return _head(oid, len(values), nulls=False) + struct.pack("!" + pair * len(values), *flat)


def _items(oid: int, values: Sequence[bytes | None]) -> bytes:
    parts = [_head(oid, len(values), nulls=None in values)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)
