"""Runs that wait in the tables and in nobody's memory, and owners that died."""

import asyncio


async def rows(session, statement, *parameters):
    return await (await session.execute(statement, parameters)).fetchall()


async def waiting_run(begin, session, *steps):
    """A run that waits in the tables, and is in nobody's memory."""
    async with begin() as client:
        started = await client.start(await client.save("waits", *steps))
        async with asyncio.timeout(10):
            while (
                await rows(session, "SELECT 1 FROM runs WHERE wake_at > created_at + interval '3 s'")
            ) == []:
                await asyncio.sleep(0.02)
    return started["id"]


async def die(session):
    """Whoever owned the shards died."""
    await session.execute(
        "INSERT INTO members (id, address, state, joined_at, lease_until)"
        " VALUES (gen_random_uuid(), 'dead:1', 'dead', now(), now())"
    )
    await session.execute(
        "UPDATE shards SET fencing_token = fencing_token + 1,"
        " owner = (SELECT id FROM members WHERE address = 'dead:1')"
    )
