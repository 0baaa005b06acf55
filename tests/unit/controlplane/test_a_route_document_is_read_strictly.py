"""Every problem of a route is found at once, each at its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from reflux.api.routing.v1 import routing_service_pb2 as pb
from reflux.controlplane import document
from reflux.controlplane.defaults import first_route, shipped_route
from reflux.controlplane.routes import TOTAL_WEIGHT, USUAL, Ejection, Limits, Route, Target

if TYPE_CHECKING:
    from reflux.core.document import JsonValue

KNOWN = ("1.0.0", "2.0.0", "3.0.0")
PLACES = {"/node", "/revision", "/targets", "/sticky", "/salt", "/note"}
"""Members that are read, and so have a form of their own."""
ALL: dict[str, JsonValue] = {"version": "1.0.0", "weight": 10_000}


def _pointers(value: Any) -> list[str]:
    return [each.pointer for each in document.read("n", value, KNOWN).violations]


def test_a_sound_one_is_read() -> None:
    """With the defaults that the API states."""
    read = document.read(
        "n",
        {
            "revision": 4,
            "note": "canary",
            "targets": [
                {"version": "1.0.0", "weight": 9000, "fallback": ["3.0.0", "2.0.0"], "tries": 2},
                {"version": "2.0.0", "weight": 1000, "try_timeout": "0.25s"},
            ],
        },
        KNOWN,
    )
    assert not read.violations
    assert (read.revision, read.note) == (4, "canary")
    assert read.targets == (
        Target("1.0.0", 9000, ("3.0.0", "2.0.0"), 2, None),
        Target("2.0.0", 1000, (), 1, 250),
    )


@pytest.mark.parametrize(
    ("given", "limits"),
    [
        ({"max_requests": 4}, Limits(4)),
        ({"max_requests": 4, "max_pending": 2}, Limits(4, 2)),
        ({"max_requests": 0, "max_pending": 2}, Limits(None, 2)),
        ({"max_requests": 0}, None),
        ({}, None),
        (None, None),
    ],
)
def test_limits_are_read_and_kept(given: JsonValue, limits: Limits | None) -> None:
    """0 is no limit, as the API shows it; what is stored reads the same, and older routes have none."""
    (target,) = document.read("n", {"targets": [{**ALL, "limits": given}]}, KNOWN).targets
    assert target.limits == limits
    stored = document.write_targets([target])
    assert document.read_targets(stored) == (target,)
    del stored[0]["limits"]
    assert document.read_targets(stored)[0].limits is None


def test_what_the_service_fills_in_may_stand_there() -> None:
    """So that a route can be got, changed and put back."""
    got = {"node": "n", "state": "APPLIED", "waiting_for": [], "author": "ada", "update_time": "…"}
    assert not _pointers({**got, "refusal": "", "targets": [ALL]})


def test_what_the_service_fills_in_is_all_of_the_message() -> None:
    """No field of Route is forgotten, so what the API shows is always taken back."""
    shown = {field.name: None for field in pb.Route.DESCRIPTOR.fields}
    assert not [each for each in _pointers(shown) if each in {f"/{name}" for name in shown} - PLACES]


def test_two_targets_may_fall_back_to_each_other() -> None:
    """A chain is the target's own list and never goes round in a circle, so this is no mistake."""
    pair = [
        {"version": "1.0.0", "weight": 5_000, "fallback": ["2.0.0"]},
        {"version": "2.0.0", "weight": 5_000, "fallback": ["1.0.0"]},
    ]
    assert not _pointers({"targets": pair})


@pytest.mark.parametrize(
    ("value", "pointers"),
    [
        (None, [""]),
        ([], [""]),
        ({}, ["/targets"]),
        ({"targets": []}, ["/targets"]),
        ({"targets": [ALL] * 33}, ["/targets"]),
        ({"targets": [ALL], "nod": "n"}, ["/nod"]),
        ({"targets": [ALL], "node": "m"}, ["/node"]),
        ({"targets": [ALL], "revision": -1}, ["/revision"]),
        ({"targets": [ALL], "revision": True}, ["/revision"]),
        ({"targets": [ALL], "note": 7}, ["/note"]),
        ({"targets": [ALL | {"shadow": 1}]}, ["/targets/0/shadow"]),
        ({"targets": [ALL, {"version": "2.0.0", "shadow": 10_001}]}, ["/targets/1/shadow"]),
        (
            {"targets": [ALL, *({"version": v, "shadow": 6000} for v in ("2.0.0", "3.0.0"))]},
            ["/targets"],
        ),
        ({"targets": [ALL], "note": "x" * 1001}, ["/note"]),
        ({"targets": [ALL], "note": "a\0b"}, ["/note"]),
        ({"targets": ["1.0.0"]}, ["/targets/0"]),
        ({"targets": [{**ALL, "wieght": 1}]}, ["/targets/0/wieght"]),
        ({"targets": [{**ALL, "version": "9.9.9"}]}, ["/targets/0/version"]),
        ({"targets": [{"weight": 10_000}]}, ["/targets/0/version"]),
        ({"targets": [{**ALL, "weight": -1}]}, ["/targets/0/weight"]),
        ({"targets": [{**ALL, "weight": 99.5}]}, ["/targets/0/weight"]),
        ({"targets": [{**ALL, "weight": 9_999}]}, ["/targets"]),
        ({"targets": [{**ALL, "weight": 5_000}] * 2}, ["/targets/1/version"]),
        ({"targets": [{**ALL, "fallback": ["9.9.9"]}]}, ["/targets/0/fallback/0"]),
        ({"targets": [{**ALL, "fallback": "2.0.0"}]}, ["/targets/0/fallback"]),
        ({"targets": [{**ALL, "fallback": ["1.0.0"]}]}, ["/targets/0/fallback/0"]),
        ({"targets": [{**ALL, "fallback": ["2.0.0", "1.0.0"]}]}, ["/targets/0/fallback/1"]),
        ({"targets": [{**ALL, "fallback": ["2.0.0", "2.0.0"]}]}, ["/targets/0/fallback/1"]),
        ({"targets": [{**ALL, "tries": 6}]}, ["/targets/0/tries"]),
        ({"targets": [{**ALL, "limits": 4}]}, ["/targets/0/limits"]),
        ({"targets": [{**ALL, "limits": {"requests": 4}}]}, ["/targets/0/limits/requests"]),
        ({"targets": [{**ALL, "limits": {"max_requests": -1}}]}, ["/targets/0/limits/max_requests"]),
        ({"targets": [{**ALL, "limits": {"max_pending": 100_001}}]}, ["/targets/0/limits/max_pending"]),
        ({"targets": [{**ALL, "try_timeout": "0s"}]}, ["/targets/0/try_timeout"]),
        ({"targets": [{**ALL, "try_timeout": "3601s"}]}, ["/targets/0/try_timeout"]),
        ({"targets": [{**ALL, "try_timeout": 5}]}, ["/targets/0/try_timeout"]),
        ({"targets": [{**ALL, "try_timeout": "5m"}]}, ["/targets/0/try_timeout"]),
    ],
)
def test_a_mistake_is_named_at_its_place(value: JsonValue, pointers: list[str]) -> None:
    """A JSON pointer into the document, and nothing else is blamed."""
    assert _pointers(value) == pointers


def test_all_mistakes_are_named_together() -> None:
    """One answer, not one per attempt."""
    value = {"note": 1, "extra": 1, "targets": [{"version": "9", "weight": -5, "tries": 99}, 3]}
    assert _pointers(value) == [
        "/extra",
        "/note",
        "/targets/0/version",
        "/targets/0/weight",
        "/targets/0/tries",
        "/targets/1",
    ]


def test_a_chain_has_an_end() -> None:
    """At most 16 tries, counted over all its versions."""
    versions = tuple(f"{number}.0.0" for number in range(4))
    targets = [{"version": each, "weight": 0, "tries": 5} for each in versions]
    targets[0] |= {"weight": TOTAL_WEIGHT, "fallback": list(versions[1:])}
    read = document.read("n", {"targets": targets}, versions)
    assert [each.pointer for each in read.violations] == ["/targets/0"]
    assert "20 tries" in read.violations[0].message


def test_stored_targets_come_back_as_they_were() -> None:
    """The database's form is our own and loses nothing."""
    targets = (Target("1", 9000, ("2",), 3, 250), Target("2", 1000))
    assert document.read_targets(document.write_targets(targets)) == targets


def test_shipped_nodes_have_shipped_routes_and_others_start_with_their_first_version() -> None:
    """A first route has one version, the one with a share before others; none is named that is not there."""

    def first(node: str, *versions: str) -> list[tuple[str, int]]:
        return [(each.version, each.weight) for each in first_route(node, versions).route.targets]

    assert first("http.request", "2.0.0", "1.0.0") == [("1.0.0", 10_000)]
    assert first("http.request", "2.0.0") == [("2.0.0", 10_000)]
    assert first("http.request", "mine") == [("mine", 10_000)]
    assert first("my.node", "7", "8") == [("7", 10_000)]
    shipped = shipped_route("http.request")
    assert shipped is not None
    assert shipped.among(shipped.versions()) == shipped


def test_what_is_sticky_is_an_expression_over_the_input() -> None:
    """Its problems are found when the route is written, not when calls are made; the salt may be left out."""
    read = document.read("n", {"targets": [ALL], "sticky": "input.?customer ?? input.id", "salt": "s"}, KNOWN)
    assert (read.sticky, read.salt, read.violations) == ("input.?customer ?? input.id", "s", ())
    absent = document.read("n", {"targets": [ALL]}, KNOWN)
    assert (absent.sticky, absent.salt) == ("", None)
    for wrong in ("{{ input.customer }}", "input.", "vars.customer", "'all the same'", 7, "a" * 1_001):
        assert _pointers({"targets": [ALL], "sticky": wrong}) == ["/sticky"], wrong
    assert _pointers({"targets": [ALL], "salt": "s" * 65}) == ["/salt"]


def test_a_route_is_kept_as_it_is_and_an_older_one_is_still_read() -> None:
    """Rows of before there was anything but targets have no salt, and get none by being read."""
    route = Route("n", 3, (Target("1.0.0", 10_000),), "input.customer", "s")
    assert document.read_policy("n", 3, document.write_policy(route)) == route
    old = document.write_targets(route.targets)
    assert document.read_policy("n", 3, old) == Route("n", 3, route.targets, "", "")


def test_ejection_settings_are_read_and_their_absence_is_the_default() -> None:
    """Each for itself; and what is kept comes back."""
    given = {"consecutive": 2, "base_time": "1.5s"}
    read = document.read("n", {"targets": [{**ALL, "ejection": given}]}, KNOWN)
    assert read.violations == ()
    (target,) = read.targets
    assert target.ejection == Ejection(consecutive=2, base_time_ms=1_500)
    route = Route("n", 1, read.targets)
    assert document.read_policy("n", 1, document.write_policy(route)) == route
    assert (route.ejection("1.0.0"), route.ejection("2.0.0")) == (target.ejection, USUAL)


def test_an_ejection_that_means_nothing_is_refused_at_its_place() -> None:
    """Every field has bounds, and there are no others."""
    wrong = {
        "threshold_percent": 101,
        "consecutive": -1,
        "interval": "0.05s",
        "base_time": 30,
        "min_requests": 1.5,
        "after": 3,
    }
    place = "/targets/0/ejection"
    assert set(_pointers({"targets": [{**ALL, "ejection": wrong}]})) == {f"{place}/{key}" for key in wrong}
    assert _pointers({"targets": [{**ALL, "ejection": "never"}]}) == [place]
