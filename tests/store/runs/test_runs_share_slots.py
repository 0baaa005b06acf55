"""At most so many runs of a flow and key go on at once; others wait, are refused, or push the oldest out."""

import asyncio
from http import HTTPStatus

import grpc
import psycopg
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_status import rpc_status

from reflux.api.trigger.v1.trigger_service_pb2 import DeliverWebhookRequest, HeaderField
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.core.walker import decide
from reflux.gateway import errors
from reflux.orchestrator import worker
from tests.store.runs.speaking import say
from tests.support.operations import execute_step, retry
from tests.support.scripted_mesh import claim

PURE = {"node": "work.pure"}


class Gate:
    """A node that holds every call until it is let go, and knows how many there are at once."""

    def __init__(self):
        self.going_on = {}
        self.most = {}
        self.order = []
        self.open = asyncio.Event()
        self.passes = asyncio.Semaphore(0)

    async def __call__(self, given, envelope, context):
        key = given.get("shop", "")
        self.order.append(given.get("n"))
        self.going_on[key] = self.going_on.get(key, 0) + 1
        self.most[key] = max(self.most.get(key, 0), self.going_on[key])
        try:
            if not self.open.is_set():
                await self.passes.acquire()
        finally:
            self.going_on[key] -= 1
        return {}

    def let_all_go(self):
        """Holds nothing any more."""
        self.open.set()
        for _ in range(1_000):
            self.passes.release()

    async def reached(self, count):
        async with asyncio.timeout(20):
            while len(self.order) < count:
                await asyncio.sleep(0.01)


SHOP = "{{ input.shop }}"
STEP = {"id": "a", **PURE, "with": {"shop": "{{ input.?shop ?? '' }}", "n": "{{ input.?n ?? 0 }}"}}


def limited(**policy):
    return {"concurrency": policy}


async def slots_left(dsn):
    """What is kept of limits: nothing, once nobody goes on or waits."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as admin:
        cursor = await admin.execute(
            "SELECT (SELECT count(*) FROM orchestrator.slots), (SELECT count(*) FROM orchestrator.limits)"
        )
        return await cursor.fetchone()


def refusal(error):
    """Code, reason and seconds to wait of a refused start."""
    status = rpc_status.from_call(error)
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return error.code(), info.reason, retry.retry_delay.ToMilliseconds() / 1000


async def test_a_run_over_the_limit_waits_and_says_for_what(begin, mesh, database_dsn):
    """It is accepted, costs no memory, says its place, and begins when a slot is free."""
    mesh.script = gate = Gate()
    async with begin() as client:
        await client.save("intake", STEP, policies=limited(key="{{ input.shop }}", limit=1))
        first = await client.start("intake", {"shop": "s7", "n": 1})
        await gate.reached(1)
        second = await client.start("intake", {"shop": "s7", "n": 2})
        third = await client.start("intake", {"shop": "s7", "n": 3})
        other = await client.start("intake", {"shop": "s8", "n": 4})
        await gate.reached(2)
        seen = await client.run(third["id"])
        listed = await client.row(third["id"], "QUEUED")
        steps = await client.steps(third["id"])
        gate.let_all_go()
        for run in (first, second, third, other):
            await client.until(run["id"], "SUCCEEDED")
        kinds, straight = [
            [event["kind"] for event in await client.events(run["id"]) if event["kind"] != "AttemptStarted"]
            for run in (third, first)
        ]  # a slow attempt is shown by an event of its own

    assert [first["state"], second["state"], third["state"], other["state"]] == [
        "RUNNING",
        "QUEUED",
        "QUEUED",
        "RUNNING",
    ]
    assert second["waiting"]["why"] == "1st of 1 for a slot of intake/s7, which has 1 and gives none more"
    assert seen["state"] == "QUEUED"
    assert seen["waiting"]["why"] == "2nd of 2 for a slot of intake/s7, which has 1 and gives none more"
    assert seen["queue"] == {"position": 2, "length": 2, "held": 1, "limit": 1, "key": "s7"}
    assert steps["a"]["waiting"]["why"] == "the run waits for its beginning"
    assert listed["state"] == "QUEUED"
    assert gate.most == {"s7": 1, "s8": 1}
    assert gate.order == [1, 4, 2, 3]
    assert kinds == ["RunCreated", "RunAdmitted", "AttemptFinished", "RunFinished"]
    assert straight == ["RunCreated", "AttemptFinished", "RunFinished"]
    assert await slots_left(database_dsn) == (0, 0)


async def test_a_start_over_the_limit_is_refused_where_the_flow_says_so(begin, mesh, database_dsn):
    """RESOURCE_EXHAUSTED, with its reason and when to come again; the request_id stays free for that."""
    mesh.script = gate = Gate()
    async with begin() as client:
        await client.save("strict", STEP, policies=limited(limit=2, overflow="reject"))
        runs = [await client.start("strict", {"n": n}, request_id=f"r{n}") for n in (1, 2)]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.start("strict", {"n": 3}, request_id="r3")
        again = await client.start("strict", {"n": 2}, request_id="r2")
        gate.let_all_go()
        for run in runs:
            await client.until(run["id"], "SUCCEEDED")
        later = await client.start("strict", {"n": 3}, request_id="r3")
        await client.until(later["id"], "SUCCEEDED")

    code, reason, seconds = refusal(refused.value)
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMIT")
    assert seconds > 0
    assert again["id"] == runs[1]["id"]
    assert sorted(gate.order) == [1, 2, 3]
    assert await slots_left(database_dsn) == (0, 0)


async def test_the_newest_run_takes_the_place_of_the_oldest(begin, mesh, database_dsn):
    """The oldest is cancelled, and only then the newest begins; what waited between them never does."""
    mesh.script = gate = Gate()
    # What the oldest one undoes keeps its slot, however long the newest takes to come.
    undo = {**PURE, "with": {"n": "{{ 100 + input.n }}"}}
    done = {"id": "done", **PURE, "with": {"n": "{{ 10 + input.n }}"}, "compensate": undo}
    async with begin() as client:
        await client.save("newest", done, STEP, policies=limited(limit=1, overflow="cancel_oldest"))
        first = await client.start("newest", {"n": 1})
        gate.passes.release()
        await gate.reached(2)
        between = await client.start("newest", {"n": 2})
        await gate.reached(3)
        newest = await client.start("newest", {"n": 3})
        await client.until(between["id"], "CANCELED")
        assert gate.order == [11, 1, 101]
        gate.let_all_go()
        await client.until(first["id"], "CANCELED")
        await client.until(newest["id"], "SUCCEEDED")
        events = await client.events(first["id"])

    asked = next(event for event in events if event["kind"] == "CancelRequested")
    assert asked["data"]["actor"] == "policies.concurrency"
    assert gate.order == [11, 1, 101, 13, 3]
    assert await slots_left(database_dsn) == (0, 0)


async def test_a_pause_costs_no_place_in_the_queue(begin, mesh):
    """Who pauses a queued run is told where it stands, and so is whoever resumes it or looks at it."""
    mesh.script = gate = Gate()
    async with begin() as client:
        await client.save("pausing", STEP, policies=limited(limit=1))
        await client.start("pausing", {"n": 1})
        await gate.reached(1)
        waits = await client.start("pausing", {"n": 2})
        paused = await say(client, "PauseRun", waits["id"])
        looked = await client.run(waits["id"])
        resumed = await say(client, "ResumeRun", waits["id"])
        gate.let_all_go()
        await client.until(waits["id"], "SUCCEEDED")
    place = {"position": 1, "length": 1, "held": 1, "limit": 1, "key": ""}
    assert [each["queue"] for each in (paused, looked, resumed)] == [place] * 3
    assert (paused["state"], paused["waiting"]["why"]) == ("PAUSED", "paused by anonymous")
    assert (resumed["state"], resumed["waiting"]["why"][:3]) == ("QUEUED", "1st")


async def test_a_cancelled_run_leaves_the_queue_at_once(begin, mesh, database_dsn):
    """Nothing of it ever began, and who stood behind it moves up."""
    mesh.script = gate = Gate()
    async with begin() as client:
        await client.save("queue", STEP, policies=limited(limit=1))
        first, second, third = [await client.start("queue", {"n": n}) for n in (1, 2, 3)]
        canceled = await client.cancel(second["id"])
        moved = (await client.run(third["id"]))["queue"]
        gate.let_all_go()
        for run in (first, third):
            await client.until(run["id"], "SUCCEEDED")

    assert canceled["state"] == "CANCELED"
    assert (moved["position"], moved["length"]) == (1, 1)
    assert 2 not in gate.order
    assert await slots_left(database_dsn) == (0, 0)


async def test_the_higher_priority_is_first_and_then_who_came_first(begin, mesh):
    """Of those that wait; who has a slot keeps it."""
    mesh.script = gate = Gate()
    async with begin() as client:
        policies = {**limited(limit=1), "priority": "{{ input.urgency }}"}
        await client.save("urgent", STEP, policies=policies)
        asked = [(1, 0), (2, 5), (3, 9), (4, 5), (5, 9), (6, 0)]
        runs = [await client.start("urgent", {"n": n, "urgency": urgency}) for n, urgency in asked]
        await gate.reached(1)
        gate.let_all_go()
        for run in runs:
            final = await client.until(run["id"], "SUCCEEDED")

    assert gate.order == [1, 3, 5, 2, 4, 6]
    assert final["priority"] == 0


@pytest.mark.parametrize(
    ("policies", "begin_at_once"),
    [(limited(key=SHOP, limit=3), 2), ({}, 5), (limited(key=SHOP, limit=1), 0)],
    ids=["a larger limit", "none any more", "the same"],
)
async def test_a_new_version_says_at_once_how_many_go_on(begin, mesh, policies, begin_at_once, database_dsn):
    """Runs that wait need no other start for that, and who was first is first."""
    mesh.script = gate = Gate()
    async with begin() as client:
        await client.save("intake", STEP, policies=limited(key=SHOP, limit=1))
        runs = [(await client.start("intake", {"shop": "s7", "n": number}))["id"] for number in range(6)]
        await gate.reached(1)
        await client.replace("intake", {**STEP, "id": "b"}, policies=policies)
        await gate.reached(1 + begin_at_once)
        await asyncio.sleep(1.5)  # a look at the words of others
        seen = sorted(gate.order)
        gate.let_all_go()
        for run in runs:
            assert (await client.until(run, "SUCCEEDED"))["flow_version"] == 1
    assert seen == list(range(1 + begin_at_once))
    assert await slots_left(database_dsn) == (0, 0)


def failing_first(gate):
    """The gate's script, but the first call fails."""
    calls = iter(["first"])

    async def script(given, envelope, context):
        if next(calls, None):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
        return await gate(given, envelope, context)

    return script


@pytest.mark.parametrize(
    ("before", "after", "going_on"),
    [
        (limited(limit=1, overflow="cancel_oldest"), limited(limit=10), 4),
        (limited(limit=5), limited(limit=1), 1),
        (limited(limit=1), limited(limit=3), 3),
        (limited(limit=1, overflow="reject"), {}, 4),
        ({}, limited(limit=2), 2),
        (limited(key="{{ input.?old ?? 'k' }}", limit=1), limited(limit=2), 2),
    ],
)
async def test_the_newest_version_limits_runs_of_older_ones(begin, mesh, before, after, going_on):
    """A retry starts a run of its version; how many go on, and what becomes of others, says the newest."""
    gate = Gate()
    mesh.script = failing_first(gate)
    async with begin() as client:
        await client.save("limited", STEP, policies=before)
        failed = await client.until((await client.start("limited"))["id"], "FAILED")
        await client.replace("limited", {**STEP, "id": "b"}, policies=after)
        runs = [(await client.start("limited", {"n": n}))["id"] for n in range(3)]
        await gate.reached(min(3, going_on))
        runs.append((await retry(client, failed["id"]))["run"]["id"])
        await gate.reached(going_on)
        await asyncio.sleep(1)
        seen = sum(gate.going_on.values())
        gate.let_all_go()
        ended = [await client.until(run, "SUCCEEDED", "CANCELED") for run in runs]

    assert seen == going_on
    assert [(run["state"], run["flow_version"]) for run in ended] == [("SUCCEEDED", n) for n in (2, 2, 2, 1)]


async def test_an_input_without_the_newest_key_is_limited_by_its_own_version(begin, mesh, database_dsn):
    """It can be retried all the same, and changes nothing for others."""
    gate = Gate()
    mesh.script = failing_first(gate)
    async with begin() as client:
        await client.save("limited", STEP, policies=limited(limit=1))
        failed = await client.until((await client.start("limited"))["id"], "FAILED")
        await client.replace("limited", STEP, policies=limited(key=SHOP, limit=2))
        others = [(await client.start("limited", {"shop": "s"}))["id"] for _ in range(2)]
        await gate.reached(2)
        again = (await retry(client, failed["id"]))["run"]["id"]
        await gate.reached(3)
        gate.let_all_go()
        for run in (*others, again):
            await client.until(run, "SUCCEEDED")
    assert await slots_left(database_dsn) == (0, 0)


async def test_who_has_not_heard_of_the_newest_version_changes_nothing(begin, mesh):
    """For a second an orchestrator may begin runs of the version before: they queue like all others."""
    mesh.script = gate = Gate()
    async with begin(shards=8) as client, begin(shards=8) as other:
        await client.save("limited", STEP, policies=limited(limit=1, overflow="cancel_oldest"))
        await client.until((await other.start("limited"))["id"], "SUCCEEDED", "RUNNING")
        await gate.reached(1)
        await client.replace("limited", {**STEP, "id": "b"}, policies=limited(limit=3))
        runs = [await client.start("limited", {"n": n}) for n in (1, 2)]
        await gate.reached(3)
        old = await other.start("limited", {"n": 3})
        place = (await client.run(old["id"]))["queue"]
        gate.let_all_go()
        for run in (*runs, old):
            await client.until(run["id"], "SUCCEEDED")
    assert old["flow_version"] == 1
    assert (place["position"], place["limit"]) == (1, 3)


async def test_a_parked_run_keeps_its_slot(begin, mesh):
    """Nobody knows whether it acted: who waits goes on waiting, until a person ends it."""

    async def vanish(given, envelope, context):
        if envelope["x-reflux-step"] == "pay":
            await claim(envelope)
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone after the claim")
        return {}

    mesh.script = vanish
    async with begin() as client:
        await client.save("payments", {"id": "pay", "node": "work.once"}, policies=limited(limit=1))
        first = await client.start("payments")
        await client.until(first["id"], "PARKED")
        second = await client.start("payments")
        waits = await client.run(second["id"])
        ended = await client.cancel(first["id"])
        await client.until(second["id"], "PARKED")

    assert (waits["state"], waits["queue"]["held"]) == ("QUEUED", 1)
    assert ended["state"] == "CANCELED"


async def test_a_run_that_cannot_be_read_keeps_its_slot_until_a_person_ends_it(begin, mesh, database_dsn):
    """It is PARKED when its turn comes, and what told it so is not told again and again."""
    mesh.script = gate = Gate()
    async with (
        begin() as client,
        await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin,
    ):
        await client.save("damaged", STEP, policies=limited(limit=1))
        first, second, third = [await client.start("damaged", {"n": n}) for n in (1, 2, 3)]
        await admin.execute(
            "UPDATE orchestrator.journal SET payload = %s WHERE run_id = %s", (b"\xff", second["id"])
        )
        gate.let_all_go()
        await client.until(first["id"], "SUCCEEDED")
        await client.row(second["id"], "PARKED")
        waits = await client.run(third["id"])
        async with asyncio.timeout(20):
            while await (await admin.execute("SELECT FROM orchestrator.inbox")).fetchone() is not None:
                await asyncio.sleep(0.05)
        with pytest.raises(grpc.aio.AioRpcError):
            await client.cancel(second["id"])  # it is ended, and can be shown by nobody
        await client.until(third["id"], "SUCCEEDED")

    assert (waits["queue"]["position"], waits["queue"]["held"]) == (1, 1)
    assert await slots_left(database_dsn) == (0, 0)


async def test_a_turn_that_came_while_a_run_was_put_aside_is_not_lost(begin, mesh, monkeypatch, database_dsn):
    """The word of it has come and gone when the run may go on."""
    mesh.script = gate = Gate()
    broken = True

    def fails(state, now):
        if broken and state.queued and state.quarantine is None:
            raise RuntimeError("a defect")
        return decide(state, now)

    monkeypatch.setattr(worker, "decide", fails)
    async with (
        begin() as client,
        await psycopg.AsyncConnection.connect(database_dsn, autocommit=True) as admin,
    ):
        await client.save("mended", STEP, policies=limited(limit=1))
        first, second = [await client.start("mended", {"n": n}) for n in (1, 2)]
        await gate.reached(1)
        await say(client, "SkipStep", second["id"], step="a")  # it is read for that, and put aside
        await client.until(second["id"], "PARKED")
        broken = False
        gate.let_all_go()
        await client.until(first["id"], "SUCCEEDED")
        async with asyncio.timeout(20):
            while await (await admin.execute("SELECT FROM orchestrator.inbox")).fetchone() is not None:
                await asyncio.sleep(0.05)
        await say(client, "ResumeRun", second["id"])
        await client.until(second["id"], "SUCCEEDED")
    assert await slots_left(database_dsn) == (0, 0)


async def test_the_time_in_the_queue_is_not_the_runs_own(begin, mesh):
    """A flow's timeout begins with the run: waiting longer than that fails nobody."""
    mesh.script = gate = Gate()
    async with begin() as client:
        policies = {**limited(limit=1), "timeout": "3s"}
        await client.save("hasty", STEP, policies=policies)
        first = await client.start("hasty", {"n": 1})
        second = await client.start("hasty", {"n": 2})
        failed = await client.until(first["id"], "FAILED")
        gate.let_all_go()
        await client.until(second["id"], "SUCCEEDED")

    assert failed["error"]["reason"] == "TIMEOUT"


async def test_a_webhook_over_the_limit_is_told_to_come_again(begin, mesh):
    """RESOURCE_EXHAUSTED, which the gateway answers as 429; the same delivery may come again."""
    mesh.script = gate = Gate()
    hook = {"id": "hook", "type": "webhook", "path": "strict"}
    async with begin() as client:
        await client.save("hooked", STEP, triggers=[hook], policies=limited(limit=1, overflow="reject"))
        deliver = TriggerServiceStub(client.channel).DeliverWebhook
        await deliver(delivery("one"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await deliver(delivery("two"))
        gate.let_all_go()
        async with asyncio.timeout(20):
            while (answer := await again(deliver)) is None:
                await asyncio.sleep(0.05)

    assert refusal(refused.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "CONCURRENCY_LIMIT")
    assert errors.HTTP[grpc.StatusCode.RESOURCE_EXHAUSTED] == HTTPStatus.TOO_MANY_REQUESTS
    assert not answer.duplicate


def delivery(name):
    """A delivery to the path of the test."""
    return DeliverWebhookRequest(
        method="POST", path="strict", headers=[HeaderField(name="webhook-id", value=name)], body=b"{}"
    )


async def again(deliver):
    """The second delivery once more; None while it is refused."""
    try:
        return await deliver(delivery("two"))
    except grpc.aio.AioRpcError:
        return None


@pytest.mark.parametrize(
    ("given", "reason"),
    [({}, "EXPRESSION_FAILED"), ({"shop": None}, "ARGUMENT_INVALID"), ({"shop": ""}, "ARGUMENT_INVALID"),
     ({"shop": "x" * 201}, "ARGUMENT_INVALID"), ({"shop": "s", "urgency": 10}, "ARGUMENT_INVALID")],
)  # fmt: skip
async def test_an_input_without_a_key_starts_nothing(begin, mesh, database_dsn, given, reason):
    """A limit that could not be worked out would be no limit: the start is refused and says why."""
    async with begin() as client:
        policies = {**limited(key="{{ input.shop }}", limit=1), "priority": "{{ input.?urgency ?? 5 }}"}
        await client.save("keyed", STEP, policies=policies)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.start("keyed", given)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal(refused.value)[1] == reason
    assert await slots_left(database_dsn) == (0, 0)


async def test_a_step_alone_takes_no_slot_and_waits_for_none(begin, mesh):
    """It has not the input of a whole run, so it has no key: people try a step while the flow is full."""
    mesh.script = gate = Gate()
    other = {"id": "b", "node": "work.pure", "with": {"shop": "alone"}}
    async with begin() as client:
        flow = await client.save("full", STEP, other, policies=limited(key="{{ input.shop }}", limit=1))
        first = await client.start(flow, {"shop": "s", "n": 1})
        await gate.reached(1)
        second = await client.start(flow, {"shop": "s", "n": 2})
        alone = asyncio.ensure_future(execute_step(client, "full", "b"))
        await gate.reached(2)
        assert gate.going_on == {"s": 1, "alone": 1}
        assert (await client.until(second["id"], "QUEUED"))["state"] == "QUEUED"
        gate.let_all_go()
        assert (await alone)["state"] == "SUCCEEDED"
        for run in (first, second):
            await client.until(run["id"], "SUCCEEDED")
    assert gate.most["s"] == 1
