"""The HTTP client of a provider, and what a failed exchange says of the effect.

not connected                nothing was sent                     another provider may be asked
429, 401, 403                answered before it was processed     the same
other 4xx but 408 and 409    declined                             nobody else is asked
408, 409, 5xx, 3xx, broken   nobody knows
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

import aiohttp
import grpc
import orjson

from reflux.nodes.patience import retry_after
from reflux.sdk import NodeFault, Reason, SpanKind, TargetFault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from reflux.nodes.payment.access import Access
    from reflux.sdk import Context

CONNECT_SECONDS: Final = 5.0
MAX_BODY: Final = 4 << 20
"""Bytes of an answer."""
_WORDS: Final = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a good status."""

    body: dict[str, Any]

    def get(self, *path: str | int) -> Any:
        """What stands at this place; None when nothing does."""
        value: Any = self.body
        for part in path:
            if isinstance(part, int):
                value = value[part] if isinstance(value, list) and len(value) > part else None
            else:
                value = value.get(part) if isinstance(value, dict) else None
        return value


class Wire:
    """Connections to one provider, from the start of the process to its end.

    They go past the proxies of the environment, follow no redirect, and send no request twice.
    """

    def __init__(self, access: Access) -> None:
        self.access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
        self._session = aiohttp.ClientSession(
            timeout=timeout, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(
        self,
        ctx: Context[Any],
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        json: object = None,
    ) -> Reply:
        """One request.

        Raises:
            NodeFault, TargetFault: it has no good answer; see above.
        """
        assert self._session is not None, "the wire is not open"
        body = orjson.dumps(json) if json is not None else None
        kind = {"Content-Type": "application/json"} if body is not None else {}
        name = f"{method} {path}"
        with ctx.span(name, kind=SpanKind.CLIENT, attributes={"http.request.method": method}) as span:
            try:
                async with (
                    asyncio.timeout(ctx.budget),
                    self._session.request(
                        method,
                        self.access.url + path,
                        headers={**headers, **kind},
                        params=query,
                        data=form if body is None else body,
                        allow_redirects=False,
                    ) as response,
                ):
                    span.set("http.response.status_code", response.status)
                    raw = await response.content.read(MAX_BODY)
                    return self._read(response.status, raw, response.headers)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
                raise self._unconnected() from error
            except TimeoutError as error:
                raise self._silent() from error
            except aiohttp.ClientError as error:
                raise self._ill("lost the connection in the middle", Reason.PROVIDER_UNAVAILABLE) from error

    def _read(self, status: int, raw: bytes, headers: Mapping[str, str]) -> Reply:
        if 200 <= status < 300:
            try:
                body = orjson.loads(raw)
            except ValueError:
                body = None
            if isinstance(body, dict):
                return Reply(body)
            raise self._ill("got no JSON document", Reason.PROVIDER_UNAVAILABLE)
        if status == 429:
            seconds = retry_after(headers.get("retry-after"), datetime.now(UTC))
            raise NodeFault(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._name}: the provider takes no more requests for now",
                reason=Reason.PROVIDER_LIMITED,
                metadata={"status": "429"},
                retry_after=None if seconds is None else timedelta(seconds=seconds),
                no_effect=True,
            )
        if status in {401, 403}:
            what = f"was refused by its provider ({status}): the operator must see to its key"
            raise self._ill(what, Reason.PROVIDER_REFUSED, no_effect=True)
        if 400 <= status < 500 and status not in {408, 409}:
            words = self.access.redact(raw.decode(errors="replace"))[:_WORDS]
            raise TargetFault(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"{self._name}: the provider declines ({status}): {words}",
                reason=Reason.PROVIDER_DECLINED,
                metadata={"status": str(status)},
                no_effect=True,
            )
        raise self._ill(f"has an ill provider: it answered {status}", Reason.PROVIDER_UNAVAILABLE)

    @property
    def _name(self) -> str:
        return f"payment by {self.access.provider}"

    def _unconnected(self) -> NodeFault:
        return self._ill("could not connect to its provider", Reason.PROVIDER_UNAVAILABLE, no_effect=True)

    def _silent(self) -> NodeFault:
        message = f"{self._name}: the provider did not answer in time"
        return NodeFault(grpc.StatusCode.DEADLINE_EXCEEDED, message, reason=Reason.PROVIDER_TIMEOUT)

    def _ill(self, what: str, reason: Reason, *, no_effect: bool = False) -> NodeFault:
        code = grpc.StatusCode.UNAVAILABLE
        return NodeFault(code, f"{self._name} {what}", reason=reason, no_effect=no_effect)

    def strange(self, what: str) -> NodeFault:
        """An answer that says neither paid nor declined: nobody knows what becomes of it."""
        return self._ill(f"got an answer that settles nothing: {what}", Reason.PROVIDER_UNAVAILABLE)

    def unconfigured(self) -> NodeFault:
        """The operator has something to do first."""
        return self._ill(f"has no provider yet: {self.access.missing}", Reason.PROVIDER_NOT_CONFIGURED)

    def without_source(self) -> TargetFault:
        """The input names nothing that this provider could charge."""
        return TargetFault(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{self._name}: the input has no source.{self.access.provider}",
            reason=Reason.PROVIDER_DECLINED,
            no_effect=True,
        )
