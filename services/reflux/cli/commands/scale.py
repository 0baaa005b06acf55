"""`reflux scale`: how many processes serve a node version of the stack on this machine.

What is asked for is written down beside the stack's data (`reflux.cli.stack.scale`) and stays; the supervisor
does it. The command waits until it is done: new processes are registered and get calls, those too many have
finished theirs and are gone.
"""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from reflux.cli.failures import CommandError, not_found, of_error, wrong
from reflux.cli.options import AsJson
from reflux.cli.output import Output
from reflux.cli.session import explained

_WAIT_SECONDS = 120.0
_LOOK_SECONDS = 0.1

DataDir = Annotated[Path | None, typer.Option(show_default=".reflux", help="Folder of the stack.")]


def scale(
    version: Annotated[str, typer.Argument(metavar="NODE@VERSION", help="Such as http.request@1.0.0.")],
    count: Annotated[int, typer.Argument(metavar="PROCESSES", help="How many shall serve it.")],
    wait: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long to wait until it is so.")
    ] = _WAIT_SECONDS,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Run so many processes of a node version, in a stack started with `--processes`.

    Exit status: 0 they run; 7 they will, but not all are ready when the wait is over.
    """
    from reflux.cli.exits import Exit
    from reflux.cli.stack.folder import DataFolder
    from reflux.cli.stack.scale import Wanted
    from reflux.runtime.settings import Settings

    out = Output(as_json)
    with explained(out):
        folder = DataFolder(Settings.load(data_dir=data_dir).data_dir.absolute())
        _check(folder, version, count)
        Wanted.of(folder.root, version).write(count)
        deadline = time.monotonic() + wait
        while not (done := _is_so(parts := _processes(folder, version), count)):
            if time.monotonic() >= deadline:
                break
            time.sleep(_LOOK_SECONDS)
        ready = sum(each["state"] == "ready" for each in parts)
        if as_json:
            out.json({"version": version, "wanted": count, "ready": ready, "processes": parts})
        else:
            out.line(
                f"{version}: {ready} of {count} processes ready" + ("" if done else "; the rest follows")
            )
        if not done:
            raise typer.Exit(Exit.NOT_YET)


def _check(folder: Any, version: str, count: int) -> None:
    """Refuse what the supervisor could not do, before anything is written.

    Raises:
        CommandError: no stack runs, it has no such version, or it cannot run so many.
    """
    from reflux.cli.stack import scale as wanted
    from reflux.core.errors import Unavailable
    from reflux.core.reasons import Reason

    try:
        wanted.check(count)
    except ValueError as error:
        hint = "to take a version out of traffic, change its route: `reflux route set`"
        raise wrong(str(error), hint=hint) from None
    if folder.holder() is None:
        message = f"no stack runs on {folder.root}"
        hint = "start one with `reflux up --processes`"
        raise CommandError(of_error(Unavailable(Reason.SERVICE_UNREACHABLE, message), hint))
    parts = _parts(folder)
    if "nodes" in parts:
        raise wrong(
            f"the stack on {folder.root} serves all versions in one process",
            hint="start it with `reflux up --processes` to scale them one by one",
        )
    known = sorted({name for part in parts if (name := wanted.version_of(part)) is not None})
    if version not in known:
        raise not_found(f"the stack serves no {version!r}; there are: {', '.join(known) or 'none yet'}")


def _is_so(parts: list[dict[str, Any]], count: int) -> bool:
    return len(parts) == count and all(each["state"] == "ready" for each in parts)


def _processes(folder: Any, version: str) -> list[dict[str, Any]]:
    from reflux.cli.stack.scale import version_of

    shown = ("name", "state", "pid", "restarts")
    return [
        {key: status[key] for key in shown}
        for name, status in _parts(folder).items()
        if version_of(name) == version
    ]


def _parts(folder: Any) -> dict[str, dict[str, Any]]:
    state = folder.read_state() or {}
    parts: dict[str, dict[str, Any]] = dict(state.get("parts") or {})
    return parts
