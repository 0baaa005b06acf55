"""What a flow declares of a call is what the call is made with."""

import grpc

from tests.support.scripted_mesh import claim

PAY = {"id": "pay", "node": "work.once", "effect": "idempotent", "result": "{{ self.output.id }}"}


async def test_a_declared_class_decides_what_may_be_asked_again(begin, mesh):
    """The node would be parked as at_most_once; as idempotent it is asked again with the same key."""

    async def vanish_once(given, envelope, context):
        await claim(envelope, scope="account")
        if envelope["x-reflux-attempt"] == "1":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return {"id": 7}

    mesh.script = vanish_once
    async with begin() as client:
        run = await client.start(await client.save("declared", PAY), wait="20s")
        steps = await client.steps(run["id"])

    assert (run["state"], run["output"]) == ("SUCCEEDED", 7)
    assert [attempt["effect"] for attempt in steps["pay"]["attempts"]] == ["idempotent"] * 2
    first, second = mesh.calls
    assert first["x-reflux-effect-declared"] == "1"
    assert first["x-reflux-idempotency-key"] == second["x-reflux-idempotency-key"]
