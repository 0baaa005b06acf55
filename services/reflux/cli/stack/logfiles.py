"""Log files of the parts: `logs/<part>.log`, and one older one, `<part>.log.1`.

Bounded: a file that has outgrown its limit moves aside when its part starts. While a part runs it holds its
file open, so then the content is copied aside and the file cut to nothing; parts append, so they go on at
the new end. Lines written between the copy and the cut are lost: that is the price of a bound without a
process between a part and its log.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.errors import UnknownPartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The logs in `folder`; a file is at most about `limit` bytes."""

    folder: Path
    limit: int = 16 * 1024 * 1024

    def path(self, part: str) -> Path:
        """The file that `part` writes."""
        return self.folder / f"{part}.log"

    def parts(self) -> list[str]:
        """Parts that have a log, by name."""
        return sorted(path.stem for path in self.folder.glob("*.log"))

    def rotate(self, part: str) -> None:
        """Move a log that is too large aside; for a part that is not running."""
        path = self.path(part)
        if _size(path) > self.limit:
            path.replace(_older(path))

    def cut_large(self) -> None:
        """Copy logs that are too large aside and cut them; for parts that are running."""
        for path in self.folder.glob("*.log"):
            if _size(path) > self.limit:
                shutil.copyfile(path, _older(path))
                os.truncate(path, 0)

    def tail(self, part: str, count: int) -> list[str]:
        """The last `count` lines of `part`, without line ends, the older file included."""
        path = self.path(part)
        lines = _lines(path)
        if len(lines) < count:
            lines = _lines(_older(path)) + lines
        return lines[-count:] if count else []

    def check(self, part: str) -> None:
        """Return if `part` has a log.

        Raises:
            UnknownPartError: it has not.
        """
        if part not in self.parts():
            known = ", ".join(self.parts()) or "none yet"
            raise UnknownPartError(f"no log of a part {part!r}; there are: {known}")

    def follow(self, parts: list[str] | None) -> Follower:
        """Read what is in the logs and what is added; None: of all parts, those that start later included."""
        return Follower(self, parts)


class Follower:
    """Reads several logs, and goes on where it was when asked again: nothing is missed, nothing twice."""

    def __init__(self, logs: LogFiles, parts: list[str] | None) -> None:
        self._logs = logs
        self._parts = parts
        self._files: dict[str, _Growing] = {}

    def read(self) -> Iterator[tuple[str, str]]:
        """Yield (part, line) for what was added since the last call; the first time, for all there is."""
        for part in self._parts or self._logs.parts():
            growing = self._files.setdefault(part, _Growing(self._logs.path(part)))
            for line in growing.lines():
                yield part, line


class _Growing:
    """Reads one file as it grows, also after it was cut or replaced: then from its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rest = b""
        self._file: tuple[int, int] | None = None
        self._position = 0

    def lines(self) -> Iterator[str]:
        """Whole lines added since the last call."""
        try:
            file = self._path.open("rb")
        except FileNotFoundError:
            return
        with file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self._position:
                self._file, self._position = (status.st_dev, status.st_ino), 0
            file.seek(self._position)
            while chunk := file.read(_CHUNK):
                *whole, self._rest = (self._rest + chunk).split(b"\n")
                self._position = file.tell()
                for line in whole:
                    yield line.decode(errors="replace")


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
