"""`reflux certs`: the local authority and the identities of the services, for mutual TLS between them."""

from pathlib import Path
from typing import Annotated

import typer

from reflux.cli.failures import wrong
from reflux.cli.options import AsJson
from reflux.cli.output import Column, Output
from reflux.cli.session import explained

app = typer.Typer(
    no_args_is_help=True, help="Certificates of the services, for mutual TLS between them (REFLUX_TLS_DIR)."
)

Folder = Annotated[Path, typer.Argument(help="Of the authority, with a folder for each service in it.")]


@app.command("make")
def make(
    folder: Folder,
    days: Annotated[int, typer.Option(min=1, max=825, help="How long a certificate lasts.")] = 90,
    renew: Annotated[
        int,
        typer.Option(min=0, max=824, metavar="DAYS", help="Make those anew that last no longer than this."),
    ] = 30,
    every: Annotated[bool, typer.Option("--all", help="Make every one anew, however long it lasts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make what is missing or about to expire. Running services take the new files by themselves."""
    from reflux.cli import authority
    from reflux.runtime.tls import Role

    out = Output(as_json)
    with explained(out):
        try:
            made = authority.make(
                folder.absolute(), Role, days=days, renew_days=renew, now=authority.utc_now(), anew=every
            )
        except (authority.AuthorityError, OSError) as error:
            raise wrong(str(error)) from error
        if as_json:
            out.json({"folder": str(folder.absolute()), "made": made})
        else:
            out.line(f"made: {', '.join(made)}" if made else "nothing to do: every certificate lasts")


@app.command("status")
def status(
    folder: Folder,
    within: Annotated[
        int, typer.Option(min=0, metavar="DAYS", help="Say so of those that expire within so many days.")
    ] = 14,
    as_json: AsJson = False,
) -> None:
    """Show every certificate and how long it lasts.

    Exit status: 0 all last; 1 one has expired, will within `--within` days, or was signed by somebody else.
    """
    from datetime import timedelta

    from reflux.cli import authority
    from reflux.cli.exits import Exit

    out = Output(as_json)
    with explained(out):
        try:
            found = authority.known(folder.absolute())
        except authority.AuthorityError as error:
            raise wrong(str(error)) from error
        now, soon = authority.utc_now(), timedelta(days=within)
        rows = []
        for each in found:
            left = each.left(now)
            state = "ok"
            if not each.signed:
                state = "not signed by this authority"
            elif left <= timedelta():
                state = "EXPIRED"
            elif left <= soon:
                state = "expires soon"
            rows.append(
                {
                    "role": each.role,
                    "names": list(each.names),
                    "expires_at": each.expires_at.isoformat(),
                    "days_left": left.days,
                    "state": state,
                }
            )
        if as_json:
            out.json({"certificates": rows})
        else:
            columns = [Column("ROLE"), Column("EXPIRES"), Column("DAYS LEFT", right=True), Column("STATE")]
            out.table(
                columns,
                [(row["role"], row["expires_at"], row["days_left"], row["state"]) for row in rows],
            )
        if any(row["state"] != "ok" for row in rows):
            raise typer.Exit(Exit.FAILED)
