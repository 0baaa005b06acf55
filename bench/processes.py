"""Node versions as processes of a benchmark, beside a stack: started, killed, started again."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final

from bench.stack import child
from reflux.api.registry.v1.registry_service_pb2 import WatchCatalogRequest
from reflux.api.registry.v1.registry_service_pb2_grpc import EndpointServiceStub
from reflux.cli.stack.child import exited
from reflux.runtime import rpc
from reflux.runtime.settings import Address

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bench.stack import Stack

READY_SECONDS: Final = 300.0

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Versions:
    """A process that serves versions."""

    process: subprocess.Popen[bytes]
    addresses: tuple[Address, ...]
    """Where each of them listens, in the order in which they were asked for."""

    async def kill(self) -> None:
        """With -9: nothing is drained, nobody is told, and the registry knows it until its leases run out.

        Raises:
            RuntimeError: it had ended before.
        """
        if self.process.poll() is not None:
            raise RuntimeError(f"it had ended by itself with status {self.process.returncode}")
        os.kill(self.process.pid, signal.SIGKILL)
        await exited(self.process)


@asynccontextmanager
async def serving(stack: Stack, *versions: str) -> AsyncIterator[Versions]:
    """A process that serves `versions` (`NODE@VERSION`), registered, within the body; none afterwards.

    Raises:
        RuntimeError: it has not registered all of them within 300 s; the last lines of its log are in it.
    """
    log = stack.data.parent / f"versions-{next(_numbers)}.log"
    settings = {"REFLUX_REGISTRY_ADDRESS": stack.registry}
    known = await _addresses(stack, versions)
    async with child(log, ("bench.echo", *versions), settings) as one:
        try:
            async with asyncio.timeout(READY_SECONDS):
                new = await _addresses(stack, versions, known)
        except TimeoutError:
            raise RuntimeError(f"not registered within {READY_SECONDS:g} s: {one.explain()}") from None
        yield Versions(one.process, tuple(Address.parse(new[name].pop()) for name in versions))


async def _addresses(
    stack: Stack, versions: Sequence[str], known: Mapping[str, set[str]] | None = None
) -> dict[str, set[str]]:
    """Where `versions` are registered; beside those `known`, as soon as each of them is."""
    async with rpc.channel(stack.registry) as channel:
        async for catalog in EndpointServiceStub(channel).WatchCatalog(WatchCatalogRequest()):
            found = {
                f"{each.node}@{each.version}": {endpoint.address for endpoint in each.endpoints}
                for each in catalog.versions
            }
            new = {name: found.get(name, set()) - (known or {}).get(name, set()) for name in versions}
            if known is None or all(new.values()):
                return new
    raise RuntimeError("the registry has ended")
