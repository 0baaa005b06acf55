"""Credentials as files, as an operator makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t-of-the-shop"


def put(folder: Path, name: str, value: object, *, mode: int = 0o600) -> Path:
    """A credential file; text is written as it is."""
    file = folder / name
    file.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    file.chmod(mode)
    return file


def bearer(*origins: str, token: str = SECRET) -> dict[str, object]:
    """What stands in the file of a bearer token."""
    return {"kind": "bearer", "token": token, "origins": list(origins)}
