"""What is not enough is shared between flows by turns: a burst of one starves nobody."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from reflux.orchestrator.fairness import SHARE, FairPlaces, FairQueue, Shares, Turn, in_turns


def by_name(name: str) -> Turn:
    """`a1` is of flow a and of usual priority; `a1!9` says another one."""
    flow, _, priority = name.partition("!")
    return Turn(flow[0], int(priority or 5))


def test_a_backlog_of_one_flow_does_not_delay_another():
    """Five thousand of A wait; the one of B that comes last is second."""
    queue = FairQueue(by_name)
    for number in range(5_000):
        queue.append(f"a{number}")
    assert queue.popleft() == "a0"
    queue.append("b0")
    served = [queue.popleft() for _ in range(2)]
    assert "b0" in served


def test_within_a_flow_the_higher_priority_is_first_and_then_who_came_first():
    """As in the queue for a slot."""
    assert in_turns(["a1", "a2!9", "a3", "a4!9", "a5!0"], by_name) == ["a2!9", "a4!9", "a1", "a3", "a5!0"]


def test_turns_follow_priorities_and_nobody_is_left_out():
    """Priority 9 gets ten turns for one of priority 0."""
    order = in_turns(
        [f"{flow}{n}!{priority}" for flow, priority in ("a9", "b0") for n in range(110)], by_name
    )
    first = order[:110]
    assert sum(name[0] == "a" for name in first) == pytest.approx(100, abs=2)


def test_who_comes_again_and_again_passes_nobody():
    """B never waits with more than one, and comes back as soon as it was served: A gets every other turn."""
    queue = FairQueue(by_name)
    for number in range(100):
        queue.append(f"a{number}")
    queue.append("b")
    served = ""
    for _ in range(60):
        item = queue.popleft()
        served += item[0]
        if item == "b":
            queue.append("b")
    assert served.count("a") == pytest.approx(30, abs=1)


def test_what_was_taken_too_early_is_next_again():
    """And whose turn it is after it stays so."""
    queue = FairQueue(by_name)
    for name in ("a1", "b1", "a2"):
        queue.append(name)
    taken = queue.popleft()
    queue.appendleft(taken)
    assert len(queue) == 3
    assert [queue.popleft() for _ in range(3)] == [taken, *(["b1", "a2"] if taken == "a1" else ["a1", "a2"])]
    with pytest.raises(IndexError):
        queue.popleft()


@pytest.mark.parametrize("seed", range(20))
def test_no_flow_is_ever_far_behind_another(seed):
    """Of flows that wait all the time, turns differ by one at most, whatever comes and goes beside them."""
    chance, queue = Random(seed), FairQueue(by_name)
    for number in range(300):
        queue.append(f"a{number}")
        queue.append(f"b{number}")
    turns = {"a": 0, "b": 0}
    for _ in range(400):
        if chance.random() < 0.5:
            queue.append(f"{chance.choice('cdefg')}{chance.random()}")
        flow = queue.popleft()[0]
        if flow in turns:
            turns[flow] += 1
        assert abs(turns["a"] - turns["b"]) <= 1
        if not turns["a"] < 290:
            break


def test_one_flow_alone_gets_most_and_leaves_some():
    """A fills what it may; B, which has none, still gets in, and A does not."""
    shares, room = Shares(), 1_000
    while not shares.used_up("a", room):
        shares.add("a")
        room -= 1
    assert room == pytest.approx(1_000 / (SHARE + 1), abs=2)
    assert not shares.used_up("b", room)
    shares.drop("a")
    assert not shares.used_up("a", room + 1)


async def test_a_free_place_goes_to_the_next_flow():
    """Two places, taken by A, for which many of A wait: B gets the next one that is free."""
    places, order, tasks = FairPlaces(2), [], []

    async def call(name: str) -> None:
        await places.take(by_name(name))
        order.append(name)
        await asyncio.sleep(0)
        places.give()

    tasks += [asyncio.ensure_future(call(f"a{number}")) for number in range(50)]
    await asyncio.sleep(0)
    tasks.append(asyncio.ensure_future(call("b0")))
    await asyncio.gather(*tasks)
    assert len(order) == 51
    assert order.index("b0") <= 4


async def test_who_gives_up_waiting_takes_no_place():
    """Whenever that is, also in the very moment in which it was granted: no place is lost."""
    places = FairPlaces(1)
    inside, leave = asyncio.Event(), asyncio.Event()

    async def hold(event: asyncio.Event) -> None:
        await places.take(by_name("a"))
        inside.set()
        await event.wait()
        places.give()

    holder = asyncio.ensure_future(hold(leave))
    await inside.wait()
    early, late = [asyncio.ensure_future(hold(leave)) for _ in range(2)]
    await asyncio.sleep(0)
    early.cancel()
    leave.set()
    await holder
    late.cancel()  # granted a moment ago, and not awake yet
    await asyncio.gather(early, late, return_exceptions=True)
    async with asyncio.timeout(5):
        await hold(leave)
