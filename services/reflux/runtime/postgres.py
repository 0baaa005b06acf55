"""PostgreSQL connections, the same for every service.

One database; each service owns one schema and works under one role. A pool connects with the login of the
DSN and steps into the role that owns the service's schema, `reflux_<service>`: a statement of one service
then cannot touch the tables of another. Where the operator's login may not create roles, the login itself
owns the schemas (`reflux.runtime.migrate`), and everything runs as that login.

Every connection:
- autocommit: a transaction is opened where one is meant, never by accident and never across a call;
- bounded: connecting, waiting for the server's TCP acknowledgement, one statement, an idle transaction;
- checked when taken from the pool, so a restart of the database poisons nothing;
- named: `application_name` says which service holds it.

SQL is source: it lives in `sql/<name>.sql` beside its store and is read by `load_sql`.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Connection = AsyncConnection[TupleRow]
Pool = AsyncConnectionPool[Connection]

CONNECT_SECONDS: Final = 5
"""Longest wait for one connection to open; also the default wait for a free one in the pool."""
TCP_ACK_MILLISECONDS: Final = 10_000
"""Sent data not acknowledged for so long means that the server is gone (`tcp_user_timeout`)."""

_SESSION: Final = """
SELECT set_config('search_path', %(service)s, false),
       set_config('timezone', 'UTC', false),
       set_config('statement_timeout', '30s', false),
       set_config('lock_timeout', '10s', false),
       set_config('idle_in_transaction_session_timeout', '10s', false),
       (SELECT set_config('role', owner.rolname, false)
          FROM pg_namespace JOIN pg_roles AS owner ON owner.oid = nspowner
         WHERE nspname = %(service)s AND pg_has_role(current_user, owner.oid, 'MEMBER'))
"""


def connection_parameters(application: str) -> dict[str, str | int]:
    """Parameters for libpq of every connection (seconds, but `tcp_user_timeout` in milliseconds)."""
    return {
        "application_name": application,
        "connect_timeout": CONNECT_SECONDS,
        "tcp_user_timeout": TCP_ACK_MILLISECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }


async def enter_service(connection: Connection, service: str) -> None:
    """Make `connection` (autocommit) a session of `service`: its schema, its role, its limits."""
    await connection.execute(_SESSION, {"service": service})


@asynccontextmanager
async def open_pool(dsn: str, *, service: str, min_size: int = 1, max_size: int = 8) -> AsyncIterator[Pool]:
    """A pool of sessions of `service`, open inside the block.

    >>> async with open_pool(settings.postgres_dsn, service="registry") as pool:
    ...     async with pool.connection() as connection:
    ...         await connection.execute(load_sql("reflux.registry", "renew_lease"), parameters)

    Taking a connection waits at most 5 s (`psycopg_pool.PoolTimeout`).

    Raises:
        psycopg_pool.PoolTimeout: the database did not accept `min_size` connections within 15 s.
    """

    async def configure(connection: Connection) -> None:
        await enter_service(connection, service)

    pool: Pool = AsyncConnectionPool(
        dsn,
        connection_class=AsyncConnection[TupleRow],
        kwargs={"autocommit": True, **connection_parameters(f"reflux-{service}")},
        min_size=min_size,
        max_size=max_size,
        open=False,
        configure=configure,
        check=AsyncConnectionPool.check_connection,
        name=f"reflux-{service}",
        timeout=CONNECT_SECONDS,
        reconnect_timeout=60,
    )
    try:
        await pool.open(wait=True, timeout=15)
        yield pool
    finally:
        await asyncio.shield(pool.close(timeout=5))


@cache
def load_sql(package: str, name: str) -> LiteralString:
    """The statement `sql/<name>.sql` of `package`, such as `load_sql("reflux.registry", "renew_lease")`.

    The text counts as literal for psycopg: it is shipped code, nothing of it comes from a caller. Lines of
    comment and indentation are left out: psycopg reads a text of more than 4,096 bytes again each time.

    Raises:
        FileNotFoundError: the package has no such file.
    """
    text = files(package).joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))
