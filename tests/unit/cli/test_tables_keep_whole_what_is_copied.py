"""Output for people: nothing that is copied is cut, nothing from outside commands the terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from reflux.cli.output import Column, Output, clean

RUN = "0193a1b2-c3d4-7000-8000-000000000001"
COLUMNS = [Column("RUN"), Column("STATE"), Column("COUNT", right=True), Column("WHY", wraps=True)]
ROWS = [
    (RUN, "FAILED", 7, "a long story of what went wrong in this run, word for word"),
    (RUN, "DONE", 12, None),
]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(width: int, **options: object) -> tuple[Output, io.StringIO]:
    """An output as on a terminal of that width."""
    stream, out = io.StringIO(), Output()
    console = Console(file=stream, force_terminal=True, width=width, highlight=False, markup=False, **options)
    vars(out).update(terminal=True, console=console)
    return out, stream


def test_a_pipe_gets_a_line_per_row_without_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """Aligned, as wide as it has to be, whatever COLUMNS says; no blanks at the ends."""
    Output().table(COLUMNS, ROWS)
    assert capsys.readouterr().out.splitlines() == [
        f"{'RUN':<36}  STATE   COUNT  WHY",
        f"{RUN}  FAILED      7  a long story of what went wrong in this run, word for word",
        f"{RUN}  DONE       12",
    ]


@pytest.mark.parametrize("width", [200, 80, 40, 10])
def test_a_terminal_never_breaks_an_id(width: int) -> None:
    """However narrow it is: prose wraps, ids, states and numbers do not."""
    out, stream = on_terminal(width)
    out.table(COLUMNS, ROWS)
    text = ESCAPE.sub("", stream.getvalue())
    title, *lines = text.splitlines()
    assert title.split() == ["RUN", "STATE", "COUNT", "WHY"]
    assert [line.split()[:3] for line in lines if line.startswith(RUN)] == [
        [RUN, "FAILED", "7"],
        [RUN, "DONE", "12"],
    ]
    prose = title.index("WHY")
    assert " ".join(" ".join(line[prose:] for line in lines).split()) == ROWS[0][3]


def test_states_have_colours_unless_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR is respected."""
    out, stream = on_terminal(120, color_system="standard")
    out.table(COLUMNS, ROWS)
    assert "\x1b[1;31mFAILED" in stream.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out, stream = on_terminal(120, color_system="standard")
    out.table(COLUMNS, ROWS)
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", stream.getvalue())
    assert "FAILED" in stream.getvalue()


def test_text_from_outside_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No escape sequence, no markup, no line break of a name reaches the terminal."""
    evil = "a\x1b]0;title\x07b\nc [bold]d[/]"
    Output().table([Column("NAME")], [(evil,)])
    assert capsys.readouterr().out == "NAME\na ]0;title b c [bold]d[/]\n"
    out, stream = on_terminal(80)
    out.table([Column("NAME")], [(evil,)])
    assert "[bold]d[/]" in stream.getvalue()
    assert "\x1b]" not in stream.getvalue()
    assert clean("äöü → 漢") == "äöü → 漢"
