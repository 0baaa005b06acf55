"""Migrations: what is missing is applied once, in order, and what does not fit is refused."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from reflux.runtime.migrate import Migration, MigrationError, check_version, migrate
from reflux.runtime.postgres import open_pool

FIRST = Migration("registry", 1, "nodes", "CREATE TABLE nodes (id int); CREATE INDEX ON nodes (id);")
SECOND = Migration("registry", 2, "more", "ALTER TABLE nodes ADD COLUMN name text;")
BROKEN = Migration("registry", 2, "broken", "CREATE TABLE half (id int); SELECT no_such_function();")
OTHER = Migration("orchestrator", 1, "runs", "CREATE TABLE runs (id int);")


def tables(dsn: str) -> set[tuple[str, str, str]]:
    """(schema, table, owner) of every table that a migration made."""
    query = (
        "SELECT schemaname, tablename, tableowner FROM pg_tables WHERE tablename IN ('nodes', 'runs', 'half')"
    )
    with psycopg.connect(dsn) as connection:
        return set(connection.execute(query).fetchall())


async def test_missing_migrations_are_applied_in_order_and_only_once(empty_dsn: str) -> None:
    """The first run applies all, a later one what is new, a further one nothing."""
    assert await migrate(empty_dsn, {"registry": [FIRST]}) == [FIRST]
    assert await migrate(empty_dsn, {"registry": [FIRST, SECOND]}) == [SECOND]
    assert await migrate(empty_dsn, {"registry": [FIRST, SECOND]}) == []
    with psycopg.connect(empty_dsn) as connection:
        rows = connection.execute("SELECT number, name, sha256 FROM public.reflux_migrations ORDER BY number")
        assert rows.fetchall() == [(1, "nodes", FIRST.sha256), (2, "more", SECOND.sha256)]


async def test_each_service_owns_its_schema_through_its_own_role(empty_dsn: str) -> None:
    """Tables land in the schema named like the service and belong to the role of the service."""
    await migrate(empty_dsn, {"registry": [FIRST], "orchestrator": [OTHER]})
    assert tables(empty_dsn) == {
        ("registry", "nodes", "reflux_registry"),
        ("orchestrator", "runs", "reflux_orchestrator"),
    }


async def test_a_failing_migration_leaves_nothing_behind(empty_dsn: str) -> None:
    """File and record are one transaction: what came before the error is undone."""
    with pytest.raises(psycopg.errors.UndefinedFunction):
        await migrate(empty_dsn, {"registry": [FIRST, BROKEN]})
    assert {name for _, name, _ in tables(empty_dsn)} == {"nodes"}
    assert await migrate(empty_dsn, {"registry": [FIRST, SECOND]}) == [SECOND]


async def test_an_applied_migration_that_was_changed_is_refused(empty_dsn: str) -> None:
    """The digest of the text is for ever; the message names the file."""
    await migrate(empty_dsn, {"registry": [FIRST]})
    changed = Migration("registry", 1, "nodes", FIRST.text + " -- changed")
    with pytest.raises(MigrationError, match="0001_nodes was changed"):
        await migrate(empty_dsn, {"registry": [changed]})


async def test_a_database_of_a_newer_release_is_refused(empty_dsn: str) -> None:
    """An old program never touches what it does not know."""
    await migrate(empty_dsn, {"registry": [FIRST, SECOND]})
    with pytest.raises(MigrationError, match="at version 2 of registry, this release knows 1"):
        await migrate(empty_dsn, {"registry": [FIRST]})


async def test_two_migrating_processes_take_turns(empty_dsn: str) -> None:
    """Of two at the same moment one applies everything and the other finds nothing to do."""
    migrations = {"registry": [FIRST, SECOND], "orchestrator": [OTHER]}
    first, second = await asyncio.gather(migrate(empty_dsn, migrations), migrate(empty_dsn, migrations))
    assert {len(first), len(second)} == {0, 3}


@pytest.mark.parametrize(
    ("applied", "message"),
    [
        ([], "lacks 1 migration.* run `reflux migrate`"),
        ([FIRST, SECOND], "use the newer release"),
        ([Migration("registry", 1, "nodes", "CREATE TABLE other ()")], "was changed"),
    ],
    ids=["older", "newer", "different"],
)
async def test_a_service_starts_only_on_its_own_version(
    empty_dsn: str, applied: list[Migration], message: str
) -> None:
    """`check_version` refuses an older, a newer and a different database, and says what to do."""
    await migrate(empty_dsn, {"registry": applied})
    async with open_pool(empty_dsn, service="registry") as pool, pool.connection() as connection:
        with pytest.raises(MigrationError, match=message):
            await check_version(connection, "registry", [FIRST])


async def test_a_service_starts_on_its_version_and_not_on_an_empty_database(empty_dsn: str) -> None:
    """The same check refuses a database nobody migrated and accepts it once it is."""
    async with open_pool(empty_dsn, service="registry") as pool, pool.connection() as connection:
        with pytest.raises(MigrationError, match="run `reflux migrate`"):
            await check_version(connection, "registry", [FIRST])
    await migrate(empty_dsn, {"registry": [FIRST]})
    async with open_pool(empty_dsn, service="registry") as pool, pool.connection() as connection:
        await check_version(connection, "registry", [FIRST])


async def test_a_login_that_may_not_create_roles_owns_everything_itself(
    postgres_server, empty_dsn: str
) -> None:
    """On a managed database schemas are still apart; sessions run as the login."""
    database = empty_dsn.rsplit("/", 1)[1]
    with psycopg.connect(postgres_server.admin_dsn(), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS plain")
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        admin.execute(f"ALTER DATABASE {database} OWNER TO plain")
    plain = f"postgresql://plain:plain@127.0.0.1:{postgres_server.port}/{database}"
    scheduler = Migration("scheduler", 1, "runs", "CREATE TABLE runs (id int);")
    await migrate(plain, {"scheduler": [scheduler]})
    assert tables(plain) == {("scheduler", "runs", "plain")}
    async with open_pool(plain, service="scheduler") as pool, pool.connection() as connection:
        await check_version(connection, "scheduler", [scheduler])
        await connection.execute("INSERT INTO runs VALUES (1)")


async def test_what_is_shipped_applies_to_an_empty_database(database_dsn: str) -> None:
    """Every migration of this release is valid and leaves nothing to do."""
    assert await migrate(database_dsn) == []
