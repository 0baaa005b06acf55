"""How many processes of a node version are wanted: a file each, `scale/NAME@VERSION`, in the data folder.

The file is the whole agreement: `reflux scale` replaces it, the supervisor looks at it a few times a second
and starts or drains processes until as many run. It stays when the stack ends, so the next
`reflux up --processes` starts with the same number: who has scaled a version wanted it scaled, not this one
life of the stack. Without a file a version has one process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.cli.stack import files
from reflux.runtime.logs import get_logger

if TYPE_CHECKING:
    from pathlib import Path

MOST: Final = 64
"""Processes of one version on one machine."""
_BESIDE: Final = "~"

log = get_logger("supervisor")


@dataclass(slots=True)
class Wanted:
    """How many processes of one version are wanted."""

    file: Path
    _known: int = 1

    @classmethod
    def of(cls, folder: Path, version: str) -> Wanted:
        """The number for `name@version` in the data folder `folder`."""
        return cls(folder / "scale" / version)

    def read(self) -> int:
        """The number; one that cannot be read changes nothing."""
        try:
            self._known = check(int(self.file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            self._known = 1
        except (OSError, ValueError) as error:
            log.warning("scale_unreadable", file=str(self.file), error=str(error), keeps=self._known)
        return self._known

    def write(self, count: int) -> None:
        """Replace the number.

        Raises:
            OSError: the folder cannot be written.
        """
        self.file.parent.mkdir(mode=0o700, exist_ok=True)
        files.write_text(self.file, f"{count}\n")


def check(count: int) -> int:
    """`count`, if that many can be run.

    Raises:
        ValueError: it is less than 1 or more than MOST.
    """
    if not 1 <= count <= MOST:
        raise ValueError(f"{count} is not a number of processes from 1 to {MOST}")
    return count


def part_name(version: str, number: int) -> str:
    """The part of process `number`, counted from 1: `node-http.request@1.0.0`, then `…~2`, `…~3`."""
    return f"node-{version}" + (f"{_BESIDE}{number}" if number > 1 else "")


def version_of(part: str) -> str | None:
    """The node version that a part serves; None for any other part."""
    if not part.startswith("node-"):
        return None
    return part.removeprefix("node-").partition(_BESIDE)[0]
