"""A channel whose certificate may be replaced: `rpc.channel` for who has an identity.

gRPC's own channel keeps the certificate it was made with for as long as it lives. This one looks at the files
again every `tls.LOOK_SECONDS`, while calls are made; when they have changed, further calls go over a new
channel, and the former one stays until its calls have ended. Files that cannot be read change nothing: the
former certificate may still be good.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, Self, cast

import grpc

from reflux.runtime import logs, tls

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from reflux.runtime.tls import Identity

_FORMER_SECONDS: Final = 3_600.0
"""How long calls on a former channel may last."""

log = logs.get_logger("tls")


class SecureChannel(grpc.aio.Channel):
    """Built by `rpc.channel`.

    Args:
        target: `host:port`.
        options: of each gRPC channel; with the name that the other end must have.
        identity: whose certificate is shown.

    Raises:
        TlsError: the identity cannot be read.
    """

    def __init__(self, target: str, options: Sequence[tuple[str, Any]], identity: Identity) -> None:
        self._target = target
        self._options = options
        self._identity = identity
        self._stamp = identity.stamp
        self._current = self._make()
        self._looked = time.monotonic()
        self._former: set[asyncio.Task[None]] = set()
        self.generation = 0
        """Rises with every new channel."""

    def current(self) -> grpc.aio.Channel:
        """The channel for a call that begins now."""
        now = time.monotonic()
        if now - self._looked < tls.LOOK_SECONDS:
            return self._current
        self._looked = now
        try:
            if (stamp := self._identity.stamp) != self._stamp:
                former, self._current = self._current, self._make()
                self._stamp, self.generation = stamp, self.generation + 1
                closing = asyncio.ensure_future(former.close(_FORMER_SECONDS))
                self._former.add(closing)
                closing.add_done_callback(self._former.discard)
                log.info("certificate_replaced", target=self._target)
        except (OSError, tls.TlsError) as error:
            log.warning("identity_unreadable", error=str(error))
        return self._current

    def _make(self) -> grpc.aio.Channel:
        return grpc.aio.secure_channel(
            self._target, self._identity.channel_credentials(), options=self._options
        )

    def unary_unary(self, *args: Any, **options: Any) -> Any:
        """As gRPC's; so for the other three."""
        return _Method(self, "unary_unary", args, options)

    def unary_stream(self, *args: Any, **options: Any) -> Any:
        """As gRPC's."""
        return _Method(self, "unary_stream", args, options)

    def stream_unary(self, *args: Any, **options: Any) -> Any:
        """As gRPC's."""
        return _Method(self, "stream_unary", args, options)

    def stream_stream(self, *args: Any, **options: Any) -> Any:
        """As gRPC's."""
        return _Method(self, "stream_stream", args, options)

    async def close(self, grace: float | None = None) -> None:
        """Close it and what is left of former ones."""
        for task in self._former:
            task.cancel()
        await self._current.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:  # noqa: FBT001, FBT002 - gRPC's own
        """As gRPC's."""
        return self._current.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """As gRPC's."""
        await self._current.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """As gRPC's."""
        await self.current().channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class _Method:
    """A method of a stub; finds the present channel for each call."""

    def __init__(self, channel: SecureChannel, kind: str, args: Any, options: Any) -> None:
        self._channel = channel
        self._kind = kind
        self._args = args
        self._options = options
        self._generation = -1
        self._method: Any = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        current = self._channel.current()
        if self._generation != self._channel.generation:
            make = cast("Any", getattr(current, self._kind))
            self._method, self._generation = make(*self._args, **self._options), self._channel.generation
        return self._method(*args, **options)
