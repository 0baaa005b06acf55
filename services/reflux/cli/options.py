"""Options that every client command takes. Modules of commands do not postpone their annotations: typer reads
them when the command is registered.
"""

from pathlib import Path
from typing import Annotated

import typer

Server = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        show_default="REFLUX_SERVER, else the running stack's, else 127.0.0.1:4000",
        help="The server to talk to: its one port for everything.",
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(show_default=".reflux", help="Folder of the stack to talk to, if it runs here.")
]
AsJson = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, an error as google.rpc.Status on stderr.")
]

IgnoreContracts = Annotated[
    bool, typer.Option("--ignore-contracts", help="Also to versions that flows in use do not fit.")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="DURATION|TIME", help="Only those created since, such as 15m, 2d or 2026-01-31T12:00:00Z."
    ),
]
Until = Annotated[
    str | None,
    typer.Option(metavar="DURATION|TIME", help="Only those created before; 2d is two days ago."),
]
Tests = Annotated[
    bool | None,
    typer.Option("--test/--no-test", help="Only tests and what comes of them; or only what is none."),
]
