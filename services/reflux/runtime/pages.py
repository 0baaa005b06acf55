"""Pages of lists: a token holds the key after which the next page begins, and the list it was made for.

A token of one list does not fit another, and what is not a token of ours is refused, so that nobody builds on
its form.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

DEFAULT_SIZE: Final = 100
MAX_SIZE: Final = 1000

MAX_PLACE: Final = (1 << 31) - 1
"""Of PostgreSQL's integer."""


def page_size(asked: int) -> int:
    """How many items a page has.

    Raises:
        InvalidArgument: ARGUMENT_INVALID, negative or above `MAX_SIZE`.
    """
    if not 0 <= asked <= MAX_SIZE:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"page_size is from 0 to {MAX_SIZE}")
    return asked or DEFAULT_SIZE


def place(text: str) -> int:
    """A place in a list that is counted: what `read_token` may parse.

    Raises:
        ValueError: it is none, or one that no list of ours has.
    """
    number = int(text)
    if not 0 <= number <= MAX_PLACE:
        raise ValueError(f"no list has a place {number}")
    return number


def write_token(listing: str, key: str) -> str:
    """The token of the page of `listing` that begins after `key`."""
    return base64.urlsafe_b64encode(orjson.dumps([listing, key])).decode().rstrip("=")


def read_token(listing: str, token: str, *, first: T, parse: Callable[[str], T] = str) -> T:  # type: ignore[assignment]
    """The key after which the page begins; `first` without a token.

    Args:
        listing: kind and filters of the list.
        token: as it came.
        first: where the list begins.
        parse: makes a key of its text; raises ValueError for one that no list of ours has.

    Raises:
        InvalidArgument: PAGE_TOKEN_INVALID.
    """
    if not token:
        return first
    try:
        read = orjson.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
        if isinstance(read, list) and len(read) == 2 and read[0] == listing and isinstance(read[1], str):
            return parse(read[1])
    except (binascii.Error, ValueError):
        pass
    message = "this page_token was not made by this list; begin again without one"
    raise InvalidArgument(Reason.PAGE_TOKEN_INVALID, message)
