"""Anybody with a link may send a document, and the orchestrator does nothing else while it is checked."""

from __future__ import annotations

import time

import pytest

from reflux.core.flow import Schema

TOO_LONG = "this takes too long to check against the schema: give it fewer or smaller parts"
ROW = {
    "type": "object",
    "required": ["id", "name"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 0},
        "name": {"type": "string", "maxLength": 50},
        "price": {"type": "number"},
        "tags": {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", "c"]}},
    },
}


def timed(schema, value, **keys):
    """The violations, and the seconds of this thread that they cost."""
    compiled = Schema.compile(schema)
    began = time.thread_time()
    found = compiled.violations(value, **keys)
    return found, time.thread_time() - began


def nested(levels, inside, around):
    for _ in range(levels):
        inside = around(inside)
    return inside


def test_a_million_bytes_of_ordinary_rows_are_checked():
    """What no attack is must not be taken for one; the last of them is as wrong as the first."""
    rows = [
        {"id": n, "name": f"name of number {n}", "price": n * 1.5, "tags": ["a", "b"]} for n in range(11_000)
    ]
    assert timed({"items": ROW}, rows)[0] == ()
    rows[-1] = {**rows[-1], "price": "x"}
    found, _ = timed({"items": ROW}, rows)
    assert [(each.pointer, each.message) for each in found] == [
        ("/10999/price", "'x' is not of type 'number'")
    ]


def test_unique_items_are_told_apart_in_one_pass():
    """By a set, not each with each: 8,000 objects took a minute and a half."""
    found, seconds = timed({"uniqueItems": True}, [{"a": n} for n in range(8_000)])
    assert (found, seconds < 1) == ((), True)
    found, _ = timed({"uniqueItems": True}, [*({"a": n} for n in range(8_000)), {"a": 7_000.0}])
    assert [each.message.endswith("has non-unique elements") for each in found] == [True]


def test_items_whose_hashes_collide_are_as_quick():
    """Python hashes -1 as -2: lists of them all fall into one place of a set."""
    items = [[-1 if n >> bit & 1 else -2 for bit in range(12)] for n in range(4_096)]
    found, seconds = timed({"uniqueItems": True}, items)
    assert (found, seconds < 1) == ((), True)


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"anyOf": [{"const": n} for n in range(1_000)]}}, [999] * 3_000),
        ({"items": {"enum": [[n] for n in range(1_000)]}}, [[999]] * 200_000),
        ({"items": {"oneOf": [{"properties": {"a": {}}}] * 1_000}}, [{"b": 1}] * 9_000),
        ({"allOf": [{"contains": {"const": 3}}] * 500}, [1] * 9_000),
        ({"allOf": [{"uniqueItems": True}] * 500}, [{"a": n} for n in range(9_000)]),
        ({"allOf": [{"const": "y" * 9}] * 500 + [{"not": {"const": "x" * 900_000}}] * 500}, "x" * 900_000),
        (
            {"anyOf": [{"propertyNames": {"maxLength": n}} for n in range(500)]},
            {"x" * n: 1 for n in range(999)},
        ),
        ({"items": {"multipleOf": 1e-300}}, [1.5e308] * 100_000),
        (nested(30, {}, lambda s: {"allOf": [s], "unevaluatedProperties": True}), {"a": 1}),
        (nested(60, {"type": "string"}, lambda s: {"items": s}), [nested(60, 1, lambda v: [v])] * 8_000),
    ],
    ids=["anyOf", "enum", "oneOf", "contains", "uniqueItems", "texts", "names", "multipleOf", "seen", "deep"],
)
def test_a_check_that_would_take_long_is_given_up(schema, value):
    """However it is done. The bound is 100 ms; this leaves room for a busy machine."""
    _, seconds = timed(schema, value)
    assert seconds < 0.5


def test_whoever_sent_it_is_told():
    """As a violation of the whole, like any other; a check that is not finished is not passed."""
    schema = {"items": {"anyOf": [{"const": n} for n in range(1_000)]}}
    found, _ = timed(schema, [999] * 3_000, at="/form")
    assert [(each.pointer, each.message) for each in found] == [("/form", TOO_LONG)]


def test_what_was_found_before_is_told_instead():
    """A person can mend it."""
    schema = {"prefixItems": [{"type": "string"}], "items": {"anyOf": [{"const": n} for n in range(1_000)]}}
    found, _ = timed(schema, [1, *[999] * 3_000])
    assert [each.pointer for each in found] == ["/0"]


def test_a_node_that_checks_again_hears_nothing_of_it():
    """Lenient schemas find less, and nothing that is not there."""
    schema = {"items": {"anyOf": [{"const": n} for n in range(1_000)]}}
    assert Schema.compile(schema, lenient=True).violations([999] * 3_000) == ()


@pytest.mark.parametrize(
    "value", ["x" * 1_000_000, ["x"] * 200_000, {f"x{n}": n for n in range(80_000)}, [["x" * 900_000]]]
)
def test_no_violation_copies_the_document(value):
    """Twenty copies of a mebibyte cost more than the check."""
    found, seconds = timed({"allOf": [{"type": "integer"}] * 20}, value)
    assert (len(found), seconds < 0.02) == (20, True)
    assert max(len(each.message) for each in found) < 250


def test_a_pointer_into_endless_names_stops_around_the_place():
    """It is still true, and no copy of the name."""
    found, _ = timed({"additionalProperties": {"items": {"type": "integer"}}}, {"x" * 900_000: ["y"]})
    assert [each.pointer for each in found] == [""]


def test_many_unknown_parts_are_not_looked_through_for_each_fault():
    """10,000 templates and as many faults."""
    value = {"known": [1] * 10_000, "open": ["{{ x }}"] * 10_000}
    schema = {"properties": {each: {"items": {"type": "boolean"}} for each in ("open", "known")}}
    found, seconds = timed(schema, value, unknown=[f"/open/{n}" for n in range(10_000)])
    assert (len(found) <= 20, seconds < 0.5) == (True, True)
