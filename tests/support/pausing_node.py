"""Shipped node versions in processes of their own, which stop themselves after a claim, right before they
send.

It is SIGSTOP, so nothing of the process goes on: deadlines pass, its lease runs out. It stops at the last
moment, after every check of deadlines and right before the request is written to the connection, so what it
had claimed is sent when SIGCONT comes, after whatever happened meanwhile.

with pausing_node(stack, "payment.charge@stripe", environment, stops=1) as node:
    …
    node.wait_until_stopped()
    …
    node.go_on()
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.support.stack import Stack  # noqa: TC001 - a field's type

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 60.0
LEAVE_SECONDS: Final = 20.0
_LOOK_SECONDS: Final = 0.05


@dataclass(slots=True)
class PausingNode:
    """One process of a node version.

    Args:
        version: `name@version`.
        chance: with which it stops after a claim.
        stops: how often at most.
        seed: of that.
    """

    stack: Stack
    version: str
    environment: Mapping[str, str]
    chance: float = 1.0
    stops: int = 1_000_000
    seed: int = 1
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self.process is not None, "it has not been started"
        return self.process.pid

    def start(self) -> None:
        """Starts it; it may be unknown to the mesh yet."""
        registry = f"127.0.0.1:{self.stack.state['ports']['registry']}"
        environment = {**os.environ, **self.environment, "REFLUX_REGISTRY_ADDRESS": registry}
        given = [self.version, str(self.chance), str(self.stops), str(self.seed)]
        command = [sys.executable, "-m", "tests.support.pausing_node", *given]
        self.process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def stopped(self) -> bool:
        """Whether it stands still; told once for each time."""
        try:
            told = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return False
        return told is not None

    def wait_until_stopped(self, seconds: float = STOP_SECONDS) -> None:
        """Until it has claimed something and stands still."""
        deadline = time.monotonic() + seconds
        while not self.stopped():
            assert time.monotonic() < deadline, f"{self.version} has claimed nothing"
            time.sleep(_LOOK_SECONDS)

    def go_on(self) -> None:
        """Wakes it up."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Ends it with SIGKILL, whether it stands or runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def addresses(self) -> set[str]:
        """Where the registry knows the version to be served."""
        node, _, version = self.version.partition("@")
        known = self.stack.rest.get(f"/api/nodes/{node}/versions")["versions"]
        return {end["address"] for each in known if each["version"] == version for end in each["endpoints"]}

    def wait_until_known(self, before: set[str]) -> None:
        """Until it is served at an address where it was not `before`."""
        deadline = time.monotonic() + START_SECONDS
        while self.addresses() <= before:
            assert time.monotonic() < deadline, f"{self.version} did not register"
            assert self.process is not None
            assert self.process.poll() is None, f"{self.version} has ended"
            time.sleep(0.1)

    def leave(self) -> None:
        """Drains it, so that the mesh sends nothing there any more."""
        if self.process is not None:
            self.go_on()
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LEAVE_SECONDS)
            self.kill()


@contextmanager
def pausing_node(
    stack: Stack, version: str, environment: Mapping[str, str], **options: Any
) -> Iterator[PausingNode]:
    """One more process of a version that the stack serves too, in the mesh within the body."""
    node = PausingNode(stack, version, environment, **options)
    before = node.addresses()
    node.start()
    try:
        node.wait_until_known(before)
        yield node
    finally:
        node.leave()


def _main(version: str, chance: float, stops: int, seed: int) -> None:
    from aiohttp.http_writer import StreamWriter

    from reflux import sdk
    from reflux.nodes import load
    from reflux.runtime import process
    from reflux.runtime.settings import Settings
    from reflux.sdk import Context

    drawn, left = random.Random(seed), [stops]
    armed = ContextVar("armed", default=False)
    granted, write, writelines = Context.claim, StreamWriter._write, StreamWriter._writelines

    async def claim(self: Context[Any], *args: Any, **keys: Any) -> None:
        await granted(self, *args, **keys)
        armed.set(drawn.random() < chance)

    def stop() -> None:
        if armed.get() and left[0]:
            left[0] -= 1
            armed.set(False)
            os.kill(os.getpid(), signal.SIGSTOP)

    def stop_then_write(self: StreamWriter, *args: Any) -> None:
        stop()
        write(self, *args)

    def stop_then_write_lines(self: StreamWriter, *args: Any) -> None:
        stop()
        writelines(self, *args)

    Context.claim = claim  # type: ignore[method-assign]
    StreamWriter._write = stop_then_write  # type: ignore[method-assign]
    StreamWriter._writelines = stop_then_write_lines  # type: ignore[method-assign]
    settings, ready = Settings.load(), asyncio.Event()
    served = sdk.serve([load(version)], settings, ready=ready)
    process.run(served, name=version, settings=settings, ready=ready)


if __name__ == "__main__":
    _main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
