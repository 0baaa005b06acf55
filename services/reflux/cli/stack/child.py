"""Child processes that never outlive their supervisor.

Rules, each of them learned from a leak:
- A child gets a signal from the kernel when the *thread* that started it ends (`PR_SET_PDEATHSIG`,
  prctl(2)), so children are started from the main thread only.
- The kernel forgets that signal when a process changes its user: first the user, then the signal.
- The parent may be dead before the child asks for the signal: the child looks once more and leaves.
- Every child leads a session of its own. Ctrl-C in the terminal reaches the supervisor only, which decides
  the order; and what a child has started itself is reached as a group, `end_group`.
- Both outputs go to one file opened for appending, so the file can be cut while the child writes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1
_UNPRIVILEGED: Final = "nobody"  # the one user every Linux has
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class User:
    """Whom a child runs as; without supplementary groups."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Launch:
    """Everything needed to start one child.

    Attributes:
        argv: program, by full path, and its arguments. Never a secret: everybody can read them.
        env: the whole environment of the child.
        log: file that gets stdout and stderr, appended.
        user: another user to become; None keeps ours.
        pass_fds: descriptors the child inherits, by the same numbers.
        death_signal: what the kernel sends when the supervisor dies.
    """

    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: User | None = None
    pass_fds: tuple[int, ...] = ()
    death_signal: signal.Signals = signal.SIGKILL


def unprivileged_user(folder: Path | None = None) -> User | None:
    """The user for programs that refuse to run as root; None when we are not root.

    An existing `folder` keeps its owner, unless that is root.
    """
    if os.geteuid() != 0:
        return None
    if folder is not None and folder.exists() and folder.stat().st_uid != 0:
        return User(folder.stat().st_uid, folder.stat().st_gid)
    entry = pwd.getpwnam(_UNPRIVILEGED)
    return User(entry.pw_uid, entry.pw_gid)


def base_environment() -> dict[str, str]:
    """What programs that are not ours need of the environment: nothing of the caller's."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def spawn(launch: Launch) -> subprocess.Popen[bytes]:
    """Start the child; it ends when this process ends, however that happens.

    Raises:
        OSError: the program cannot be executed.
        RuntimeError: not called from the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("children are started from the main thread: their life is tied to it")
    user = launch.user
    with launch.log.open("ab") as log:
        return subprocess.Popen(
            launch.argv,
            cwd="/",
            env=dict(launch.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=launch.pass_fds,
            start_new_session=True,
            # In this order in the child: session, groups, group, user, and only then preexec_fn.
            user=None if user is None else user.uid,
            group=None if user is None else user.gid,
            extra_groups=None if user is None else (),
            preexec_fn=_tie_to_parent(os.getpid(), launch.death_signal),  # noqa: PLW1509 - two system calls, no locks
        )


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a child without polling, end its group too, and return its status.

    The status is negative for a signal, as in `Popen`.
    """
    if process.returncode is None:
        await gone(process.pid)
    return end_group(process)


async def gone(pid: int) -> None:
    """Wait for the end of any process, child or not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(descriptor, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def stop(process: subprocess.Popen[bytes], number: signal.Signals, seconds: float) -> bool:
    """Ask a child to end by a signal; after `seconds` end it and its group. True if it ended by itself."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)
    try:
        async with asyncio.timeout(seconds):
            await exited(process)
    except TimeoutError:
        return False
    else:
        return True
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill whatever is left of a child and of the group it led; return the child's status.

    The group is killed before the child is collected: until then its number belongs to nobody else.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _tie_to_parent(parent: int, number: signal.Signals) -> Callable[[], None]:
    def tie() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
