"""Adds the client commands to the `reflux` command."""

import typer

from reflux.cli.commands import certs, flow, node, route, run, scale, status, trigger

PANEL = "Clients of a running server"


def register(app: typer.Typer) -> None:
    """Each group under its name."""
    app.command("status", rich_help_panel=PANEL)(status.status)
    app.command("scale")(scale.scale)
    app.add_typer(certs.app, name="certs")
    for name, module in (
        ("flow", flow),
        ("run", run),
        ("node", node),
        ("route", route),
        ("trigger", trigger),
    ):
        app.add_typer(module.app, name=name, rich_help_panel=PANEL)
