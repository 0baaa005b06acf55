"""Deliveries become runs: once, of the flow as it is, and of nobody's who cannot prove who it is."""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from typing import TYPE_CHECKING, Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from reflux.api.flow.v1 import flow_service_pb2 as flow_pb
from reflux.api.flow.v1.flow_service_pb2_grpc import FlowServiceStub
from reflux.api.trigger.v1 import trigger_service_pb2 as pb
from reflux.api.trigger.v1.trigger_service_pb2_grpc import TriggerServiceStub
from reflux.core.errors import RefluxError
from reflux.core.reasons import Reason
from reflux.orchestrator.triggers.store import TriggerStore
from reflux.runtime import rpc

if TYPE_CHECKING:
    from tests.support.scripted_mesh import Client

JSON = "application/json"
KEY = b"a key of thirty-two bytes, about"
STEP = {"id": "a", "node": "work.pure", "with": {"given": "{{ input }}", "by": "{{ trigger.?id ?? '' }}"}}


def hook(path: str = "orders", **keys: Any) -> dict[str, Any]:
    return {"id": "hook", "type": "webhook", "path": path, **keys}


async def deliver(
    client: Client, body: bytes = b"{}", path: str = "orders", content_type: str = JSON, **headers: str
) -> pb.DeliverWebhookResponse:
    """One delivery; raises the error that the server raised."""
    given = {"content-type": content_type, **{k.replace("_", "-"): v for k, v in headers.items()}}
    fields = [pb.HeaderField(name=name, value=value) for name, value in given.items()]
    request = pb.DeliverWebhookRequest(method="POST", path=path, headers=fields, body=body)
    try:
        return await TriggerServiceStub(client.channel).DeliverWebhook(request, timeout=60)
    except grpc.RpcError as error:
        raise rpc.to_error(error) from None


async def refusal(awaitable: Any) -> RefluxError:
    with pytest.raises(RefluxError) as caught:
        await awaitable
    return caught.value


async def replace(client: Client, name: str, **spec: Any) -> None:
    document = orjson.dumps({"name": name, "spec": spec})
    body = HttpBody(content_type=JSON, data=document)
    request = flow_pb.ReplaceFlowRequest(flow_id=name, document=body)
    await FlowServiceStub(client.channel).ReplaceFlow(request)


def signed(body: bytes, delivery: str = "d1", stamp: int | None = None, key: bytes = KEY) -> dict[str, str]:
    """Headers of Standard Webhooks."""
    now = int(time.time()) if stamp is None else stamp
    mac = hmac.digest(key, f"{delivery}.{now}.".encode() + body, "sha256")
    signature = f"v1,{base64.b64encode(mac).decode()}"
    return {"webhook_id": delivery, "webhook_timestamp": str(now), "webhook_signature": signature}


async def test_a_delivery_starts_a_run_that_knows_its_trigger(begin, mesh):
    """In its journal, in its document, and for its steps; a run that a person started has none."""
    async with begin() as client:
        flow = await client.save("orders", STEP, triggers=[hook()])
        delivered = await deliver(client, b'{"n": 9007199254740993}')
        assert (delivered.duplicate, delivered.response) == (False, pb.Trigger.ACCEPTED)
        run = await client.until(delivered.run_id, "SUCCEEDED")
        created = (await client.events(run["id"]))[0]["data"]
        steps = await client.steps(run["id"])
        by_hand = await client.start(flow, {})
        await client.until(by_hand["id"], "SUCCEEDED")
        steps_by_hand = await client.steps(by_hand["id"])

    assert (run["trigger"], run["actor"], run["input"]) == ("hook", "trigger:hook", {"n": 9007199254740993})
    assert (created["trigger"], created["actor"]) == ("hook", "trigger:hook")
    assert steps["a"]["input"]["by"] == "hook"
    assert (by_hand["trigger"], steps_by_hand["a"]["input"]["by"]) == ("", "")


async def test_a_hundred_equal_deliveries_at_two_orchestrators_start_one_run(begin, mesh):
    """All of them are answered with the one run, and one of them began it."""
    async with begin() as one, begin() as other:
        await one.save("orders", STEP, triggers=[hook()])
        answers = await asyncio.gather(
            *(deliver((one, other)[n % 2], b'{"n": 1}', webhook_id="msg_1") for n in range(100))
        )
        await one.until(answers[0].run_id, "SUCCEEDED")

    assert len({answer.run_id for answer in answers}) == 1
    assert [answer.duplicate for answer in answers].count(False) == 1
    assert mesh.runs("a") == {answers[0].run_id}


async def test_without_a_delivery_id_each_delivery_is_a_run(begin):
    """Equal bodies may mean two orders."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook()])
        first, second = await deliver(client), await deliver(client)
    assert first.run_id != second.run_id


async def test_a_delivery_id_is_not_reused_for_another_body(begin):
    """Within its trigger; another trigger has ids of its own."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook()])
        await client.save("others", STEP, triggers=[hook("others")])
        first = await deliver(client, b'{"n": 1}', webhook_id="d")
        error = await refusal(deliver(client, b'{"n": 2}', webhook_id="d"))
        other = await deliver(client, b'{"n": 2}', path="others", webhook_id="d")
    assert error.reason is Reason.REQUEST_ID_REUSED
    assert error.metadata["run_id"] == first.run_id
    assert "delivery id" in error.message
    assert not other.duplicate


async def test_a_repetition_is_honest_whatever_the_flow_has_become(begin):
    """Another template, another schema: what was sent is the same, and so is the run."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook()])
        first = await deliver(client, b'{"n": 1}', webhook_id="d")
        changed = hook(input={"m": "{{ request.body.missing }}"})
        await replace(client, "orders", triggers=[changed], steps=[STEP])
        assert (await deliver(client, b'{"n": 1}', webhook_id="d")).run_id == first.run_id
        assert (await refusal(deliver(client, b'{"n": 1}'))).reason is Reason.EXPRESSION_FAILED
        strict = {"type": "object", "required": ["m"]}
        await replace(client, "orders", input=strict, triggers=[hook()], steps=[STEP])
        again = await deliver(client, b'{"n": 1}', webhook_id="d")
        assert (again.run_id, again.duplicate) == (first.run_id, True)
        assert (await refusal(deliver(client, b'{"n": 1}'))).reason is Reason.INPUT_INVALID


async def test_a_sender_that_waits_gets_the_run_as_it_ended(begin, mesh):
    """Whoever repeats the delivery meanwhile gets the end of the same run."""
    go = asyncio.Event()

    async def work(given, envelope, context):
        await go.wait()
        return {"said": given["given"]}

    mesh.script = work
    async with begin() as one, begin() as other:
        await one.save("orders", STEP, triggers=[hook(respond="run")])
        waiting = [
            asyncio.ensure_future(deliver(client, b'{"n": 1}', webhook_id="d")) for client in (one, other)
        ]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        go.set()
        answers = await asyncio.gather(*waiting)

    runs = [orjson.loads(answer.run) for answer in answers]
    assert {answer.response for answer in answers} == {pb.Trigger.RUN}
    assert runs[0]["id"] == runs[1]["id"]
    assert [run["state"] for run in runs] == ["SUCCEEDED"] * 2
    assert [run["output"] for run in runs] == [{"said": {"n": 1}}] * 2


async def test_a_sender_waits_no_longer_than_the_trigger_says(begin, mesh):
    """The run goes on, and is answered as it stands."""

    async def work(given, envelope, context):
        await asyncio.sleep(30)

    mesh.script = work
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook(respond="run", timeout="200ms")])
        run = orjson.loads((await deliver(client)).run)
        assert run["state"] == "RUNNING"
        await client.cancel(run["id"])


async def test_who_says_so_is_not_made_to_wait(begin, mesh):
    """The run is durable and goes on; a gateway without room for one more asks like this."""
    go = asyncio.Event()

    async def work(given, envelope, context):
        await go.wait()

    mesh.script = work
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook(respond="run", timeout="300s")])
        request = pb.DeliverWebhookRequest(method="POST", path="orders", do_not_wait=True)
        answer = await TriggerServiceStub(client.channel).DeliverWebhook(request, timeout=60)
        assert (answer.response, answer.run, answer.duplicate) == (pb.Trigger.ACCEPTED, b"", False)
        go.set()
        await client.until(answer.run_id, "SUCCEEDED")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "a\0b"), ("PO\0ST", "a"), ("TRACE", "a"), ("POST", "A"), ("POST", "/orders")],
)
async def test_a_path_that_can_be_nobodys_is_not_looked_up(begin, monkeypatch, method, path):
    """Strangers cost no read with it, and what the database could not even be asked is no defect."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook()])
        monkeypatch.setattr(TriggerStore, "owners", None)
        stub = TriggerServiceStub(client.channel)
        with pytest.raises(grpc.RpcError) as refused:
            await stub.DeliverWebhook(pb.DeliverWebhookRequest(method=method, path=path), timeout=60)
        with pytest.raises(grpc.RpcError) as missing:
            await stub.GetTrigger(pb.GetTriggerRequest(flow_id="orders", trigger_id=f"A\0{path}"))
    assert rpc.to_error(refused.value).reason is Reason.WEBHOOK_NOT_FOUND
    assert rpc.to_error(missing.value).reason is Reason.TRIGGER_NOT_FOUND


async def test_only_who_has_the_secret_may_send(begin, monkeypatch):
    """Right, wrong, none, replayed; and nothing of the proof is kept."""
    monkeypatch.setenv("SHOP_SECRET", "whsec_" + base64.b64encode(KEY).decode())
    body = b'{"n": 1}'
    trigger = hook(auth="hmac", secret={"env": "SHOP_SECRET"}, input="{{ request }}")
    async with begin() as client:
        await client.save("orders", STEP, triggers=[trigger])
        right = signed(body)
        delivered = await deliver(client, body, **right)
        run = await client.until(delivered.run_id, "SUCCEEDED")
        assert (await deliver(client, body, **signed(body, stamp=int(time.time()) - 60))).duplicate
        for wrong in ({}, signed(body, key=b"x"), signed(body + b" "), {**right, "webhook_id": "d2"}):
            assert (await refusal(deliver(client, body, **wrong))).reason is Reason.SIGNATURE_INVALID
        old = signed(body, delivery="d3", stamp=int(time.time()) - 400)
        assert (await refusal(deliver(client, body, **old))).reason is Reason.DELIVERY_REPLAYED
        kept = orjson.dumps([run, await client.events(run["id"])]).decode()
    assert right["webhook_signature"].removeprefix("v1,") not in kept
    assert "webhook-signature" not in kept
    assert run["input"]["headers"]["webhook-id"] == "d1"


async def test_an_event_of_stripe_starts_one_run_however_often_it_comes(begin, monkeypatch):
    """It has no header of its own: the id stands in the body, signed, and what is around it may change."""
    monkeypatch.setenv("STRIPE_SECRET", "whsec_test")

    def sent(body: bytes, stamp: int) -> dict[str, str]:
        mac = hmac.new(b"whsec_test", f"{stamp}.".encode() + body, "sha256").hexdigest()
        return {"stripe_signature": f"t={stamp},v1={mac}"}

    async with begin() as client:
        trigger = hook(auth="hmac", secret={"env": "STRIPE_SECRET"}, signature="stripe")
        await client.save("orders", STEP, triggers=[trigger])
        now = int(time.time())
        events = [b'{"id": "evt_1", "pending_webhooks": %d}' % n for n in (2, 2, 1)]
        first, again, later = [await deliver(client, e, **sent(e, now - n)) for n, e in enumerate(events)]
        other = await deliver(client, b'{"id": "evt_2"}', **sent(b'{"id": "evt_2"}', now))
        nameless = [await deliver(client, b'{"id": 1}', **sent(b'{"id": 1}', now)) for _ in range(2)]
        long = b'{"id": "%s"}' % (b"x" * 257)
        error = await refusal(deliver(client, long, **sent(long, now)))
    assert {first.run_id, again.run_id, later.run_id} == {first.run_id}
    assert [answer.duplicate for answer in (first, again, later, other)] == [False, True, True, False]
    assert nameless[0].run_id != nameless[1].run_id
    assert error.reason is Reason.ARGUMENT_INVALID


async def test_a_secret_that_is_not_set_keeps_the_delivery_out(begin, caplog):
    """The operator's matter: worth another try for the sender, with the variable's name in the log alone."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook(auth="hmac", secret={"env": "NOT_SET_HERE"})])
        error = await refusal(deliver(client, b"{}", **signed(b"{}")))
    assert error.reason is Reason.SECRET_MISSING
    assert "NOT_SET_HERE" not in error.message
    assert any("webhook_secret_missing" in record.getMessage() for record in caplog.records)


async def test_a_path_leads_where_the_flows_are_now(begin):
    """Through this orchestrator at once, through another one within its second."""
    async with begin() as one, begin() as other:
        assert (await refusal(deliver(one))).reason is Reason.WEBHOOK_NOT_FOUND
        await one.save("orders", STEP, triggers=[hook()])
        for client in (one, other):
            await deliver(client)
        await replace(one, "orders", steps=[STEP])
        await one.save("heir", STEP, triggers=[hook()])
        heir = (await deliver(one)).run_id
        assert (await one.run(heir))["flow_name"] == "heir"
        await asyncio.sleep(1.1)
        assert (await other.run((await deliver(other)).run_id))["flow_name"] == "heir"
        await FlowServiceStub(one.channel).DeleteFlow(flow_pb.DeleteFlowRequest(flow_id="heir"))
        assert (await refusal(deliver(one))).reason is Reason.WEBHOOK_NOT_FOUND
        await asyncio.sleep(1.1)
        assert (await refusal(deliver(other))).reason is Reason.WEBHOOK_NOT_FOUND


async def test_a_new_version_is_served_at_once_wherever_its_path_is_new(begin):
    """An orchestrator that remembers the flow's former version sees that the table is ahead."""
    async with begin() as one, begin() as other:
        flow = await one.save("orders", STEP)
        await other.start(flow, {})
        await replace(one, "orders", triggers=[hook()], steps=[STEP])
        await deliver(other)


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"{", JSON, Reason.DOCUMENT_UNREADABLE),
        (b"x" * ((1 << 20) + 1), "text/plain", Reason.DOCUMENT_TOO_LARGE),
        (b"x" * (1 << 20), "application/octet-stream", Reason.DOCUMENT_TOO_LARGE),
        (b"x", "text/plain; charset=utf-7", Reason.CONTENT_TYPE_UNSUPPORTED),
    ],
)
async def test_what_no_run_can_take_is_refused(begin, body, content_type, reason):
    """Unreadable, too large, too large once it is text, in a strange charset."""
    async with begin() as client:
        await client.save("orders", STEP, triggers=[hook()])
        assert (await refusal(deliver(client, body, content_type=content_type))).reason is reason


async def test_triggers_are_listed_by_flow_and_id(begin):
    """Page by page, of all flows or of one; each one by itself."""
    async with begin() as client:
        stub = TriggerServiceStub(client.channel)
        for name in ("b", "a"):
            triggers = [{**hook(f"{name}/{n}"), "id": f"t{n}"} for n in (1, 0)]
            await client.save(name, STEP, triggers=triggers)
        found, token = [], ""
        while True:
            page = await stub.ListTriggers(pb.ListTriggersRequest(page_size=3, page_token=token))
            found += [(trigger.flow_name, trigger.id) for trigger in page.triggers]
            if not (token := page.next_page_token):
                break
        mine = await stub.ListTriggers(pb.ListTriggersRequest(flow_id="a"))
        one = await stub.GetTrigger(pb.GetTriggerRequest(flow_id="a", trigger_id="t1"))
        with pytest.raises(grpc.RpcError) as missing:
            await stub.GetTrigger(pb.GetTriggerRequest(flow_id="a", trigger_id="t2"))
        with pytest.raises(grpc.RpcError) as nowhere:
            await stub.ListTriggers(pb.ListTriggersRequest(flow_id="c"))

    assert found == [("a", "t0"), ("a", "t1"), ("b", "t0"), ("b", "t1")]
    assert [trigger.id for trigger in mine.triggers] == ["t0", "t1"]
    assert (one.type, one.method, one.path, one.auth) == (pb.Trigger.WEBHOOK, "POST", "/hooks/a/1", "none")
    assert (one.flow_version, one.response) == (1, pb.Trigger.ACCEPTED)
    assert one.create_time.seconds
    assert rpc.to_error(missing.value).reason is Reason.TRIGGER_NOT_FOUND
    assert rpc.to_error(nowhere.value).reason is Reason.FLOW_NOT_FOUND
