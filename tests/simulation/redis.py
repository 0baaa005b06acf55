"""Redis, as far as the cache of outputs uses it: it answers, or is slow, away, damaged or empty."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import ConnectionError as Away

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.world import ProcessLoop, World


@dataclass(slots=True)
class Redis:
    """One server, for every process of the world. Nothing here expires: worlds are short."""

    world: World
    plan: Plan
    kept: dict[str, bytes] = field(default_factory=dict)

    def client(self, loop: ProcessLoop) -> Any:
        """A connection of a process."""
        return _Client(self, loop)


@dataclass(slots=True)
class _Client:
    server: Redis
    loop: ProcessLoop

    async def get(self, key: str) -> bytes | None:
        await self._there_and_back()
        found = self.server.kept.get(key)
        if found and self.server.plan.happens(0.05):
            self.server.world.note("fault", "damaged in the cache")
            return found[: self.server.world.rng.randrange(len(found))]
        return found

    async def set(self, key: str, value: bytes, *, px: object) -> None:
        await self._there_and_back()
        self.server.kept[key] = value

    async def _there_and_back(self) -> None:
        world, plan = self.server.world, self.server.plan
        seconds = world.rng.random() * 0.002
        if plan.happens(0.05):
            world.note("fault", "the cache is slow")
            seconds = 1.0
        arrived = self.loop.create_future()
        world.after(seconds, _settle, arrived, loop=self.loop)
        await arrived
        if plan.happens(0.05):
            world.note("fault", "the cache is away")
            raise Away
        if plan.happens(0.03):
            world.note("fault", "the cache is empty")
            self.server.kept.clear()


def _settle(future: Any) -> None:
    if not future.done():
        future.set_result(None)
