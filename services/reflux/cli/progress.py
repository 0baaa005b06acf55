"""What a person sees while the stack comes up and runs: one line per part, then where to go.

On a terminal the line of the part being waited for is overwritten by its result; elsewhere only results are
printed. Nothing runs in the background: children are started from a process without further threads.

A stack does not depend on being watched: when the terminal or the reader of the pipe is gone, it goes on and
drains unseen.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from rich.markup import escape

from reflux.cli.stack.part import PartState, PartStatus

if TYPE_CHECKING:
    from rich.console import Console

    from reflux.cli.stack.plan import Plan

_WIDTH = 26


class Progress:
    """Prints what the supervisor reports."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self._console = console
        self._plan = plan
        self._up = False

    def part_changed(self, status: PartStatus) -> None:
        """A line for each state that matters to a person."""
        name = escape(status.name)
        match status.state:
            case PartState.STARTING:
                if self._console.is_terminal and not self._up:
                    self._print(f"  [dim]…[/] {name:<{_WIDTH}}", end="\r")
            case PartState.READY:
                again = " again" if self._up else ""
                self._line(
                    "[green]✓[/]", name, f"ready{again} in {status.seconds or 0:.1f} s, pid {status.pid}"
                )
            case PartState.RESTARTING:
                self._line("[yellow]![/]", name, f"ended unexpectedly, start {status.restarts + 1} follows")
            case PartState.STOPPING:
                self._up = True  # a part being waited for does not matter any more
            case PartState.STOPPED:
                self._line("[dim]■[/]", name, "stopped")
            case PartState.GONE:
                pass  # said already

    def step_done(self, name: str, seconds: float) -> None:
        """A line for what was done once."""
        self._line("[green]✓[/]", escape(name), f"done in {seconds:.1f} s")

    def stack_up(self) -> None:
        """Where to go from here."""
        self._up = True
        plan = self._plan
        self._print(
            f"\n[bold green]REFLUX is up[/] at [bold]{plan.urls['edge']}[/]\n"
            f"  Envoy admin  {plan.urls['admin']}\n"
            f"  data         {escape(str(plan.settings.data_dir))}\n"
            "  Ctrl-C drains and stops; a second one stops at once.\n"
        )

    def _line(self, mark: str, name: str, text: str) -> None:
        self._print(f"  {mark} {name:<{_WIDTH}} {text}")

    def _print(self, text: str, end: str = "\n") -> None:
        try:
            self._console.print(text, end=end, highlight=False, soft_wrap=True)
        except SystemExit:
            pass  # rich's answer to a closed pipe; it has turned itself silent
        except OSError:  # a terminal that is gone: the same answer
            with suppress(SystemExit):
                self._console.on_broken_pipe()
