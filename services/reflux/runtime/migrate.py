"""Migrations: numbered SQL files, applied once, in order, by one process at a time.

A service that owns tables has `migrations/0001_name.sql`, `0002_…` in its package, numbered without gaps.
`migrate` creates the service's schema (named like the service) and its role, then runs what is missing.

Rules:
- One advisory lock for the whole run: two migrating processes take turns.
- One transaction per file, together with its row in `public.reflux_migrations`: applied and recorded, or
  neither. A file runs as the service's role with the service's schema first in `search_path`.
- Files are for ever. One whose SHA-256 differs from the recorded one is refused; so is a database that
  knows more than this release.
- Services never migrate: `check_version` lets them start on exactly their own version.

Roles have no login (`NOLOGIN`): the login of the DSN becomes a member and steps into the role for each
session (`reflux.runtime.postgres`). With one DSN for all services this keeps their statements apart; who
wants walls between processes too gives each service's process a DSN whose login is a member of its role
only. A login that may not create roles gets everything as its own: schemas still apart, roles not.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import AsyncConnection, errors, sql

from reflux.runtime.logs import get_logger
from reflux.runtime.postgres import connection_parameters

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reflux.runtime.postgres import Connection

OLDEST_SERVER: Final = 150_000
"""PostgreSQL 15, as `server_version_num`."""

_LOCK: Final = 0x7265666C7578  # "reflux", the advisory lock of the migrating process
_LOCK_WAIT: Final = "60s"
_FILE: Final = re.compile(r"(?P<number>\d{4})_(?P<name>[a-z0-9_]+)\.sql")

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS public.reflux_migrations (
    service    text        NOT NULL,
    number     integer     NOT NULL,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, number)
)
"""
_APPLIED: Final = "SELECT number, sha256 FROM public.reflux_migrations WHERE service = %s ORDER BY number"
_RECORD: Final = (
    "INSERT INTO public.reflux_migrations (service, number, name, sha256) VALUES (%s, %s, %s, %s)"
)

log = get_logger("migrate")


class MigrationError(Exception):
    """The database and the shipped migrations do not fit; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One shipped file: `number` counts from 1 per service, `text` may hold several statements."""

    service: str
    number: int
    name: str
    text: LiteralString

    @property
    def sha256(self) -> str:
        """Digest of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def release() -> dict[str, tuple[Migration, ...]]:
    """The migrations of every service of this release that owns tables, by service.

    Raises:
        MigrationError: see `shipped`.
    """
    folders = [entry for entry in files("reflux").iterdir() if entry.joinpath("migrations").is_dir()]
    return {name: shipped(name) for name in sorted(folder.name for folder in folders)}


def shipped(service: str) -> tuple[Migration, ...]:
    """The migrations of `service` in order.

    Raises:
        MigrationError: a file is misnamed, or a number is missing or taken twice.
    """
    found = []
    for entry in files("reflux").joinpath(service, "migrations").iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE.fullmatch(entry.name)
        if match is None:
            raise MigrationError(f"{service}: {entry.name} is not named like 0001_name.sql")
        found.append(
            Migration(service, int(match["number"]), match["name"], entry.read_text(encoding="utf-8"))
        )
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError(f"{service}: migrations are not numbered 0001, 0002, … without gaps")
    return tuple(found)


async def migrate(dsn: str, migrations: Mapping[str, Sequence[Migration]] | None = None) -> list[Migration]:
    """Bring the database to `migrations`, by service; return what was applied, in order.

    Default: what this release ships.

    Raises:
        MigrationError: an applied file has changed, the database is newer than this release, or the
            server is older than PostgreSQL 15.
        psycopg.Error: the database is unreachable, refuses a right, or a statement failed; the failed
            file left nothing behind.
    """
    applied: list[Migration] = []
    parameters = connection_parameters("reflux-migrate")
    async with await AsyncConnection.connect(dsn, autocommit=True, **parameters) as connection:  # type: ignore[arg-type]
        if connection.info.server_version < OLDEST_SERVER:
            found = connection.info.server_version // 10_000
            raise MigrationError(f"this PostgreSQL is version {found}; REFLUX needs 15 or newer")
        await connection.execute("SELECT set_config('lock_timeout', %s, false)", (_LOCK_WAIT,))
        await connection.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
        await connection.execute(_TABLE)
        for service, known in (release() if migrations is None else migrations).items():
            role = await _prepare(connection, service)
            for migration in _missing(known, await _applied(connection, service), service):
                await _apply(connection, migration, role)
                applied.append(migration)
                log.info("migration_applied", service=service, number=migration.number, name=migration.name)
    return applied


async def check_version(
    connection: Connection, service: str, migrations: Sequence[Migration] | None = None
) -> None:
    """Return if the database is exactly at `migrations` of `service`, by default those of this release.

    Raises:
        MigrationError: it is older, newer or different, or was never migrated.
    """
    try:
        applied = await _applied(connection, service)
    except errors.UndefinedTable:
        applied = {}
    missing = _missing(shipped(service) if migrations is None else migrations, applied, service)
    if missing:
        raise MigrationError(
            f"the database lacks {len(missing)} migration(s) of {service}, "
            f"first {missing[0].number:04}_{missing[0].name}: run `reflux migrate`"
        )


def _missing(known: Sequence[Migration], applied: dict[int, str], service: str) -> Sequence[Migration]:
    if len(applied) > len(known):
        raise MigrationError(
            f"the database is at version {max(applied)} of {service}, this release knows {len(known)}: "
            "use the newer release"
        )
    for migration in known[: len(applied)]:
        if applied.get(migration.number) != migration.sha256:
            raise MigrationError(
                f"{service}: {migration.number:04}_{migration.name} was changed after it was applied; "
                "restore the file and add a new migration"
            )
    return known[len(applied) :]


async def _applied(connection: Connection, service: str) -> dict[int, str]:
    rows = await (await connection.execute(_APPLIED, (service,))).fetchall()
    return dict(rows)


async def _prepare(connection: Connection, service: str) -> str | None:
    """Create role and schema if absent; return the role to run as, None when roles may not be made."""
    role: str | None = f"reflux_{service}"
    name = sql.Identifier(f"reflux_{service}")
    known = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
    try:
        if await known.fetchone() is None:
            await connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(name))
        await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
    except (errors.DuplicateObject, errors.UniqueViolation):  # made at this moment for another database
        await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(name))
    except errors.InsufficientPrivilege:
        member = await connection.execute(
            "SELECT 1 FROM pg_roles WHERE rolname = %s AND pg_has_role(current_user, oid, 'MEMBER')", (role,)
        )
        if await member.fetchone() is None:
            log.warning("roles_not_separated", service=service, hint="the login may not create roles")
            role = None
    owner = sql.SQL("AUTHORIZATION {}").format(name) if role else sql.SQL("")
    schema = sql.Identifier(service)
    await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {} {}").format(schema, owner))
    if role:
        await connection.execute(sql.SQL("GRANT SELECT ON public.reflux_migrations TO {}").format(name))
    return role


async def _apply(connection: Connection, migration: Migration, role: str | None) -> None:
    async with connection.transaction():
        if role:
            await connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
        await connection.execute("SELECT set_config('search_path', %s, true)", (migration.service,))
        await connection.execute(migration.text)
        await connection.execute("RESET ROLE")
        values = (migration.service, migration.number, migration.name, migration.sha256)
        await connection.execute(_RECORD, values)
