"""Our own checker of JSON Schema finds what the `jsonschema` library finds, which is too slow to use."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reflux.core.flow.fitting import Place, Work

NAMES = st.sampled_from("abc")
NUMBERS = st.sampled_from(
    [-2, -1, 0, 1, 2, 3, 0.0, 1.0, 1.5, 0.1, 0.3, 1e20, 10**18, 2**53 + 1, 2.0**53, 1e308]
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "a", "1", "ab"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
COUNTS = st.integers(0, 3)
TYPES = st.sampled_from(["array", "boolean", "integer", "null", "number", "object", "string"])
LOOKS = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "const": VALUES,
    "enum": st.lists(VALUES, max_size=4),
    "minimum": NUMBERS,
    "maximum": NUMBERS,
    "exclusiveMinimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 0.5, 0.1, 1e-300]),
    "uniqueItems": st.booleans(),
    "required": st.lists(NAMES, max_size=2, unique=True),
    "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
    **{
        f"m{which}{of}": COUNTS
        for which in ("in", "ax")
        for of in ("Length", "Items", "Properties", "Contains")
    },
}


def _around(inner):
    some, named = st.lists(inner, min_size=1, max_size=3), st.dictionaries(NAMES, inner, max_size=2)
    one = ("contains", "propertyNames", "not", "if", "then", "else")
    rest = ("items", "additionalProperties", "unevaluatedItems", "unevaluatedProperties")
    return st.fixed_dictionaries(
        {},
        optional={
            **LOOKS,
            **dict.fromkeys(one, inner),
            **dict.fromkeys(rest, inner | st.just(False)),  # elsewhere the library names the wrong place
            **dict.fromkeys(("prefixItems", "allOf", "anyOf", "oneOf"), some),
            **dict.fromkeys(("properties", "dependentSchemas"), named),
        },
    )


FEW = st.lists(st.sampled_from(sorted(LOOKS)), max_size=2, unique=True)
FLAT = FEW.flatmap(lambda keywords: st.fixed_dictionaries({each: LOOKS[each] for each in keywords}))
SCHEMAS = st.recursive(st.just(True) | st.just({"not": {}}) | FLAT, _around, max_leaves=6)


def found_by_the_library(schema, value):
    """With the names that it gives nobody: `contains` for its bounds, nothing for `false`."""
    names = {None: "", "minContains": "contains", "maxContains": "contains"}
    errors = Draft202012Validator(schema).iter_errors(value)
    return {(tuple(e.absolute_path), names.get(e.validator, e.validator)) for e in errors}


@settings(max_examples=600)
@given(SCHEMAS, VALUES)
@example({"uniqueItems": True}, [1, True, [1], [True], {"a": 1}, {"a": True}, 0, False, "1", None])
@example({"uniqueItems": True}, [{"a": 1, "b": [2]}, {"b": [2.0], "a": 1}])
@example({"uniqueItems": True}, [[1, 2], [12], ["1", "2"], ["12"], ['1"'], [[], []], [[[]]]])
@example({"enum": [1, [True]]}, 1.0)
@example({"enum": [1, [True]]}, [1])
@example({"const": 2**53 + 1}, 2.0**53)
def test_the_same_places_fail_for_the_same_keywords(schema, value):
    """And `fits`, which stops at the first, agrees."""
    place = Place(schema)
    faults = {(fault.path, fault.keyword) for fault in place.faults(value, Work(10**9))}
    assert faults == found_by_the_library(schema, value)
    assert place.fits(value, Work(10**9)) == (not faults)
