"""What the two wires have in common: the client underneath, and SDK errors as faults.

Each wire knows one SDK. Both SDKs stand on the same HTTP client and name their errors alike, but share no
code, so each wire brings the module of its SDK along.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from reflux.nodes.ai_chat import faults
from reflux.nodes.ai_chat.faults import Nonsense, Refusal

if TYPE_CHECKING:
    import httpx2

    from reflux.nodes.ai_chat.access import Access
    from reflux.nodes.ai_chat.draft import Draft
    from reflux.nodes.ai_chat.model import Input
    from reflux.sdk import NodeFault, TargetFault

MAX_CONNECTIONS: Final = 64
CONNECT_SECONDS: Final = 5.0


class Wire(Protocol):
    """One provider's client."""

    async def ask(self, given: Input, model: str, draft: Draft) -> None:
        """Ask, and fill the draft; what the SDK raises passes."""

    def explain(self, error: Exception, *, named: str | None) -> NodeFault | TargetFault | None:
        """An error as a fault; None for what nobody foresaw. `named`: the model that the input named."""

    def with_key(self, access: Access) -> Wire:
        """The same connections for another account; never closed."""

    async def close(self) -> None:
        """Give the connections back."""


class Seen(BaseModel):
    """What of an SDK's objects is read, checked again: an SDK takes whatever its provider sends."""

    model_config = ConfigDict(from_attributes=True, extra="ignore", frozen=True)


def http_client(access: Access) -> httpx2.AsyncClient:
    """Connections without the environment's proxies and without redirects, which could lead a key astray."""
    import httpx2

    # It tells each request with its whole URL, in whose query a gateway may want a key.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # The limit is between any two bytes, pings and comments included. Once the stream has begun its end is an
    # ill provider's fault as well: one that hangs in the middle must be given up while there is time for the
    # next. Nothing tells it from a model that thinks without a sign of life: so the default is generous.
    # Without streams nothing is heard until the whole answer is there: the attempt's time is the only limit.
    idle = access.idle_seconds if access.streams else None
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(idle, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        trust_env=False,
        follow_redirects=False,
    )


def explain(
    error: Exception, sdk: Any, access: Access, *, named: str | None
) -> NodeFault | TargetFault | None:
    """An error of `sdk`, of the HTTP client below it, or of reading what came, as a fault."""
    import httpx2

    if isinstance(error, Nonsense):
        return faults.nonsense(access, str(error))
    if isinstance(error, sdk.APIStatusError):
        refusal = Refusal(_status(error), error.body, error.response.headers)
        return faults.of_refusal(refusal, access, named=named)
    if isinstance(error, sdk.APITimeoutError | httpx2.TimeoutException):
        return _timeout(error, access)
    if isinstance(error, sdk.APIConnectionError | httpx2.TransportError):
        return faults.unreachable(access)
    if isinstance(error, sdk.APIResponseValidationError | json.JSONDecodeError | ValidationError):
        return faults.nonsense(access, "it is not what its API promises")
    if isinstance(error, UnicodeDecodeError | httpx2.DecodingError):
        return faults.nonsense(access, "its bytes are no text")
    if isinstance(error, sdk.APIError):  # in the middle of a stream
        return faults.of_refusal(Refusal(0, error.body), access, named=named)
    return None


def _status(error: Any) -> int:
    """Its HTTP status; 0 when it came within a stream that had begun well."""
    status: int = error.status_code
    return status if status >= 300 else 0


def _timeout(error: Exception, access: Access) -> NodeFault:
    import httpx2

    cause = error if isinstance(error, httpx2.TimeoutException) else error.__cause__
    if isinstance(cause, httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return faults.unreachable(access)
    return faults.silent(access)
