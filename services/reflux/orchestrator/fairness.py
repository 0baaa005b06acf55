"""Whose turn it is, when flows share what is not enough: places for calls, room for runs, batches of starts.

A burst of one flow must not starve another, and nobody may wait for ever. So what waits is queued by flow,
and flows take turns (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996): each flow has a *tag*, the
virtual time of its next turn; the flow with the smallest tag is next, and its next tag is `1 / weight` later;
virtual time is the tag served last. A flow that comes anew begins there: it has saved up nothing. One that
had its turn and comes back pays for that turn first, so nobody is passed by one who comes again and again.

- Within a flow the higher priority is first, then who came first.
- The weight of a turn is the priority of who takes it, plus one: a flow of priority 9 gets ten turns for one
  of a flow of priority 0, and both go on.
- With `n` flows of one priority that wait, each gets every n-th turn, however much of each waits.

What cannot wait, a start for which there is no room in memory, is refused; `Shares` keeps room for each flow.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_PAID: Final = 10_000
"""Flows whose last turn is remembered; above it those whose turn is long over are forgotten."""

SHARE: Final = 4
"""What a flow has is at most so many times what is left."""

ItemT = TypeVar("ItemT")


class Turn(NamedTuple):
    """For whom something is done."""

    flow: str
    """Whatever names the flow."""
    priority: int
    """0 to 9."""


NOBODY: Final = Turn("", 0)
"""What is done for no flow in particular."""


class FairQueue(Generic[ItemT]):
    """A queue by flows with the face of a deque: `append`, `popleft`, and `appendleft` of what was taken."""

    def __init__(self, turn: Callable[[ItemT], Turn]) -> None:
        self._turn = turn
        self._flows: dict[str, list[tuple[int, int, ItemT]]] = {}
        self._tags: list[tuple[float, int, str]] = []
        """A heap with one entry for each flow that waits."""
        self._now = 0.0
        self._paid: dict[str, float] = {}
        """Next tags of flows that had a turn and wait no more; those in the past say nothing."""
        self._numbers = count()
        self._returned: list[ItemT] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, item: ItemT) -> None:
        """It waits, behind those of its flow and priority."""
        turn = self._turn(item)
        waiting = self._flows.get(turn.flow)
        if waiting is None:
            waiting = self._flows[turn.flow] = []
            tag = max(self._now, self._paid.pop(turn.flow, 0.0))
            heappush(self._tags, (tag, next(self._numbers), turn.flow))
        heappush(waiting, (-turn.priority, next(self._numbers), item))
        self._length += 1

    def appendleft(self, item: ItemT) -> None:
        """It was taken too early: it is the next one."""
        self._returned.append(item)
        self._length += 1

    def popleft(self) -> ItemT:
        """Whose turn it is.

        Raises:
            IndexError: nobody waits.
        """
        if self._returned:
            self._length -= 1
            return self._returned.pop()
        tag, _, flow = heappop(self._tags)
        self._now = tag
        waiting = self._flows[flow]
        priority, _, item = heappop(waiting)
        self._length -= 1
        tag += 1 / (1 - priority)
        if waiting:
            heappush(self._tags, (tag, next(self._numbers), flow))
        else:
            del self._flows[flow]
            self._paid[flow] = tag
            if not self._flows:
                self._paid.clear()
            elif len(self._paid) > MAX_PAID:
                self._paid = {flow: tag for flow, tag in self._paid.items() if tag > self._now}
        return item


def in_turns(items: Iterable[ItemT], turn: Callable[[ItemT], Turn]) -> list[ItemT]:
    """All of `items`, flows taking turns.

    >>> in_turns(["a1", "a2", "a3", "b1"], lambda name: Turn(name[0], 5))
    ['a1', 'b1', 'a2', 'a3']
    """
    queue = FairQueue(turn)
    for item in items:
        queue.append(item)
    return [queue.popleft() for _ in range(len(queue))]


class Shares:
    """How much of something each flow has.

    A flow may have `SHARE` times what is left for everybody (a dynamic threshold: Choudhury, Hahne, IEEE/ACM
    Transactions on Networking, 1998): one alone gets most of it, and a flow with none always gets some.
    """

    def __init__(self) -> None:
        self._of: Counter[str] = Counter()

    def add(self, flow: str) -> None:
        """The flow has one more."""
        self._of[flow] += 1

    def drop(self, flow: str) -> None:
        """The flow has one less."""
        self._of[flow] -= 1
        if not self._of[flow]:
            del self._of[flow]

    def used_up(self, flow: str, left: int) -> bool:
        """Whether the flow has its share, when so many are left."""
        return self._of[flow] >= SHARE * left


class _Waiter(NamedTuple):
    turn: Turn
    granted: asyncio.Future[None]


class FairPlaces:
    """So many at once; a place that is free goes to whose turn it is."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: FairQueue[_Waiter] = FairQueue(lambda waiter: waiter.turn)

    @property
    def free(self) -> bool:
        """Whether there is a place for which nobody waits."""
        return self._free > 0

    async def take(self, turn: Turn) -> None:
        """Waits for a place. Cancelled while it waits, it takes none."""
        # Whoever waits has been granted nothing yet, so a free place means that nobody waits.
        if self._free:
            self._free -= 1
            return
        waiter = _Waiter(turn, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await waiter.granted
        except asyncio.CancelledError:
            if waiter.granted.done() and not waiter.granted.cancelled():
                self.give()  # granted and given up in one turn of the loop
            raise

    def give(self) -> None:
        """Gives a place back."""
        while len(self._waiting):
            waiter = self._waiting.popleft()
            if not waiter.granted.done():
                waiter.granted.set_result(None)
                return
        self._free += 1
