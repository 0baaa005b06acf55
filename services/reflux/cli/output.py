"""What client commands show: tables and lines for people, one JSON document for programs.

Rules:
- With `--json` nothing but JSON goes to stdout; a failure is a google.rpc.Status on stderr.
- On a terminal tables have colours (NO_COLOR takes them away) and long texts wrap; ids, names and versions
  never do, they are copied. Elsewhere a table is plain text, a line per row, as wide as it has to be, and
  rich is not even loaded.
- What came from outside is text, never markup and never an escape sequence of the terminal.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from reflux.cli.failures import Failure

_GAP: Final = 2
_TEXT_WIDTH: Final = 24
"""Columns of a terminal below which a text that may wrap does not get."""

STYLES: Final = {
    **dict.fromkeys(("SUCCEEDED", "DONE", "LIVE", "APPLIED", "ready", "created", "changed"), "green"),
    **dict.fromkeys(("FAILED", "REJECTED", "AMBIGUOUS", "restarting"), "bold red"),
    **dict.fromkeys(
        ("PARKED", "PAUSED", "RETRYING", "CANCELING", "APPLYING", "ABSENT", "stopping"), "yellow"
    ),
    **dict.fromkeys(("RUNNING", "starting"), "cyan"),
    **dict.fromkeys(("PENDING", "SKIPPED", "CANCELED", "unchanged", "stopped"), "dim"),
}
"""Colours of states; a cell with one of these words has it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `wraps`: prose, which a narrow terminal may break; `right`: a number."""

    title: str
    wraps: bool = False
    right: bool = False


@dataclass(frozen=True)
class Output:
    """Where a command writes."""

    as_json: bool = False

    @cached_property
    def terminal(self) -> bool:
        """A person looks at stdout."""
        return sys.stdout.isatty()

    def json(self, document: Any) -> None:
        """The one document of `--json`."""
        _write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")

    def json_line(self, document: Any) -> None:
        """One of many documents, at once."""
        _write(orjson.dumps(document).decode() + "\n")

    def line(self, text: str = "", style: str = "") -> None:
        """A line of any length."""
        text = clean(text)
        if self.terminal and style:
            from rich.text import Text

            self.console.print(Text(text, style), soft_wrap=True)
        else:
            _write(text + "\n")

    def prose(self, text: str) -> None:
        """A paragraph, indented; a terminal breaks it between words."""
        if self.terminal:
            from rich.padding import Padding
            from rich.text import Text

            self.console.print(Padding(Text(clean(text)), (0, 0, 0, 2)))
        else:
            _write(f"  {clean(text)}\n")

    def raw(self, text: str) -> None:
        """Text as it is, with its own line ends; still no escape sequence."""
        _write("\n".join(map(clean, text.split("\n"))))

    def note(self, text: str) -> None:
        """Something a person wants to know beside the result: on stderr, so that stdout stays the result."""
        sys.stderr.write(clean(text) + "\n")

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
        """Rows under their titles; `empty` is said on stderr when there are none."""
        cells = [[clean("" if cell is None else str(cell)) for cell in row] for row in rows]
        if not cells:
            if empty:
                self.note(empty)
            return
        if self.terminal:
            self._rich_table(columns, cells)
        else:
            _write(plain_table(columns, cells))

    def pairs(self, pairs: Iterable[tuple[str, object]]) -> None:
        """Facts of one thing; those that are empty are left out."""
        shown = [(name, clean(str(value))) for name, value in pairs if value not in (None, "", [], ())]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            if self.terminal:
                from rich.text import Text

                text = Text.assemble((f"{name:<{width}}  ", "dim"), (value, STYLES.get(value, "")))
                self.console.print(text, soft_wrap=True)
            else:
                _write(f"{name:<{width}}  {value}\n")

    def failure(self, failure: Failure) -> None:
        """Why the command did not succeed, on stderr."""
        if self.as_json:
            sys.stderr.write(orjson.dumps(failure.status).decode() + "\n")
            return
        reason = f"{failure.reason}: " if failure.reason else ""
        _complain(f"{reason}{failure.message}")
        for violation in failure.violations:
            place = f"{violation.pointer}: " if violation.pointer else ""
            sys.stderr.write(clean(f"  {place}{violation.message}") + "\n")
        if failure.hint:
            sys.stderr.write(f"  {failure.hint}\n")

    @cached_property
    def console(self) -> Console:
        """A rich console on stdout."""
        from rich.console import Console

        return Console(highlight=False, markup=False, emoji=False)

    def _rich_table(self, columns: Sequence[Column], cells: list[list[str]]) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        least = _GAP * (len(columns) - 1)
        for index, column in enumerate(columns):
            longest = max(len(column.title), *(len(row[index]) for row in cells))
            width = min(longest, _TEXT_WIDTH) if column.wraps else longest
            least += width
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                no_wrap=not column.wraps,
                min_width=width,
                overflow="fold",
            )
        for row in cells:
            table.add_row(*(Text(cell, STYLES.get(cell, "")) for cell in row))
        # A terminal that is too narrow breaks the line itself: nothing is cut, nothing is folded.
        width, self.console.width = self.console.width, max(self.console.width, least)
        self.console.print(table)
        self.console.width = width


def plain_table(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """Aligned text, a line per row, no blanks at the ends."""
    titles = [column.title for column in columns]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    lines = []
    for row in (titles, *cells):
        aligned = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        lines.append((" " * _GAP).join(aligned).rstrip() + "\n")
    return "".join(lines)


def clean(text: str) -> str:
    """One line that no terminal takes for a command: control characters become blanks."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else " " for char in text)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(text: str) -> None:
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.text import Text

        message = Text.assemble(("reflux: ", "bold red"), clean(text))
        Console(stderr=True, highlight=False).print(message, soft_wrap=True)
    else:
        sys.stderr.write(clean(f"reflux: {text}") + "\n")
