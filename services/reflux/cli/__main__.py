"""The `reflux` command: run the embedded stack, look at it, stop it, run one service, or be its client.

Exit status: 0 done; 1 it failed, the message says why; 2 a wrong option or setting; the client commands say
more (`reflux.cli.exits`).

A command imports what it needs when it runs: `reflux --help`, and a shell that completes, do not wait for
gRPC, PostgreSQL's driver and the settings.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reflux.cli import bootstrap
from reflux.cli import serve as services
from reflux.cli.commands.register import register
from reflux.cli.exits import EPILOG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from reflux.cli.stack.folder import DataFolder

_TAIL = 15
_FOLLOW_SECONDS = 0.2

app = typer.Typer(
    help="Durable flows whose steps are gRPC services behind Envoy.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
register(app)


def _port(default: int, text: str) -> Any:
    return typer.Option(min=0, max=65535, metavar="PORT", show_default=str(default), help=text)


DataDir = Annotated[
    Path | None, typer.Option(show_default=".reflux", help="Folder of everything the stack keeps.")
]


@app.command()
def up(
    *,
    data_dir: DataDir = None,
    port: Annotated[int | None, _port(4000, "REST, gRPC and gRPC-Web.")] = None,
    mesh_port: Annotated[int | None, _port(4001, "Envoy's mesh listener, on loopback.")] = None,
    admin_port: Annotated[int | None, _port(9901, "Envoy's admin interface, on loopback.")] = None,
    listen: Annotated[
        str | None, typer.Option(show_default="127.0.0.1", help="IP address of the edge listener.")
    ] = None,
    insecure_listen: Annotated[
        bool, typer.Option("--insecure-listen", help="Allow more than loopback, without any authentication.")
    ] = False,
    postgres_dsn: Annotated[
        str | None,
        typer.Option(
            help="Your PostgreSQL, 15 or newer, instead of the embedded one. If it needs a password, rather "
            "set REFLUX_POSTGRES_DSN: everybody can read arguments."
        ),
    ] = None,
    redis_url: Annotated[
        str | None,
        typer.Option(help="Your Redis or Valkey instead of the embedded one. Likewise REFLUX_REDIS_URL."),
    ] = None,
    processes: Annotated[
        bool, typer.Option("--processes", help="Give every node version a process of its own.")
    ] = False,
) -> None:
    """Run the whole stack until Ctrl-C. A port of 0 means a free one."""
    from reflux.cli.progress import Progress
    from reflux.cli.stack.errors import StartError
    from reflux.cli.stack.folder import DataFolder
    from reflux.cli.stack.plan import make_plan
    from reflux.cli.stack.run import run_until_signal
    from reflux.runtime import logs as event_logs
    from reflux.runtime.settings import Address, Settings

    with _explained():
        settings = Settings.load(
            data_dir=data_dir,
            edge_port=port,
            admin_port=admin_port,
            mesh_address=None if mesh_port is None else Address("127.0.0.1", mesh_port),
            listen=listen,
            postgres_dsn=postgres_dsn,
            redis_url=redis_url,
        )
        folder = DataFolder(settings.data_dir.absolute())
        versions = services.node_versions() if processes else ()
        with folder.held(), folder.logs.path("supervisor").open("a", buffering=1, encoding="utf-8") as stream:
            event_logs.configure(
                service="supervisor", level=settings.log_level, log_format=settings.log_format, stream=stream
            )
            plan = make_plan(settings, folder, node_versions=versions, insecure_listen=insecure_listen)
            try:
                run_until_signal(plan, folder, Progress(_console(), plan))
            except StartError as error:
                errors = _console(stderr=True)
                for line in folder.logs.tail(error.part, _TAIL):
                    errors.print(f"  {error.part} | {line}", markup=False, highlight=False, soft_wrap=True)
                raise


@app.command()
def down(data_dir: DataDir = None) -> None:
    """Drain and stop the running stack."""
    from reflux.cli.stack.run import stop_stack

    with _explained():
        folder = _folder(data_dir)
        pid = stop_stack(folder)
        _console().print(f"stopped: process {pid} on {folder.root}", markup=False, highlight=False)


@app.command()
def logs(
    part: Annotated[str | None, typer.Argument(help="One part; all of them if not given.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")
    ] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines of each part.")] = 200,
    data_dir: DataDir = None,
) -> None:
    """Show what the parts of the stack have written."""
    from reflux.cli.stack.errors import StackNotRunningError

    with _explained():
        folder = _folder(data_dir)
        files = folder.logs
        if part is not None:
            files.check(part)
        parts = [part] if part else files.parts()
        if not parts and not follow:
            raise StackNotRunningError(f"no stack has run on {folder.root}: there are no logs")
        width = max(map(len, parts), default=0)

        def show(name: str, line: str) -> None:
            typer.echo(line if part else f"{name:<{width}} | {line}")

        if not follow:
            for name in parts:
                for line in files.tail(name, lines):
                    show(name, line)
            return
        follower = files.follow([part] if part else None)
        recent: dict[str, deque[str]] = {name: deque(maxlen=lines) for name in parts}
        for name, line in follower.read():
            recent.setdefault(name, deque(maxlen=lines)).append(line)
        for name, last in recent.items():
            for line in last:
                show(name, line)
        while True:
            time.sleep(_FOLLOW_SECONDS)
            for name, line in follower.read():
                show(name, line)


@app.command()
def migrate() -> None:
    """Bring the database of REFLUX_POSTGRES_DSN to this release."""
    from reflux.runtime import logs as event_logs
    from reflux.runtime.migrate import migrate as run_migrations
    from reflux.runtime.settings import Settings

    with _explained():
        settings = Settings.load()
        event_logs.configure(service="migrate", level=settings.log_level, log_format=settings.log_format)
        applied = asyncio.run(run_migrations(settings.postgres_dsn))
        _console().print(f"{len(applied)} migration(s) applied", highlight=False)


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join(services.NAMES)}.")],
    argument: Annotated[str | None, typer.Argument(help="For `node`: NAME@VERSION.")] = None,
) -> None:
    """Run one service until SIGTERM; everything else it needs to know is in REFLUX_* variables."""
    from reflux.runtime import process
    from reflux.runtime.settings import Settings

    with _explained():
        settings = Settings.load()
        entry = services.find(name, argument)
        ready = asyncio.Event()
        process.run(entry(settings, ready=ready), name=argument or name, settings=settings, ready=ready)


app.command("envoy-bootstrap")(bootstrap.write)


def main() -> None:
    """The entry point of the `reflux` script."""
    app(prog_name="reflux")


def _folder(data_dir: Path | None) -> DataFolder:
    from reflux.cli.stack.folder import DataFolder
    from reflux.runtime.settings import Settings

    return DataFolder(Settings.load(data_dir=data_dir).data_dir.absolute())


@contextmanager
def _explained() -> Iterator[None]:
    """Errors the operator can act on end the command with their message, not with a traceback."""
    import psycopg

    from reflux.cli.stack.errors import ListenError, StackError
    from reflux.runtime.migrate import MigrationError
    from reflux.runtime.settings import SettingsError

    try:
        yield
    except (SettingsError, ListenError, services.UnknownServiceError) as error:
        _fail(error, 2)
    except BrokenPipeError:
        raise  # the reader has seen enough, as in `reflux logs | head`: click ends quietly
    except (StackError, MigrationError, psycopg.Error, OSError) as error:
        _fail(error, 1)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _fail(error: Exception, status: int) -> None:
    from rich.markup import escape

    from reflux.runtime import logs as event_logs

    _console(stderr=True).print(
        f"[bold red]reflux:[/] {escape(event_logs.redact(str(error)))}", highlight=False, soft_wrap=True
    )
    raise typer.Exit(status) from error


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr)


if __name__ == "__main__":
    main()
