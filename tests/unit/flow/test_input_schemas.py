"""JSON Schemas of people: checked when compiled, and harmless when applied."""

from __future__ import annotations

import pytest

from reflux.core.flow import Schema, SchemaProblem

ORDER = {
    "type": "object",
    "required": ["lines"],
    "properties": {"lines": {"type": "array", "items": {"$ref": "#/$defs/line"}}},
    "$defs": {"line": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}},
}


def places(schema, value, **keys):
    return [violation.pointer for violation in Schema.compile(schema).violations(value, **keys)]


def test_a_value_that_fits_has_no_violations():
    """References inside the schema are followed."""
    assert places(ORDER, {"lines": [{"sku": "a"}]}) == []


def test_each_place_that_does_not_fit_is_named():
    """As JSON pointers, below the given one."""
    value = {"lines": [{"sku": 1}, {}, {"sku": "a"}]}
    assert places(ORDER, value, at="/input") == ["/input/lines/0/sku", "/input/lines/1"]


def test_a_message_is_short_whatever_the_value():
    """A validator quotes the value; a person needs its ends."""
    (violation,) = Schema.compile({"type": "integer"}).violations("x" * 100_000)
    assert len(violation.message) < 250


def test_what_is_no_type_is_told_with_all_that_are():
    """It may be a name or a list of names, which says nothing to whoever misspelt it."""
    with pytest.raises(SchemaProblem, match=r"^'strnig' is no type; one of: array, .*; or a list of them$"):
        Schema.compile({"properties": {"a": {"type": "strnig"}}})


def test_violations_are_bounded():
    """Twenty are enough to begin with."""
    assert len(places({"items": {"type": "string"}}, list(range(1000)))) == 20


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ({"type": "strnig"}, ("type",)),
        ([], ()),
        ({"properties": {"a": {"pattern": "(a+)+$"}}}, ("properties", "a", "pattern")),
        ({"patternProperties": {"^a": True}}, ("patternProperties",)),
        ({"$ref": "https://example.com/schema"}, ("$ref",)),
        ({"$ref": "#/$defs/missing"}, ("$ref",)),
        ({"$ref": "#"}, ("$ref",)),
        (
            {"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
            ("$defs", "a", "items", "$ref", "items", "$ref"),
        ),
        ({"$id": "https://example.com"}, ("$id",)),
    ],
)
def test_what_could_fetch_or_run_for_ever_is_refused_at_its_place(schema, path):
    """Remote references, references to themselves, regular expressions, and what is no schema."""
    with pytest.raises(SchemaProblem) as caught:
        Schema.compile(schema)
    assert caught.value.path == path


def test_a_small_schema_cannot_unfold_into_a_huge_one():
    """Each reference is written out, so doubling forty times is refused instead of followed."""
    defs = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(40)}
    with pytest.raises(SchemaProblem, match="more than"):
        Schema.compile({"$ref": "#/$defs/d0", "$defs": {**defs, "d40": {}}})


def test_a_property_may_be_called_like_a_keyword():
    """`properties` holds names, not keywords."""
    assert places(
        {"properties": {"pattern": {"type": "integer"}, "$ref": {"type": "integer"}}}, {"pattern": "x"}
    ) == ["/pattern"]


def test_siblings_of_a_reference_count():
    """2020-12: `$ref` is a keyword like others, wherever it stands among them."""
    schema = {
        "$ref": "#/$defs/n",
        "allOf": [{"maximum": 5}],
        "minimum": 3,
        "$defs": {"n": {"type": "integer"}},
    }
    assert [places(schema, value) for value in (4, 6, 2, "x")] == [[], [""], [""], [""]]


def test_lenient_leaves_out_what_it_cannot_check():
    """For schemas whose owner checks again: what is found is right, not everything is found."""
    schema = {"properties": {"a": {"pattern": "^x"}, "b": {"$ref": "#"}, "c": {"type": "integer"}}}
    found = Schema.compile(schema, lenient=True).violations({"a": "y", "b": 1, "c": "z"})
    assert [violation.pointer for violation in found] == ["/c"]


@pytest.mark.parametrize(
    ("value", "unknown", "expected"),
    [
        ({"url": 1}, [], ["/url"]),
        ({"url": "{{ x }}", "retries": "{{ y }}"}, ["/url", "/retries"], []),
        ({"url": "{{ x }}", "retries": "three"}, ["/url"], ["/retries"]),
        ({"retries": "{{ y }}"}, ["/retries"], [""]),
        ({"url": "{{ x }}", "either": {"a": "{{ y }}"}}, ["/url", "/either/a"], []),
        ({"url": "{{ x }}", "either": {"a": "y"}}, ["/url"], ["/either"]),
    ],
)
def test_what_is_unknown_yet_is_given_the_benefit_of_the_doubt(value, unknown, expected):
    """Templates are wildcards: only what is wrong whatever they give is reported."""
    schema = {
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {"type": "string"},
            "retries": {"type": "integer"},
            "either": {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"type": "null"}]},
        },
    }
    assert places(schema, value, unknown=unknown) == expected


def test_what_hangs_on_an_unknown_condition_is_not_sure():
    """Either branch may be the one that counts."""
    schema = {
        "if": {"properties": {"kind": {"const": "card"}}},
        "then": {"required": ["number"]},
        "else": {"required": ["iban"]},
    }
    assert places(schema, {"kind": "{{ x }}"}, unknown=["/kind"]) == []
    assert places(schema, {"kind": "card"}) == [""]


def test_a_member_that_may_not_be_there_is_named():
    """`false` allows nothing; the place is that of the member, not of what holds it."""
    assert places({"properties": {"a": False}}, {"a": 1, "b": 2}) == ["/a"]


def test_what_is_too_much_is_listed():
    """The first five by name."""
    schema = {"properties": {"a": True}, "additionalProperties": False}
    (violation,) = Schema.compile(schema).violations(dict.fromkeys("abcdefgh", 1))
    assert violation.message == (
        "Additional properties are not allowed ('b', 'c', 'd', 'e', 'f' and 2 more were unexpected)"
    )
