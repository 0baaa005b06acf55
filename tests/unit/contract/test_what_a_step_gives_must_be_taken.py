"""The input of a call, against the schema of a version that would come to answer it."""

from __future__ import annotations

import pytest

from tests.unit.contract.support import ANY, found, taking, told, uses, version

TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
PLACE = "/spec/steps/0/with"
OLD = version("1.0.0", taking(mode={"enum": ["a", "b"]}, sku=TEXT))


def against(schema, given, old=OLD):
    return found(uses(given), version("2.0.0", taking(**schema) if "type" not in schema else schema), old)


def test_a_version_that_takes_as_much_fits():
    """Also one that takes more, or speaks of members that nobody gives."""
    given = {"sku": "{{ input.sku }}", "mode": "a"}
    assert against({"sku": {}, "mode": {"enum": ["a", "b", "c"]}, "speed": NUMBER}, given) == []


def test_a_member_that_it_needs_and_the_step_does_not_give_is_surely_wrong():
    """Every such call fails; the place is the whole input, or the step when it gives none."""
    needs = taking(["currency"], currency=TEXT)
    assert against(needs, {"sku": "x"}) == [("INPUT_INVALID", PLACE, True)]
    assert against(needs, None) == [("INPUT_INVALID", "/spec/steps/0", True)]
    assert against(needs, {"currency": "{{ input.c }}"}) == []


def test_a_constant_that_it_no_longer_takes_is_surely_wrong():
    """An enum that lost a value, another type, a bound."""
    assert against({"mode": {"enum": ["b"]}}, {"mode": "a"}) == [("INPUT_INVALID", f"{PLACE}/mode", True)]
    assert against({"mode": NUMBER}, {"mode": "a"}) == [("INPUT_INVALID", f"{PLACE}/mode", True)]
    assert against({"sku": {"maxLength": 2}}, {"sku": "long"}) == [("INPUT_INVALID", f"{PLACE}/sku", True)]
    assert against({"mode": {"enum": ["a"]}}, {"mode": "a"}) == []


def test_a_member_that_it_no_longer_takes_is_surely_wrong():
    """A closed schema without it."""
    closed = {"type": "object", "properties": {"mode": TEXT}, "additionalProperties": False}
    assert against(closed, {"sku": "{{ input.sku }}"}) == [("INPUT_INVALID", PLACE, True)]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (TEXT, NUMBER, "it takes integer and no longer string"),
        ({"type": ["string", "null"]}, TEXT, "it takes string and no longer null"),
        ({}, TEXT, "it takes string and no longer array or boolean or number or object or null"),
        ({"type": "number"}, NUMBER, "it takes integer and no longer number"),
        (TEXT, {"enum": ["x", "y"]}, 'it takes nothing but "x", "y"'),
        ({"enum": ["x", "y"]}, {"const": "x"}, 'it takes nothing but "x"'),
        (TEXT, {"type": "string", "maxLength": 5}, "it asks for maxLength 5"),
        ({"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 8}, "it asks for maximum 8"),
        (
            {"type": "integer", "maximum": 9},
            {"type": "integer", "exclusiveMaximum": 9},
            "it asks for exclusiveMaximum 9",
        ),
        ({"type": "integer", "minimum": 1}, {"type": "integer", "minimum": 2}, "it asks for minimum 2"),
        (TEXT, {"type": "string", "pattern": "^x"}, 'it asks for pattern "^x"'),
        (ANY, {"type": "object", "required": ["id"]}, "it must have the member id"),
        (ANY, {"type": "object", "additionalProperties": False}, "it takes no members"),
        (
            {"type": "array", "items": TEXT},
            {"type": "array", "items": NUMBER},
            "of its items: it takes integer and no longer string",
        ),
        (
            taking(deep=taking(leaf=TEXT)),
            taking(deep=taking(leaf={"enum": ["x"]})),
            'of its member deep: of its member leaf: it takes nothing but "x"',
        ),
        (
            {"anyOf": [TEXT, {"type": "null"}]},
            {"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]},
            "it asks for minLength 1",
        ),
        (TEXT, {"type": "string", "not": {"const": ""}}, 'it asks for not {"const":""}'),
        (
            ANY,
            {**ANY, "if": {"required": ["a"]}, "then": {"required": ["b"]}},
            'it asks for if {"if":{"required":["a"]},"then":{"required":["b"]}}',
        ),
        (ANY, {**ANY, "dependentRequired": {"a": ["b"]}}, 'it asks for dependentRequired {"a":["b"]}'),
        (
            {"type": "array"},
            {"type": "array", "contains": {"const": 1}},
            'it asks for contains {"const":1}',
        ),
    ],
)
def test_what_only_the_run_knows_must_be_taken_as_before(before, after, words):
    """Where a template stands, the new schema is compared with the one that serves; what is wider fits."""
    given = uses({"x": "{{ input.x }}"})
    one, other = version("1.0.0", taking(x=before)), version("2.0.0", taking(x=after))
    assert told(given, other, one) == [words]
    assert found(given, other, one)[0][:2] == ("INPUT_NARROWER", f"{PLACE}/x")
    back = told(given, version("2.0.0", taking(x=before)), version("1.0.0", taking(x=after)))
    assert not back or back[0].endswith("it takes string and no longer integer")


def test_a_bound_that_follows_from_another_is_none_of_its_own():
    """Below 9 is at most 9."""
    one = version("1.0.0", taking(x={"type": "integer", "exclusiveMaximum": 9, "minimum": 3}))
    other = version("2.0.0", taking(x={"type": "integer", "maximum": 9, "exclusiveMinimum": 2}))
    assert found(uses({"x": "{{ input.x }}"}), other, one) == []


def test_types_without_a_common_one_are_surely_wrong():
    """Whatever the run gives there was right before and is wrong now; of a part of them it may be."""
    given = uses({"x": "{{ input.x }}"})
    one = version("1.0.0", taking(x=TEXT))
    assert found(given, version("2.0.0", taking(x=NUMBER)), one)[0][2] is True
    both = version("1.0.0", taking(x={"type": ["string", "integer"]}))
    assert found(given, version("2.0.0", taking(x=NUMBER)), both)[0][2] is False


def test_a_text_with_a_template_in_it_is_a_text():
    """So it is nothing to it that other types are no longer taken."""
    given = uses({"x": "no. {{ input.x }}"})
    one = version("1.0.0", taking(x={}))
    assert found(given, version("2.0.0", taking(x=TEXT)), one) == []
    assert found(given, version("2.0.0", taking(x=NUMBER)), one) == [("INPUT_NARROWER", f"{PLACE}/x", True)]


def test_a_whole_input_that_only_the_run_knows_is_compared_as_a_whole():
    """`with: "{{ input }}"`."""
    new = version("2.0.0", taking(["currency"], sku=TEXT))
    assert told(uses("{{ input }}"), new, OLD) == ["it must have the member currency"]


def test_what_is_wrong_already_is_not_held_against_a_version():
    """Or nobody could ever go back to another one that is no worse."""
    new = version("2.0.0", taking(mode={"enum": ["a"]}))
    assert against({"mode": {"enum": ["a"]}}, {"mode": "c"}) == []
    ill = version("1.1.0", taking(mode={"enum": ["b"]}))
    assert found(uses({"mode": "c"}), new, OLD, ill) == []


def test_a_sure_finding_counts_when_one_that_serves_is_free_of_it():
    """Who let one version in that breaks a step has not let in every other one."""
    ill = version("1.1.0", taking(mode={"enum": ["b"]}))
    new = version("2.0.0", taking(mode={"enum": ["b"]}))
    assert found(uses({"mode": "a"}), new, OLD, ill) == [("INPUT_INVALID", f"{PLACE}/mode", True)]


def test_an_unsure_finding_counts_when_all_that_serve_are_free_of_it():
    """What one of them refuses was refused already."""
    given = uses({"sku": "{{ input.sku }}"})
    new, strict = (version(name, taking(sku={"type": "string", "maxLength": 5})) for name in ("2", "1.1"))
    assert found(given, new, OLD, strict) == []
    assert found(given, new, OLD) == [("INPUT_NARROWER", f"{PLACE}/sku", False)]


def test_without_a_version_that_serves_only_what_is_sure_is_found():
    """There is nothing to compare with; the version itself does not count."""
    new = version("2.0.0", taking(["currency"], sku={"const": "x"}))
    given = uses({"sku": "{{ input.sku }}"})
    assert found(given, new) == found(given, new, new) == [("INPUT_INVALID", PLACE, True)]


def test_who_names_a_version_does_not_depend_on_the_route():
    """A pin and shares of the step's own."""
    new = version("2.0.0", taking(["currency"]))
    for keys in (
        {"node": "shop.price@1.0.0"},
        {"route": {"versions": {"1.0.0": 10_000}}},
        {"disabled": True},
    ):
        assert found(uses({"sku": "x"}, **keys), new, OLD) == []


def test_what_undoes_a_step_is_a_use_too():
    """Its node has a route of its own."""
    given = uses({"sku": "x"}, compensate={"node": "shop.price", "with": {"mode": "a"}})
    new = version("2.0.0", taking(mode={"enum": ["b"]}))
    assert found(given, new, OLD) == [("INPUT_INVALID", "/spec/steps/0/compensate/with/mode", True)]


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"required": ["sku"], "properties": {"sku": {"pattern": "^no"}}}},
        {"patternProperties": {"^s": TEXT}, "additionalProperties": False},
        {"oneOf": [{"properties": {"sku": {"pattern": "^a"}}}, {"properties": {"sku": {"pattern": "^b"}}}]},
        {"$ref": "https://elsewhere/schema"},
    ],
)
def test_what_we_do_not_understand_is_held_against_nobody(schema):
    """The node checks its input itself."""
    assert against({"type": "object", **schema}, {"sku": "x"}) == []
