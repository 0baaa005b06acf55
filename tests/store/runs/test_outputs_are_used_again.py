"""The cache of step results: an output is used again while it holds, says so, and nothing depends on it."""

import pytest

PURE = {"node": "work.pure"}


def step(**keys):
    """A pure step with a cache."""
    return {"id": "a", **PURE, "with": {"n": "{{ input.n }}"}, "cache": {"ttl": "1m"}, **keys}


async def number(given, envelope, context):
    """A new output each time."""
    number.calls += 1
    return {"call": number.calls}


@pytest.fixture(autouse=True)
def _none_called(mesh):
    number.calls = 0
    mesh.script = number


async def outputs(client, flow, *inputs):
    """What runs of a flow give, one after the other."""
    return [(await client.start(flow, given, wait="20s"))["output"] for given in inputs]


async def test_the_same_input_is_not_asked_twice(begin, mesh):
    """However its keys are written; another input is. The attempt says where its outcome comes from."""
    async with begin() as client:
        flow = await client.save("cached", step(), output="{{ steps.a.output.call }}")
        found = await outputs(client, flow, {"n": 1}, {"x": 0, "n": 1}, {"n": 2})
        run = await client.start(flow, {"n": 1}, wait="20s")
        (attempt,) = (await client.steps(run["id"]))["a"]["attempts"]

    assert (found, number.calls) == ([1, 1, 2], 2)
    assert (attempt["reason"], attempt["outcome"]) == ("cache", "DONE")
    assert attempt["tries"] == 0


async def test_a_key_says_what_is_the_same(begin):
    """Whatever the input is; and `result` maps what was kept."""
    cache = {"ttl": "1m", "key": "{{ input.key }}"}
    async with begin() as client:
        flow = await client.save("keyed", step(cache=cache, result="{{ [self.output.call, input.n] }}"))
        found = await outputs(client, flow, {"key": "k", "n": 1}, {"key": "k", "n": 2}, {"key": "l", "n": 3})

    assert found == [[1, 1], [1, 2], [2, 3]]


async def test_other_flows_and_steps_have_their_own(begin):
    """An output is never found by what was not asked for the same way."""
    async with begin() as client:
        one = await client.save(
            "one", step(), step(id="b"), output="{{ [steps.a.output.call, steps.b.output.call] }}"
        )
        two = await client.save("two", step(), output="{{ steps.a.output.call }}")
        found = [*await outputs(client, one, {"n": 1}, {"n": 1}), *await outputs(client, two, {"n": 1})]

    assert found == [[1, 2], [1, 2], 3]


async def test_an_output_holds_for_its_time(begin):
    """After that the call is made again."""
    async with begin() as client:
        wait = {"id": "w", "wait": {"for": "1500ms"}}
        again = step(id="b", cache={"ttl": "1s", "key": "k"})
        loop = {"foreach": {"in": [1, 2], "as": "it"}, "steps": [again, wait]}
        flow = await client.save("short", {"id": "l", **loop, "result": "{{ steps.b.output.call }}"})
        assert await outputs(client, flow, {"n": 1}) == [[1, 2]]


async def test_without_redis_the_call_is_made(begin):
    """It is away: every run goes on as if there were no cache."""
    async with begin(redis_url="redis://127.0.0.1:1/0") as client:
        flow = await client.save("away", step(), output="{{ steps.a.output.call }}")
        assert await outputs(client, flow, {"n": 1}, {"n": 1}) == [1, 2]


async def test_a_call_that_may_have_an_effect_is_refused(begin, mesh):
    """The class is known when the input is: the step fails, and nothing was sent."""
    async with begin() as client:
        flow = await client.save("effects", step(node="work.once"))
        run = await client.start(flow, {"n": 1}, wait="20s")

    assert (run["state"], run["error"]["reason"]) == ("FAILED", "CACHE_NOT_PURE")
    assert mesh.calls == []
