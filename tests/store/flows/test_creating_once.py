"""The same request_id gives the same flow."""

from __future__ import annotations

import asyncio

from reflux.core.errors import AlreadyExists, InvalidArgument
from reflux.core.reasons import Reason
from tests.store.flows.conftest import flow, refusal


async def test_a_repeated_request_gives_the_flow_it_made(flows):
    """Also when the document is written differently but means the same."""
    made = await flows.create(flow(), request_id="once")
    respelled = {"spec": flow()["spec"], "name": "orders", "ui": None}
    assert await flows.create(respelled, request_id="once") == made


async def test_requests_at_the_same_time_make_one_flow(flows):
    """Whoever comes second waits for the first and gets its flow."""
    made = await asyncio.gather(*(flows.create(flow(), request_id="once") for _ in range(4)))
    assert len({each["id"] for each in made}) == 1


async def test_a_request_id_used_for_something_else_is_refused(flows):
    """Nobody gets a flow they did not ask for."""
    await flows.create(flow(), request_id="once")
    error = await refusal(flows.create(flow("other"), request_id="once"))
    assert (type(error), error.reason) == (AlreadyExists, Reason.REQUEST_ID_REUSED)


async def test_a_failed_request_does_not_use_up_its_id(flows):
    """A taken name leaves no trace; the same request_id then works with another name."""
    await flows.create(flow())
    error = await refusal(flows.create(flow(value=2), request_id="once"))
    assert error.reason is Reason.FLOW_NAME_TAKEN
    assert (await flows.create(flow("free"), request_id="once"))["version"] == 1


async def test_a_request_id_is_free_again_after_its_time(flows):
    """Seven days later, by the database's clock; expired ones of others go as well."""
    for name in ("a", "b"):
        await flows.create(flow(name), request_id=name)
    async with flows.pool.connection() as connection:
        await connection.execute("UPDATE flow_requests SET expires_at = clock_timestamp() - interval '1 s'")
    assert (await flows.create(flow("c"), request_id="a"))["name"] == "c"
    async with flows.pool.connection() as connection:
        rows = await (await connection.execute("SELECT request_id FROM flow_requests")).fetchall()
    assert rows == [("a",)]


async def test_a_request_id_is_bounded(flows):
    """It is a key in a table."""
    for request_id in ("x" * 129, "a\x00b"):
        error = await refusal(flows.create(flow(), request_id=request_id))
        assert (type(error), error.reason) == (InvalidArgument, Reason.ARGUMENT_INVALID)
