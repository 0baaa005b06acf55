"""The embedded PostgreSQL: made once, started by us, owned by nobody but us.

Layout of the folder: `data/` (the cluster), `passwords.json` (0600: of the superuser, and of the login that
REFLUX uses), sometimes a copy of the programs (`wheels.postgres_programs`).

Facts that shape this module:
- PostgreSQL refuses to run as root. Then it runs as an unprivileged user who often cannot even reach the
  data folder (`/root/…` is private). So the cluster is handed over as an open descriptor and named
  `/proc/self/fd/N`, which needs no right on the folders above it.
- Passwords reach `initdb` through a memory file: never on a disk, never in an argument list.
- A cluster is made under another name and renamed when complete: `data/` is whole or absent.
- After a SIGKILL of the supervisor the kernel sends SIGQUIT: the server ends its own children at once and
  recovers from its log at the next start. That start must wait for the end of the former server, and must
  not be fooled by a stale `postmaster.pid` whose number belongs to another process by now. We hold the lock
  of the data folder, so a server in it can only be a leftover of ours.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from reflux.cli.stack import files
from reflux.cli.stack.child import Launch, User, base_environment, end_group, exited, gone, spawn
from reflux.cli.stack.errors import PostgresError

if TYPE_CHECKING:
    import subprocess

_SUPERUSER: Final = "postgres"
_LOGIN: Final = "reflux"
_DATABASE: Final = "reflux"
_PASSWORDS: Final = "passwords.json"
_INITDB_SECONDS: Final = 60.0
_LEFTOVER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """One embedded server.

    Attributes:
        folder: what the server keeps, see the module.
        programs: folder with `initdb` and `postgres`.
        port: on loopback.
        user: whom it runs as, None = us.
        log: file of its output.
        options: further `name=value` server settings.
        sync: False spares the disk while the cluster is made; for tests.
    """

    folder: Path
    programs: Path
    port: int
    log: Path
    user: User | None = None
    options: tuple[str, ...] = ()
    sync: bool = True

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def dsn(self, database: str = _DATABASE, user: str = _LOGIN) -> str:
        """URL of a database for `user` (`reflux`, or `postgres`, the superuser), password included."""
        return f"postgresql://{user}:{self._passwords()[user]}@127.0.0.1:{self.port}/{database}"

    def admin_dsn(self) -> str:
        """URL for the superuser."""
        return self.dsn("postgres", _SUPERUSER)

    async def prepare(self) -> None:
        """Make the cluster if there is none, and see off what a killed supervisor left behind.

        Raises:
            PostgresError: `initdb` failed, the passwords are lost, or a leftover server does not end.
        """
        if self._data.exists():
            await self._see_off_leftover()
        else:
            await self._initdb()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server on the prepared cluster."""
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "jit=off", *self.options)
        arguments = [argument for setting in settings for argument in ("-c", setting)]
        return self._run("postgres", self._data, "-p", str(self.port), *arguments, death=signal.SIGQUIT)

    async def ready(self) -> bool:
        """Say whether the server answers."""
        try:
            async with await psycopg.AsyncConnection.connect(self.admin_dsn(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    async def provision(self) -> None:
        """Make the login and the database of REFLUX; what exists stays."""
        login, database = sql.Identifier(_LOGIN), sql.Identifier(_DATABASE)
        password = sql.Literal(self._passwords()[_LOGIN])
        async with await psycopg.AsyncConnection.connect(self.admin_dsn(), autocommit=True) as connection:
            known = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (_LOGIN,))
            if await known.fetchone() is None:
                await connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(login, password)
                )
            known = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,))
            if await known.fetchone() is None:
                await connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, login))

    def _passwords(self) -> dict[str, str]:
        """By login; made when first asked for, before there is a cluster."""
        path = self.folder / _PASSWORDS
        if not path.exists():
            if self._data.exists():
                raise PostgresError(f"the passwords of the database {self._data} are lost: no {path}")
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = {name: secrets.token_urlsafe(24) for name in (_SUPERUSER, _LOGIN)}
            files.write_json(path, fresh)
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def _run(
        self, program: str, data: Path, *arguments: str, death: signal.Signals, fds: tuple[int, ...] = ()
    ) -> subprocess.Popen[bytes]:
        descriptor = os.open(data, os.O_PATH | os.O_DIRECTORY)
        try:
            return spawn(
                Launch(
                    argv=(str(self.programs / program), "-D", f"/proc/self/fd/{descriptor}", *arguments),
                    log=self.log,
                    env=base_environment(),
                    user=self.user,
                    pass_fds=(descriptor, *fds),
                    death_signal=death,
                )
            )
        finally:
            os.close(descriptor)

    async def _initdb(self) -> None:
        password = self._passwords()[_SUPERUSER]
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if self.user is not None:
            os.chown(fresh, self.user.uid, self.user.gid)
        secret = os.memfd_create("password")
        try:
            os.write(secret, password.encode() + b"\n")
            process = self._run(
                "initdb",
                fresh,
                f"--username={_SUPERUSER}",
                "--auth=scram-sha-256",
                f"--pwfile=/proc/self/fd/{secret}",
                "--locale=C",
                "--encoding=UTF8",
                *(() if self.sync else ("--no-sync",)),
                death=signal.SIGKILL,
                fds=(secret,),
            )
        finally:
            os.close(secret)
        try:
            async with asyncio.timeout(_INITDB_SECONDS):
                status = await exited(process)
        except TimeoutError:
            raise PostgresError(
                f"initdb did not end within {_INITDB_SECONDS:.0f} s, see {self.log}"
            ) from None
        finally:
            end_group(process)
        if status != 0:
            raise PostgresError(f"initdb failed with status {status}, see {self.log}")
        fresh.rename(self._data)

    async def _see_off_leftover(self) -> None:
        lock = self._data / "postmaster.pid"
        try:
            pid = int(lock.read_text(encoding="ascii").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        if self._serves_here(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
            try:
                async with asyncio.timeout(_LEFTOVER_SECONDS):
                    await gone(pid)
            except TimeoutError:
                raise PostgresError(f"a former server, process {pid}, still uses {self._data}") from None
        lock.unlink(missing_ok=True)

    def _serves_here(self, pid: int) -> bool:
        """Whether process `pid` works in our cluster: the server's working directory is its data folder."""
        try:
            return (Path("/proc") / str(pid) / "cwd").samefile(self._data)
        except OSError:
            return False
