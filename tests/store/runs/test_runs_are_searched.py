"""Runs are found by what is known of them: key, failure, trigger, and where they come from."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.run.v1 import run_service_pb2 as pb
from reflux.core.errors import Violation
from reflux.core.reasons import Reason
from reflux.orchestrator.operations import search
from reflux.runtime import rpc
from tests.support.operations import bulk, failures, fork, retry

PURE = {"node": "work.pure"}
Run = pb.Run


async def fail_odd(given, envelope, context):
    """Fails for odd numbers, in words that name them."""
    if given["n"] % 2:
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"order {given['n']} is odd")
    return {}


async def found(client, **filters) -> list[str]:
    """Ids of all runs that a list shows, in small pages."""
    ids: list[str] = []
    token = ""
    while True:
        page = await client.runs.ListRuns(pb.ListRunsRequest(**filters, page_size=2, page_token=token))
        ids += [run.id for run in page.runs]
        token = page.next_page_token
        if not token:
            return ids


async def refused(call) -> Reason:
    """Why a call was refused."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return rpc.to_error(error.value).reason


async def test_failures_that_are_the_same_are_one_group(begin, mesh):
    """Counted, with the first and the newest; the list of a fingerprint shows exactly its runs."""
    mesh.script = fail_odd
    async with begin() as client:
        step = {"id": "a", **PURE, "with": {"n": "{{ input.n }}"}}
        one = await client.save("one", step)
        await client.save("two", step)
        runs = [await client.start("one", {"n": n}, wait="10s") for n in range(6)]
        other = await client.start("two", {"n": 1}, wait="10s")
        groups = {group.example.flow_name: group for group in await failures(client)}
        of_one = await failures(client, flow_id="one")
        listed = await found(client, fingerprint=groups["one"].fingerprint)

    odd = [run["id"] for run in runs if run["state"] == "FAILED"]
    assert len(odd) == 3
    assert {name: group.count for name, group in groups.items()} == {"one": 3, "two": 1}
    assert groups["one"].example.id == odd[-1]
    assert groups["one"].example.error.step == "a"
    assert groups["one"].first_time.ToNanoseconds() < groups["one"].last_time.ToNanoseconds()
    assert [group.fingerprint for group in of_one] == [groups["one"].fingerprint]
    assert of_one[0].example.flow_id == one
    assert listed == odd[::-1]
    assert runs[1]["fingerprint"] == groups["one"].fingerprint
    assert other["fingerprint"] == groups["two"].fingerprint


async def test_failures_before_a_time_are_those_of_the_days_before_it(begin, mesh, monkeypatch):
    """Not of the last days before now, in which nothing can have happened before that time."""
    monkeypatch.setattr(search, "FAILURES_WITHIN", timedelta(milliseconds=1))
    mesh.script = fail_odd
    async with begin() as client:
        await client.save("one", {"id": "a", **PURE, "with": {"n": 1}})
        run = await client.start("one", wait="10s")
        before = Timestamp()
        before.FromDatetime(datetime.fromisoformat(run["create_time"]) + timedelta(microseconds=500))
        of_now = await failures(client)
        of_then = await failures(client, created_before=before)
        of_year_1 = await failures(client, created_before=Timestamp(seconds=-62_135_596_800))

    assert of_now == of_year_1 == []
    assert [group.example.id for group in of_then] == [run["id"]]


async def test_runs_are_found_by_their_key(begin, mesh):
    """Made of the input when they start, shown with them; a run that could not be found is not started."""
    async with begin() as client:
        flow = await client.save("orders", {"id": "a", **PURE}, search_key="{{ input.order }}")
        run = await client.start(flow, {"order": "A-17"}, wait="10s")
        await client.start(flow, {"order": "B"}, wait="10s")
        again = await client.start(flow, {"order": "A-17"}, wait="10s")
        by_key = await found(client, key="A-17")
        nothing = await found(client, key="A-1")
        missing = await refused(client.start(flow, {}))
        summary = (await client.runs.ListRuns(pb.ListRunsRequest(key="B"))).runs[0]

    assert by_key == [again["id"], run["id"]]
    assert run["key"] == "A-17"
    assert summary.key == "B"
    assert nothing == []
    assert missing is Reason.INPUT_INVALID


async def test_runs_are_found_by_where_they_come_from(begin, mesh):
    """The runs that go on from one; each says in lists what made it."""
    mesh.script = fail_odd
    async with begin() as client:
        step = {"id": "a", **PURE, "with": {"n": "{{ input.n }}"}}
        run = await client.start(await client.save("origins", step), {"n": 1}, wait="10s")
        second = (await retry(client, run["id"]))["run"]["id"]
        third = (await fork(client, run["id"], "a", input={"n": 2}))["run"]["id"]
        await client.until(second, "FAILED")
        await client.until(third, "SUCCEEDED")
        children = await found(client, origin_run_id=run["id"])
        both = await found(client, states=[Run.FAILED, Run.SUCCEEDED], flow_id="origins")
        succeeded = (await client.runs.ListRuns(pb.ListRunsRequest(state=Run.SUCCEEDED))).runs

    assert children == [third, second]
    assert both == [third, second, run["id"]]
    assert [(one.id, one.origin.operation, one.origin.run_id) for one in succeeded] == [
        (third, "fork", run["id"])
    ]


async def test_tests_are_found_and_left_out(begin, mesh):
    """They are marked in lists, with what comes of them; failures are those of others."""
    mesh.script = fail_odd
    async with begin() as client:
        flow = await client.save("tried", {"id": "a", **PURE, "with": {"n": "{{ input.n }}"}})
        test = await client.start(flow, {"n": 1}, wait="10s", test=True)
        again = (await retry(client, test["id"]))["run"]["id"]
        await client.until(again, "FAILED")
        real = await client.start(flow, {"n": 2}, wait="10s")
        tests, others = await found(client, test=True), await found(client, test=False)
        both = (await client.runs.ListRuns(pb.ListRunsRequest())).runs
        groups = await failures(client)

    assert tests == [again, test["id"]]
    assert others == [real["id"]]
    assert [(one.id, one.test) for one in both] == [
        (real["id"], False),
        (again, True),
        (test["id"], True),
    ]
    assert groups == []


async def test_a_filter_that_is_none_is_refused(begin, mesh):
    """Rather than to find nothing, or everything."""
    async with begin() as client:
        reasons = [
            await refused(found(client, fingerprint="X")),
            await refused(found(client, state=Run.FAILED, states=[Run.FAILED])),
            await refused(found(client, trigger="t")),
            await refused(found(client, origin_run_id="x")),
            await refused(found(client, key="k" * 2000)),
            await refused(found(client, flow_id="nothing")),
            await refused(failures(client, flow_id="nothing")),
        ]

        with pytest.raises(grpc.aio.AioRpcError) as error:
            await found(client, origin_run_id="x")

    assert reasons == [*[Reason.ARGUMENT_INVALID] * 5, *[Reason.FLOW_NOT_FOUND] * 2]
    message = "origin_run_id: this should be the id of a run (a UUID)"
    assert rpc.to_error(error.value).violations == (Violation("/origin_run_id", message),)


async def test_runs_of_a_deleted_flow_are_found_by_its_id(begin, mesh):
    """In lists, among failures and by a bulk; its name is nobody's, and an id that never was is refused."""
    mesh.script = fail_odd
    async with begin() as client:
        flow = await client.save("gone", {"id": "a", **PURE, "with": {"n": 1}})
        run = await client.start(flow, wait="10s")
        await FlowServiceStub(client.channel).DeleteFlow(flow_pb.DeleteFlowRequest(flow_id=flow))
        listed = await found(client, flow_id=flow.upper())
        of_trigger = await found(client, flow_id=flow, trigger="t")
        groups = await failures(client, flow_id=flow)
        counted = await bulk(client, "retry", {"flow_id": flow}, dry_run=True)
        reasons = [
            await refused(found(client, flow_id="gone")),
            await refused(found(client, flow_id="00000000-0000-7000-8000-000000000000")),
        ]

    assert listed == [run["id"]]
    assert of_trigger == []
    assert [group.example.id for group in groups] == [run["id"]]
    assert [one["run_id"] for one in counted["runs"]] == [run["id"]]
    assert reasons == [Reason.FLOW_NOT_FOUND] * 2


async def test_all_times_of_a_calendar_are_bounds(begin, mesh):
    """Year 1 is what some clients send for no time at all; year 9999 is the last one."""
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    times: dict[str, Timestamp] = {"created_after": Timestamp(), "created_before": Timestamp()}
    times["created_after"].FromDatetime(first)
    times["created_before"].FromDatetime(last)
    mesh.script = fail_odd
    async with begin() as client:
        flow = await client.save("one", {"id": "a", **PURE, "with": {"n": 1}})
        run = await client.start(flow, wait="10s")
        listed = await found(client, **times)
        groups = await failures(client, **times)
        which = {"created_after": first.isoformat(), "created_before": last.isoformat()}
        counted = await bulk(client, "retry", which, dry_run=True)
        nothing = await found(client, created_before=times["created_after"])

    assert listed == [run["id"]]
    assert [group.example.id for group in groups] == [run["id"]]
    assert [one["run_id"] for one in counted["runs"]] == [run["id"]]
    assert nothing == []


async def test_pages_of_one_search_do_not_fit_another(begin, mesh):
    """A token says where in which list."""
    async with begin() as client:
        flow = await client.save("pages", {"id": "a", **PURE}, search_key="{{ input.k }}")
        for _ in range(2):
            await client.start(flow, {"k": "x"}, wait="10s")
        page = await client.runs.ListRuns(pb.ListRunsRequest(key="x", page_size=1))
        other = pb.ListRunsRequest(key="y", page_size=1, page_token=page.next_page_token)
        reason = await refused(client.runs.ListRuns(other))

    assert reason is Reason.PAGE_TOKEN_INVALID
