"""What differs between two routes is said per target and field, as people think of it."""

from __future__ import annotations

from reflux.controlplane import diff as module
from reflux.controlplane.diff import Change
from reflux.controlplane.routes import Limits, Route, Target

OLD = (Target("1", 9000, ("2",)), Target("2", 1000, (), 2, 250))


def diff(before: tuple[Target, ...], after: tuple[Target, ...]) -> tuple[Change, ...]:
    """Of routes that have these targets, and nothing else."""
    return module.diff(Route("n", 1, before), Route("n", 2, after))


def test_equal_routes_do_not_differ() -> None:
    """An empty list, not a list of equal things."""
    assert diff(OLD, OLD) == ()


def test_each_field_is_a_difference_of_its_own() -> None:
    """By version; a value that was or is absent is empty."""
    new = (Target("1", 7000, ("2", "3"), 1, 1500), Target("2", 3000, (), 1))
    assert diff(OLD, new) == (
        Change("1", "weight", "9000", "7000"),
        Change("1", "fallback", '["2"]', '["2","3"]'),
        Change("1", "try_timeout", "", '"1.5s"'),
        Change("2", "weight", "1000", "3000"),
        Change("2", "tries", "2", "1"),
        Change("2", "try_timeout", '"0.25s"', ""),
    )


def test_limits_are_a_difference() -> None:
    """As the API writes them, without what is no limit."""
    one, other = (Target("1", 1, limits=limits) for limits in (None, Limits(4)))
    assert diff((one,), (other,)) == (Change("1", "limits", "", '{"max_requests":4}'),)
    assert diff((other,), (one,)) == (Change("1", "limits", '{"max_requests":4}', ""),)


def test_a_target_comes_and_goes_whole() -> None:
    """With all that it was or is. At the end a new one changes no order."""
    gone = '{"version":"2","weight":1000,"fallback":[],"tries":2,"try_timeout":"0.25s"}'
    come = '{"version":"3","weight":1000,"fallback":["1"],"tries":1}'
    assert diff(OLD, (OLD[0], Target("3", 1000, ("1",)))) == (
        Change("3", "target", "", come),
        Change("2", "target", gone, ""),
    )
    assert [(each.version, each.field) for each in diff((), OLD)] == [("1", "target"), ("2", "target")]


def test_order_is_a_difference_because_it_moves_users() -> None:
    """Targets that changed places, and a new one that is not the last."""
    assert diff(OLD, OLD[::-1]) == (Change("", "order", '["1","2"]', '["2","1"]'),)
    first = diff(OLD, (Target("3", 0), *OLD))
    assert first[-1] == Change("", "order", '["1","2"]', '["3","1","2"]')
    assert len(first) == 2


def test_a_long_limit_is_exact() -> None:
    """Milliseconds become seconds without rounding."""
    (change,) = diff((Target("1", 1, (), 1, 3_599_999),), (Target("1", 1, (), 1, 3_600_000),))
    assert (change.before, change.after) == ('"3599.999s"', '"3600s"')


def test_what_is_the_routes_own_is_named_without_a_version() -> None:
    """What is sticky came, or went; another salt deals all values anew. The first salt is nobody's choice."""
    plain, sticky = Route("n", 1, OLD), Route("n", 2, OLD, "input.customer")
    assert module.diff(plain, sticky) == (Change("", "sticky", "", '"input.customer"'),)
    assert module.diff(sticky, plain) == (Change("", "sticky", '"input.customer"', ""),)
    assert module.diff(plain, Route("n", 2, OLD, salt="new")) == (Change("", "salt", '""', '"new"'),)
    assert {each.field for each in module.diff(None, Route("n", 1, OLD, salt="first"))} == {"target"}
