"""The token of an approval: whoever has it may see what one step of one run asks, and answer.

    token = base64url( HMAC-SHA-256(key, context ‖ run id ‖ step path) ‖ run id ‖ step path )

It is derived and kept nowhere: no row, no journal, no log and no trace has it, so nothing leaks it but its
holder. It names what it is for, and the HMAC proves that we have made it for exactly that; the path of a step
is unique in a run for ever, and an approval asks once. The key is made once in the database, by whichever
orchestrator needs it first. It travels in bodies, and in the fragment of a link, which a browser keeps to
itself; never in what is sent of a URL, which proxies write down.
"""

import base64
import binascii
import hmac
import secrets
from typing import Final
from uuid import UUID

from reflux.core.errors import InvalidArgument
from reflux.core.names import RunId, StepPath
from reflux.core.reasons import Reason
from reflux.orchestrator.store.pool import fetch_of
from reflux.runtime.postgres import Pool

_CONTEXT: Final = b"reflux approval 1\0"
_MAC: Final = 32
_ID: Final = 16
MAX_TOKEN: Final = 1_000
"""Characters."""


def make(key: bytes, run_id: RunId, step: StepPath) -> str:
    """The token of a step."""
    what = UUID(run_id).bytes + step.encode()
    return base64.urlsafe_b64encode(_mac(key, what) + what).decode().rstrip("=")


def link(token: str) -> str:
    """Where a person answers: the gateway's page, below whatever address the edge is reached at."""
    return f"/approve#{token}"


def read(key: bytes, token: str) -> tuple[RunId, StepPath]:
    """What a token is for.

    Raises:
        InvalidArgument: we have not made it.
    """
    try:
        if len(token) > MAX_TOKEN:
            raise ValueError("longer than any token")  # noqa: TRY301 - one answer to everything
        raw = base64.b64decode(
            token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
        )
        mac, what = raw[:_MAC], raw[_MAC:]
        if len(what) <= _ID or not hmac.compare_digest(mac, _mac(key, what)):
            raise ValueError("not made by us")  # noqa: TRY301 - one answer to everything
        return RunId(str(UUID(bytes=what[:_ID]))), StepPath(what[_ID:].decode())
    except (ValueError, binascii.Error):
        raise InvalidArgument(Reason.APPROVAL_TOKEN_INVALID, "this is no token of an approval") from None


class TokenKey:
    """The key, read from the database when it is first needed."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._key: bytes | None = None

    async def get(self) -> bytes:
        """The key of this platform.

        Raises:
            psycopg.Error: the database is away.
        """
        while self._key is None:
            fresh = {"name": "approvals", "fresh": secrets.token_bytes(32)}
            # Nothing is found only when somebody else has made it at this very moment.
            for (key,) in await fetch_of(self._pool, "reflux.orchestrator.words", "find_key", fresh):
                self._key = bytes(key)
        return self._key


def _mac(key: bytes, what: bytes) -> bytes:
    return hmac.digest(key, _CONTEXT + what, "sha256")
