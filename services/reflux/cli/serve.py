"""`reflux serve NAME`: the single entry of every service, in one process or several.

A service is `async def serve(settings, *, ready=None)` in its package's `__main__`: it sets `ready` when it
can be used, runs until its task is cancelled, drains and returns. Here names become those functions,
imported only when asked for; `platform` runs three of them in one process, which only this package may do.
"""

from __future__ import annotations

import asyncio
import importlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from reflux.runtime.settings import Settings

_PLATFORM: Final = ("registry", "controlplane", "gateway")
_ALONE: Final = (*_PLATFORM, "orchestrator", "nodes")
NAMES: Final = ("platform", *_ALONE, "node")


class UnknownServiceError(Exception):
    """No service has that name, or it needs another argument; the message lists what there is."""


class Serve(Protocol):
    """The shape of every service's entry."""

    async def __call__(self, settings: Settings, *, ready: asyncio.Event | None = None) -> None:
        """Serve until cancelled, then drain."""


def find(name: str, argument: str | None = None) -> Serve:
    """The entry of the service `name`; `node` takes a node version, such as `http.request@1.0.0`.

    Raises:
        UnknownServiceError: see there.
    """
    if name == "node":
        if argument not in node_versions():
            known = ", ".join(node_versions())
            raise UnknownServiceError(f"`serve node` takes a node version, one of: {known}")
        return partial(_module("nodes").serve, versions=(argument,))
    if argument is not None:
        raise UnknownServiceError(f"`serve {name}` takes no further argument")
    if name == "platform":
        return platform
    if name not in _ALONE:
        raise UnknownServiceError(f"no service {name!r}; there are: {', '.join(NAMES)}")
    entry: Serve = _module(name).serve
    return entry


def node_versions() -> tuple[str, ...]:
    """Every node version that is shipped, as `name@version`."""
    return tuple(_module("nodes").VERSIONS)


async def platform(settings: Settings, *, ready: asyncio.Event | None = None) -> None:
    """Registry, control plane and gateway in one process: one fails, all end."""
    await together({name: find(name) for name in _PLATFORM}, settings, ready=ready)


async def together(
    services: dict[str, Serve], settings: Settings, *, ready: asyncio.Event | None = None
) -> None:
    """Run services side by side until cancelled; `ready` is set when all of them are.

    Raises:
        ExceptionGroup: one failed or ended by itself; the others have been cancelled and have drained.
    """
    events = [asyncio.Event() for _ in services]
    async with asyncio.TaskGroup() as group:
        for (name, serve), event in zip(services.items(), events, strict=True):
            group.create_task(_endless(name, serve, settings, event), name=name)
        for event in events:
            await event.wait()
        if ready is not None:
            ready.set()


async def _endless(name: str, serve: Serve, settings: Settings, ready: asyncio.Event) -> None:
    await serve(settings, ready=ready)
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise RuntimeError(f"{name} ended by itself")


def _module(name: str) -> Any:
    return importlib.import_module(f"reflux.{name}.__main__")
