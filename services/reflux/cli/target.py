"""Which server a client command talks to. The CLI is an ordinary client: one port, the edge.

First match wins:

1. `--server HOST:PORT`,
2. `REFLUX_SERVER`, or `server` in `reflux.toml`,
3. the stack that runs on the data folder (`--data-dir`), as its `run/stack.json` says,
4. 127.0.0.1:4000.

A stack that was killed leaves its file behind: the folder's lock says whether it still runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

    from reflux.cli.stack.folder import DataFolder

DEFAULT: Final = "127.0.0.1:4000"
_HINT: Final = "start a stack with `reflux up`, or name a server with --server HOST:PORT or REFLUX_SERVER"


@dataclass(frozen=True, slots=True)
class Target:
    """A server.

    Attributes:
        address: `host:port`.
        source: who named it, for messages.
        folder: the data folder.
        stack: what `run/stack.json` says, when the stack of the folder runs and was not overruled.
        hint: what to do when nothing answers.
    """

    address: str
    source: str
    folder: Path | None = None
    stack: dict[str, Any] | None = None
    hint: str = _HINT


def find(server: str | None, data_dir: Path | None) -> Target:
    """The server to talk to.

    Raises:
        SettingsError: a setting is unknown or has no valid value.
    """
    from reflux.cli.stack.folder import DataFolder
    from reflux.runtime.settings import Settings

    settings = Settings.load(server=server, data_dir=data_dir)
    if settings.server is not None:
        source = "--server" if server is not None else "REFLUX_SERVER"
        return Target(str(settings.server), source, hint="")
    folder = DataFolder(settings.data_dir.absolute())
    stack = running(folder)
    if stack is not None:
        address = str(stack["urls"]["edge"]).partition("://")[2]
        return Target(address, f"the stack on {folder.root}", folder.root, stack)
    return Target(DEFAULT, "the default", folder.root)


def running(folder: DataFolder) -> dict[str, Any] | None:
    """What the stack that runs on `folder` says about itself; None if none runs, or not far enough."""
    if folder.holder() is None:
        return None
    state: dict[str, Any] = dict(folder.read_state() or {})
    return state if "edge" in state.get("urls", {}) else None
