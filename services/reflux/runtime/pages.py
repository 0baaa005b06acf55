"""Page tokens: opaque to callers, bound to the list they were made for."""

import base64
import binascii
import hashlib
import hmac
from typing import Final

from reflux.core.errors import InvalidArgument
from reflux.core.reasons import Reason

DEFAULT_SIZE: Final = 100
MAX_SIZE: Final = 1_000
_MARK_BYTES: Final = 8


def size(asked: int) -> int:
    """Entries of a page.

    Raises:
        InvalidArgument: negative, or more than `MAX_SIZE`.
    """
    if not 0 <= asked <= MAX_SIZE:
        raise InvalidArgument(Reason.ARGUMENT_INVALID, f"page_size: 0 (the default) to {MAX_SIZE}")
    return asked or DEFAULT_SIZE


def token(position: str, scope: str) -> str:
    """The token of the page after `position`; `scope` describes the list: its kind and its filters."""
    return base64.urlsafe_b64encode(_mark(scope) + position.encode()).decode().rstrip("=")


def read(given: str, scope: str) -> str:
    """The position of a token.

    Raises:
        InvalidArgument: it was not made by `token` for this scope.
    """
    try:
        raw = base64.urlsafe_b64decode(given + "=" * (-len(given) % 4))
        mark, position = raw[:_MARK_BYTES], raw[_MARK_BYTES:].decode()
    except (binascii.Error, UnicodeDecodeError):
        mark, position = b"", ""
    if not position or not hmac.compare_digest(mark, _mark(scope)):
        raise InvalidArgument(
            Reason.PAGE_TOKEN_INVALID, "page_token: not from this list with these filters; begin without one"
        )
    return position


def _mark(scope: str) -> bytes:
    return hashlib.sha256(scope.encode()).digest()[:_MARK_BYTES]
