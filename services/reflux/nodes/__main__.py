"""Composition root of the node processes: all versions in one, a port each, or the named ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from reflux import sdk
from reflux.nodes import SHIPPED, load

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from reflux.runtime.settings import Settings

VERSIONS: Final = tuple(SHIPPED)
"""Every shipped version, as `name@version`."""


async def serve(
    settings: Settings, *, ready: asyncio.Event | None = None, versions: Sequence[str] = VERSIONS
) -> None:
    """Serve node versions until cancelled, then drain.

    >>> await serve(settings, versions=["http.request@1.0.0"], ready=ready)

    Raises:
        KeyError: a version is not shipped.
    """
    await sdk.serve([load(name) for name in versions], settings, ready=ready)
