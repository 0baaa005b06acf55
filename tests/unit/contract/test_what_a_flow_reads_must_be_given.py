"""The output of a call, against the schema of a version that would come to answer it."""

from __future__ import annotations

from tests.unit.contract.support import found, giving, taking, told, uses, version

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
PRICE = giving(["amount"], amount=NUMBER, currency=TEXT, lines={"type": "array", "items": giving(sku=TEXT)})
OLD = version("1.0.0", gives=PRICE)
READER = "/spec/steps/1/set/x"


def reading(expression):
    """A flow whose second step reads the output of the first."""
    return uses(None, {"id": "show", "set": {"x": f"{{{{ {expression} }}}}"}})


def against(gives, expression="steps.price.output.amount"):
    return found(reading(expression), version("2.0.0", gives=gives), OLD)


def test_a_version_that_gives_as_much_fits():
    """And one that gives more."""
    assert against({**PRICE, "properties": {**PRICE["properties"], "more": {}}}) == []


def test_a_member_that_its_schema_rules_out_is_surely_missing():
    """The place is that of the text that reads it."""
    assert against(giving(currency=TEXT)) == [("OUTPUT_GONE", READER, True)]
    assert told(reading("steps.price.output.amount + 1.0"), version("2", gives=giving()), OLD) == [
        "there is no amount in the output any more"
    ]


def test_a_member_that_its_schema_does_not_speak_of_may_be_missing():
    """An open schema promises nothing."""
    assert against(giving(closed=False, currency=TEXT)) == [("OUTPUT_GONE", READER, False)]


def test_a_member_that_it_no_longer_must_give_may_be_missing():
    """It was required."""
    assert against(giving(amount=NUMBER)) == [("OUTPUT_OPTIONAL", READER, False)]


def test_a_member_of_another_type_is_told():
    """Surely wrong when no type is left, perhaps when there are more; fewer are as good."""
    assert against(giving(["amount"], amount=TEXT)) == [("OUTPUT_TYPE", READER, True)]
    assert against(giving(["amount"], amount={"type": ["number", "null"]})) == [
        ("OUTPUT_TYPE", READER, False)
    ]
    assert against(giving(["amount"], amount={"type": "integer"})) == []


def test_what_the_flow_has_provided_for_may_be_missing():
    """`.?`, `??` and `has()`; of another type it may not be."""
    for expression in (
        "steps.price.output.?amount",
        "steps.price.output.amount ?? 0.0",
        "has(steps.price.output.amount)",
    ):
        assert against(giving(currency=TEXT), expression) == []
    typed = giving(amount=TEXT)
    assert against(typed, "steps.price.output.amount ?? 0.0") == [("OUTPUT_TYPE", READER, True)]


def test_items_are_looked_into():
    """`lines[0].sku`; a computed index ends what is known."""
    new = giving(["amount"], amount=NUMBER, lines={"type": "array", "items": giving(name=TEXT)})
    assert against(new, "steps.price.output.lines[0].sku") == [("OUTPUT_GONE", READER, True)]
    assert against(new, "steps.price.output.lines.map(line, line.sku)") == []


def test_references_and_choices_are_followed():
    """As schemas are generated: `$ref`, and `anyOf` for what may be null."""
    money = {"$defs": {"money": giving(["value"], value=NUMBER)}}
    optional = {"anyOf": [{"$ref": "#/$defs/money"}, {"type": "null"}]}
    one = version("1.0.0", gives={**giving(["total"], total=optional), **money})
    other = version("2.0.0", gives={**giving(["total"], total=optional), "$defs": {"money": giving()}})
    of = reading("steps.price.output.total.value")
    assert found(of, one, OLD) == []  # as little as before: there was no total at all
    assert found(of, other, one) == [("OUTPUT_GONE", READER, True)]


def test_what_a_step_makes_of_its_output_hides_the_rest():
    """`result` reads `self.output`; the others see what it gives."""
    of = uses(
        None,
        {"id": "show", "set": {"x": "{{ steps.price.output.total }}"}},
        result={"total": "{{ self.output.amount }}"},
    )
    assert found(of, version("2", gives=giving(currency=TEXT)), OLD) == [
        ("OUTPUT_GONE", "/spec/steps/0/result/total", True)
    ]
    assert found(of, version("2", gives=giving(["amount"], amount=NUMBER)), OLD) == []


def test_whoever_reads_it_is_found():
    """Conditions, what undoes the step, and the output of the flow."""
    undo = {"node": "shop.undo", "with": {"amount": "{{ self.output.amount }}"}}
    of = uses(
        None, {"id": "show", "set": {}, "when": "{{ steps.price.output.amount > 1.0 }}"}, compensate=undo
    )
    assert [place for _, place, _ in found(of, version("2", gives=giving()), OLD)] == [
        "/spec/steps/0/compensate/with/amount",
        "/spec/steps/1/when",
    ]


def test_a_whole_output_is_read_for_what_it_is():
    """Where it goes then is not followed."""
    assert against({"type": "array"}, "steps.price.output") == [("OUTPUT_TYPE", READER, True)]
    assert against(giving(), "steps.price.output") == []


def test_what_is_not_read_may_change():
    """And the input is another matter."""
    new = version("2.0.0", takes=taking(extra=TEXT), gives=giving(["amount"], amount=NUMBER))
    assert found(reading("steps.price.output.amount"), new, OLD) == []
