"""Who should look now: notices through Redis or Valkey, so that nobody has to wait for the poll.

Never truth: a notice may be lost, doubled or late, and everything it speaks of stands in the tables. So
telling never waits and never fails, a full queue forgets its oldest notice, and without Redis everything goes
on at the speed of the poll floor (`wakeups`).

Two channels, one message per batch, JSON:
- `reflux:inbox`: `["<run id>", …]`: a word was left for these runs; their owner polls at once;
- `reflux:runs`: `{"<run id>": <last seq>, …}`: these journals grew; who watches such a run reads on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reflux.core.names import RunId
from reflux.runtime.logs import get_logger
from reflux.runtime.tasks import forever, heed_cancel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

NoticeT = TypeVar("NoticeT")

QUEUE: Final = 1_000
"""Batches held for one listener."""
HELD: Final = 10_000
"""Runs held for Redis, of each channel."""
BATCH: Final = 500
"""Runs of one message."""
_GATHER_SECONDS: Final = 0.01
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0
_SECONDS: Final = 5.0

log = get_logger("wake")


class Channel(StrEnum):
    """What a notice is about."""

    INBOX = "reflux:inbox"
    RUNS = "reflux:runs"


class Notices(Generic[NoticeT]):
    """An endless iterator over what is heard; the oldest is forgotten when nobody takes it."""

    def __init__(self) -> None:
        self._queue: deque[NoticeT] = deque(maxlen=QUEUE)
        self._work = asyncio.Event()

    def put(self, notice: NoticeT) -> None:
        """Hear `notice`."""
        self._queue.append(notice)
        self._work.set()

    def __aiter__(self) -> Notices[NoticeT]:
        return self

    async def __anext__(self) -> NoticeT:
        while not self._queue:
            self._work.clear()
            await self._work.wait()
        return self._queue.popleft()


class Wake:
    """Tells and hears. Somebody must `run` it.

    >>> wake = Wake(settings.redis_url)
    >>> tasks.create_task(wake.run())
    >>> wake.tell_inbox([run_id])
    >>> with wake.listen_inbox() as notices:
    ...     async for run_ids in notices: ...
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._words: dict[RunId, None] = {}
        self._marks: dict[RunId, int] = {}
        self._work = asyncio.Event()
        self._inbox: set[Notices[list[RunId]]] = set()
        self._runs: set[Notices[dict[RunId, int]]] = set()

    def tell_inbox(self, run_ids: Iterable[RunId]) -> None:
        """A word was left for each of these runs."""
        self._words.update(dict.fromkeys(run_ids))
        _forget_oldest(self._words)
        self._work.set()

    def tell_runs(self, last_seqs: Mapping[RunId, int]) -> None:
        """These journals have grown to these events."""
        self._marks.update(last_seqs)
        _forget_oldest(self._marks)
        self._work.set()

    @contextmanager
    def listen_inbox(self) -> Iterator[Notices[list[RunId]]]:
        """Notices of words left, by anybody, ourselves included, as long as the block lasts."""
        with _listening(self._inbox) as notices:
            yield notices

    @contextmanager
    def listen_runs(self) -> Iterator[Notices[dict[RunId, int]]]:
        """Notices of journals that grew, by anybody, ourselves included, as long as the block lasts."""
        with _listening(self._runs) as notices:
            yield notices

    async def run(self) -> None:
        """Tell and hear until cancelled, over any number of connections."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._forever(self._tell))
            tasks.create_task(self._forever(self._hear))

    async def _forever(self, work: Callable[[Redis], Awaitable[None]]) -> None:
        pause = _FIRST_PAUSE
        for _ in forever():
            client = Redis.from_url(
                self._url,
                socket_timeout=_SECONDS,
                socket_connect_timeout=_SECONDS,
                health_check_interval=_SECONDS,
                retry=Retry(NoBackoff(), 0),
            )
            try:
                async with client:
                    await client.ping()
                    pause = _FIRST_PAUSE
                    await work(client)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("wake_connection_lost", error=str(error) or type(error).__name__)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _tell(self, client: Redis) -> None:
        for _ in forever():
            if self._words:
                await client.publish(Channel.INBOX, orjson.dumps(list(_pop(self._words))))
            if self._marks:
                await client.publish(Channel.RUNS, orjson.dumps(_pop(self._marks)))
            # Under load a message is sent for what gathered, not for each commit: nobody sees 10 ms.
            await asyncio.sleep(_GATHER_SECONDS)
            if not self._words and not self._marks:
                heed_cancel()  # swallowed while publishing, it would be waited for here for ever
                self._work.clear()
                await self._work.wait()

    async def _hear(self, client: Redis) -> None:
        async with client.pubsub(ignore_subscribe_messages=True) as subscription:
            await subscription.subscribe(*Channel)
            for _ in forever():
                message = await subscription.get_message(timeout=_SECONDS)
                if message is not None and message["type"] == "message":
                    self._spread(message["channel"].decode(), message["data"])

    def _spread(self, channel: str, data: bytes) -> None:
        """Hand a message to the listeners; what is not ours is ignored, because anybody can publish."""
        try:
            notice = orjson.loads(data)
        except orjson.JSONDecodeError:
            notice = None
        if channel == Channel.INBOX and isinstance(notice, list):
            words = [RunId(item) for item in notice if isinstance(item, str)]
            for inbox in self._inbox:
                inbox.put(words)
        elif channel == Channel.RUNS and isinstance(notice, dict):
            marks = {RunId(run_id): seq for run_id, seq in notice.items() if isinstance(seq, int)}
            for runs in self._runs:
                runs.put(marks)
        else:
            log.warning("wake_message_ignored", channel=channel, size=len(data))


@contextmanager
def _listening(listeners: set[Notices[NoticeT]]) -> Iterator[Notices[NoticeT]]:
    notices: Notices[NoticeT] = Notices()
    listeners.add(notices)
    try:
        yield notices
    finally:
        listeners.discard(notices)


ValueT = TypeVar("ValueT")


def _pop(held: dict[RunId, ValueT]) -> dict[RunId, ValueT]:
    """The oldest runs, at most a batch, taken out."""
    taken: dict[RunId, ValueT] = {}
    while held and len(taken) < BATCH:
        run_id = next(iter(held))
        taken[run_id] = held.pop(run_id)
    return taken


def _forget_oldest(held: dict[RunId, ValueT]) -> None:
    while len(held) > HELD:
        del held[next(iter(held))]
