"""The life of one process: event loop, logs, signals, readiness. The only place that handles signals.

A service is `async def serve(settings, *, ready=None)`: it sets `ready` when it can be used, runs until its
task is cancelled, then drains within its own bound and returns. `run` gives it that life:

- the first SIGTERM, SIGINT or SIGHUP cancels the task; what follows is the service's own drain. SIGHUP, the
  end of a terminal, is left alone where it is ignored: nohup(1) means it;
- a second one ends the process at once, with the status a shell expects (128 + signal);
- threads that still run after the drain are not waited for: nobody can stop a function that blocks;
- an error ends the process with status 1 and one `process_failed` event; the supervisor starts it again;
- beside it, from beginning to end, `GET /metrics` is served where the settings ask for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import uvloop

from reflux.runtime import logs
from reflux.runtime.metrics_server import serve_metrics

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from reflux.runtime.settings import Settings

COLLECT_AFTER: Final = (20_000, 20, 20)
"""New objects, and younger collections, before one of each generation. Messages and events have no cycles,
and with Python's own 700 an orchestrator at work spent a tenth of its time looking for some."""

log = logs.get_logger("process")


def run(
    main: Coroutine[Any, Any, None], *, name: str, settings: Settings, ready: asyncio.Event | None = None
) -> None:
    """Run `main` until it returns or a signal ends it.

    >>> ready = asyncio.Event()
    >>> run(serve(settings, ready=ready), name="registry", settings=settings, ready=ready)

    When `ready` is set, a newline goes to `settings.ready_fd` and the descriptor is closed (s6's protocol).

    Args:
        main: the process, not started yet.
        name: of the process, in its logs.
        settings: `log_level`, `log_format`, `ready_fd` and `metrics_address` are used.
        ready: the event that `main` sets when it is ready.

    Raises:
        SystemExit: status 1 when `main` failed; the error is logged, not shown again.
    """
    logs.configure(service=name, level=settings.log_level, log_format=settings.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_life(main, ready or asyncio.Event(), settings, name))
        except Exception:
            log.exception("process_failed", name=name)
            _end(1)
    log.info("process_ended", name=name)
    _end(0)


def _end(status: int) -> None:
    """End the process: at once if threads would hold it up, which Python joins at exit."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    if status:
        sys.exit(status)


async def _life(main: Coroutine[Any, Any, None], ready: asyncio.Event, settings: Settings, name: str) -> None:
    task = asyncio.ensure_future(main)
    beside = [asyncio.ensure_future(_announce(ready, settings.ready_fd))]
    if settings.metrics_address is not None:
        beside.append(asyncio.ensure_future(serve_metrics(settings.metrics_address, service=name)))
    with cancel_on_signal(task):
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise
        finally:
            for other in beside:
                other.cancel()


async def _announce(ready: asyncio.Event, ready_fd: int | None) -> None:
    await ready.wait()
    _spare_the_collector()
    log.info("process_ready")
    if ready_fd is not None:
        with suppress(BrokenPipeError):
            os.write(ready_fd, b"\n")
        os.close(ready_fd)


def _spare_the_collector() -> None:
    """What has been loaded stays for good and need not be looked through again and again for cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


@contextmanager
def cancel_on_signal(task: asyncio.Future[Any]) -> Iterator[None]:
    """Inside the block SIGTERM, SIGINT and SIGHUP cancel `task`; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    seen: list[int] = []

    def on_signal(number: signal.Signals) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        log.info("stop_requested", signal=number.name)
        task.cancel()

    handled = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    for number in handled:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
