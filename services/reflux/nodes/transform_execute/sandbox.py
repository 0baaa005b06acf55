"""The outside of the sandbox: a pool of warm child processes, and the wall clock over them.

A child serves one script at a time. What the child's own limits (see `child.py`) do not end, the wall clock
ends: the child is killed and another started, so the next script finds a pool as good as new. A call that is
given up costs its child too, because nobody knows what it is doing. A child also retires after some thousand
scripts, so that nothing a script leaves behind grows old.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import orjson
import quickjs  # type: ignore[import-untyped]

from reflux.runtime import logs

if TYPE_CHECKING:
    from types import TracebackType

    from reflux.core.document import JsonValue

POOL_SIZE: Final = max(2, os.cpu_count() or 2)

_SCRIPTS_PER_CHILD: Final = 2000
_START_SECONDS: Final = 20.0
_GRACE_SECONDS: Final = 0.5
"""What a child may take beyond the script's time to say that it is over."""
_MAX_REPLY_BYTES: Final = 16 << 20
_CHILD: Final = Path(__file__).with_name("child.py")

log = logs.get_logger("sandbox")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a script has no result. `kind`: `failed`, or a limit: `time`, `memory`, `stack`, `output`."""

    kind: str
    message: str
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of a script: its result as JSON text, or a problem; what it wrote, in either case."""

    result: str | None
    problem: Problem | None
    logs: list[str]


class SandboxBroken(Exception):
    """No child can be started: the machine is at its limits."""


class SandboxBusy(Exception):
    """No child became free in time; the script did not run."""


class _Lost(Exception):
    """The child is gone, or speaks nonsense."""


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.scripts = 0

    @classmethod
    async def start(cls) -> _Child:
        site_packages = str(Path(quickjs.__file__).parents[1])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(_CHILD),
            site_packages,
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
        )
        child = cls(process)
        try:
            async with asyncio.timeout(_START_SECONDS):
                await child.receive()
        except BaseException:
            await child.end()
            raise
        return child

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    async def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        data = orjson.dumps(message)
        self._process.stdin.write(struct.pack(">I", len(data)) + data)
        try:
            await self._process.stdin.drain()
        except ConnectionError:
            raise _Lost from None

    async def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            (size,) = struct.unpack(">I", await self._process.stdout.readexactly(4))
            if size > _MAX_REPLY_BYTES:
                raise _Lost
            message = orjson.loads(await self._process.stdout.readexactly(size))
        except (asyncio.IncompleteReadError, orjson.JSONDecodeError, ConnectionError):
            raise _Lost from None
        if not isinstance(message, dict):
            raise _Lost
        return message

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


class Sandbox:
    """Runs scripts, `size` at a time; further ones wait for their turn.

    >>> async with Sandbox() as sandbox:
    ...     reply = await sandbox.run("return input.x * 2", {"x": 21}, seconds=1.0)
    >>> reply.result
    '42'
    """

    def __init__(self, size: int = POOL_SIZE) -> None:
        self._size = size
        # None stands for a child that could not be started in advance: whoever takes it starts it.
        self._idle: asyncio.LifoQueue[_Child | None] = asyncio.LifoQueue()
        self._children: set[_Child] = set()
        self._chores: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.TaskGroup() as group:
                started = [group.create_task(self._start()) for _ in range(self._size)]
        except BaseException:
            await self._end_all()
            raise
        for task in started:
            self._idle.put_nowait(task.result())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        await self._end_all()

    async def run(self, code: str, given: JsonValue, *, seconds: float, budget: float = 30.0) -> Reply:
        """Run the function body `code` with `input` set to `given`.

        Args:
            code: JavaScript; `return` gives the result, `await` works.
            given: any JSON value.
            seconds: processor time of the script, and with half a second more the wall clock's.
            budget: seconds for all of it. A turn is waited for as long as the script keeps its time, or half
                of the budget; after that it gets what is left.

        Raises:
            SandboxBroken, SandboxBusy: see there; the script did not run.
        """
        patience = max(budget - seconds, budget / 2)
        given_up = asyncio.get_running_loop().time() + budget
        try:
            async with asyncio.timeout(patience):
                child = await self._idle.get()
        except TimeoutError:
            raise SandboxBusy(f"all {self._size} sandboxes were busy for {patience:.1f} s") from None
        seconds = min(seconds, given_up - asyncio.get_running_loop().time())
        request = {"code": code, "input": orjson.dumps(given).decode(), "seconds": seconds}
        keep = False
        try:
            if child is None or not child.alive:
                child = await self._start_anew(child)
            child.scripts += 1
            async with asyncio.timeout(seconds + _GRACE_SECONDS):
                await child.send(request)
                answer = await child.receive()
            keep = child.scripts < _SCRIPTS_PER_CHILD
            return _reply(answer)
        except TimeoutError:
            return _limit("time", "the script did not end in time and was stopped")
        except _Lost:
            return _limit("memory", "the script ended its process, most likely for lack of memory")
        finally:
            if keep:
                self._idle.put_nowait(child)
            else:
                self._replace(child)

    def _replace(self, child: _Child | None) -> None:
        chore = asyncio.create_task(self._end_and_start(child))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def _end_and_start(self, child: _Child | None) -> None:
        fresh: _Child | None = None
        try:
            if child is not None:
                await child.end()
            fresh = await self._start_anew(child)
        except SandboxBroken as error:
            log.warning("sandbox_child_not_started", error=str(error))
        finally:
            self._idle.put_nowait(fresh)

    async def _start_anew(self, gone: _Child | None) -> _Child:
        if gone is not None:
            self._children.discard(gone)
        try:
            return await self._start()
        except (OSError, TimeoutError, _Lost) as error:
            raise SandboxBroken(f"no sandbox process can be started: {error!r}") from error

    async def _start(self) -> _Child:
        child = await _Child.start()
        self._children.add(child)
        return child

    async def _end_all(self) -> None:
        await asyncio.gather(*(child.end() for child in self._children))
        self._children.clear()


def _limit(kind: str, message: str) -> Reply:
    return Reply(None, Problem(kind, message), [])


def _reply(answer: dict[str, Any]) -> Reply:
    error = answer.get("error")
    problem = Problem(**error) if error else None
    return Reply(answer.get("result"), problem, answer.get("logs", []))
