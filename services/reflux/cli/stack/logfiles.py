"""Log files of the parts: `logs/<part>.log`, and one older one, `<part>.log.1`.

Bounded: a file that has outgrown its limit moves aside when its part starts. While a part runs it holds its
file open, so then the content is copied aside and the file cut to nothing; parts append, so they go on at
the new end. Lines written between the copy and the cut are lost: that is the price of a bound without a
process between a part and its log.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from reflux.cli.stack.errors import UnknownPartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLLOW_SECONDS: Final = 0.2
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
        lines: list[str] = []
        for file in (_older(path), path):
            if file.exists():
                lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-count:] if count else []

    def check(self, part: str) -> None:
        """Return if `part` has a log.

        Raises:
            UnknownPartError: it has not.

        """
        if part not in self.parts():
            known = ", ".join(self.parts()) or "none yet"
            raise UnknownPartError(f"no log of a part {part!r}; there are: {known}")

    def follow(self, parts: list[str] | None) -> Iterator[tuple[str, str]]:
        """Yield (part, line) as written from now on, without end; None: of all parts, new ones too."""
        open_files: dict[str, _Follower] = {}
        for part in parts or self.parts():
            open_files[part] = _Follower(self.path(part), at_end=True)
        while True:
            for part in parts or self.parts():
                follower = open_files.setdefault(part, _Follower(self.path(part), at_end=False))
                for line in follower.lines():
                    yield part, line
            time.sleep(_FOLLOW_SECONDS)


class _Follower:
    """Reads what is added to one file, also after it was cut or replaced."""

    def __init__(self, path: Path, *, at_end: bool) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        if at_end and path.exists():
            self._file = path.open("rb")
            self._file.seek(0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        if self._file is None or not self._same_file(self._file):
            if not self._path.exists():
                return
            self._file = self._path.open("rb")
        if self._file.tell() > _size(self._path):
            self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            *whole, self._rest = (self._rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode(errors="replace")

    def _same_file(self, file: BinaryIO) -> bool:
        try:
            same = os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            same = False
        if not same:
            file.close()
        return same


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
