"""A run goes from accepted to its end, and everything anybody sees of it is in its journal."""


async def test_a_flow_of_pure_steps_succeeds_with_one_row_a_step(begin, mesh):
    """Three trivial steps write five events: created, one for each step, finished."""

    async def double(given, envelope, context):
        return {"n": given["n"] * 2}

    mesh.script = double
    steps = [
        {"id": "a", "node": "work.pure", "with": {"n": "{{ input.n }}"}},
        {"id": "b", "node": "work.pure", "with": {"n": "{{ steps.a.output.n }}"}},
        {"id": "c", "node": "work.pure", "with": {"n": "{{ steps.b.output.n }}"}},
    ]
    async with begin() as client:
        flow = await client.save("doubles", *steps)
        run = await client.start(flow, {"n": 1}, wait="10s")
        kinds = [
            event["kind"] for event in await client.events(run["id"]) if event["kind"] != "AttemptStarted"
        ]  # a slow attempt is shown by an event of its own

    assert run["state"] == "SUCCEEDED"
    assert run["output"] == {"n": 8}
    assert kinds == ["RunCreated", "AttemptFinished", "AttemptFinished", "AttemptFinished", "RunFinished"]


async def test_an_id_is_an_id_in_letters_of_any_case(begin, mesh):
    """That of a flow is not taken for a name, and that of a run is the same run in every list."""
    async with begin() as client:
        flow = await client.save("shouted", {"id": "r", "return": 1})
        run = await client.start(flow.upper(), wait="10s")
        shouted = run["id"].upper()
        steps = await client.steps(shouted)
        same = await client.run(shouted)

    assert (run["flow_id"], same["id"], same["output"]) == (flow, run["id"], 1)
    assert list(steps) == ["r"]
