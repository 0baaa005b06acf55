"""What a decorated function is, is known without calling it; what cannot work is refused at once."""

from datetime import timedelta

import orjson
import pytest
from jsonschema import Draft202012Validator
from pydantic import Field

from reflux.api.node.v1 import node_service_pb2
from reflux.core.effect import EffectClass
from reflux.core.expression import ExpressionSyntaxError
from reflux.sdk import Model, node

SECOND = timedelta(seconds=1)


class Input(Model):
    url: str = Field(description="What to fetch.")
    times: int = Field(default=1, ge=1, le=9)


class Output(Model):
    status: int


def declare(name="test.node", version="1.0.0", effect=EffectClass.PURE, **options):
    options = {"attempt_timeout": SECOND, **options}

    @node(name, version, effect=effect, **options)
    async def function(given: Input) -> Output:
        """Fetches.

        More about it.
        """

    return function


def test_the_description_has_everything_the_registry_needs():
    """Names, people's words, limits, and JSON Schemas 2020-12 from the models."""
    kept = timedelta(hours=6)
    description = declare(max_concurrency=3, batchable=True, scope="account", key_ttl=kept).describe()
    assert (description.node, description.version) == ("test.node", "1.0.0")
    assert description.description == "Fetches.\n\nMore about it."
    assert description.max_concurrency == 3
    assert description.batchable
    assert not declare().describe().batchable, "it takes a part of the mesh away: nobody gets it unasked"
    assert description.attempt_timeout.ToTimedelta() == SECOND
    assert getattr(description.effect, "class") == node_service_pb2.Effect.PURE
    assert description.effect.scope == "account"
    assert description.effect.key_ttl.ToTimedelta() == kept
    assert not declare().describe().effect.HasField("key_ttl"), (
        "nobody says how long a key is kept but who knows"
    )
    schema = orjson.loads(description.input_schema)
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    assert check.is_valid({"url": "http://x"})
    assert not check.is_valid({"url": "http://x", "times": 10})
    assert not check.is_valid({"url": "http://x", "unknown": 1})
    assert orjson.loads(description.output_schema)["required"] == ["status"]


def test_the_same_code_describes_itself_with_the_same_bytes():
    """The registry compares digests: a restart must never look like another description."""
    assert declare().describe() == declare().describe()


@pytest.mark.parametrize(
    ("effect", "value", "expected"),
    [
        (EffectClass.IDEMPOTENT, {}, EffectClass.IDEMPOTENT),
        ("pure", {}, EffectClass.PURE),
        ("input.a == 1 ? 'pure' : 'compensatable'", {"a": 1}, EffectClass.PURE),
        ("input.a == 1 ? 'pure' : 'compensatable'", {"a": 2}, EffectClass.COMPENSATABLE),
        ("input.a == 1 ? 'pure' : 'compensatable'", {}, EffectClass.AT_MOST_ONCE),
        ("'harmless'", {}, EffectClass.AT_MOST_ONCE),
    ],
)
def test_an_effect_that_is_not_known_is_the_weakest(effect, value, expected):
    """An expression that fails or answers nonsense never makes a call look safer than it is."""
    assert declare(effect=effect).effect.of(value) is expected


def test_an_expression_travels_as_its_text():
    """The orchestrator evaluates the very same source before it chooses a lane."""
    described = declare(effect="input.a == 1 ? 'pure' : 'at_most_once'").describe().effect
    assert described.expression == "input.a == 1 ? 'pure' : 'at_most_once'"
    assert getattr(described, "class") == node_service_pb2.Effect.CLASS_UNSPECIFIED


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"name": "Test.Node"}, ValueError),
        ({"version": "one two"}, ValueError),
        ({"max_concurrency": 0}, ValueError),
        ({"max_concurrency": 1001}, ValueError),
        ({"attempt_timeout": timedelta()}, ValueError),
        ({"key_ttl": timedelta()}, ValueError),
        ({"key_ttl": timedelta(days=367)}, ValueError),
        ({"effect": "input."}, ExpressionSyntaxError),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(options, error):
    """At import, not at the first call."""
    with pytest.raises(error):
        declare(**options)


def test_a_function_without_models_is_refused():
    """The schemas come from the annotations, so they must be there."""

    async def plain(given: dict) -> Output: ...

    async def silent(given: Input): ...

    async def greedy(given: Input, ctx: object, more: int) -> Output: ...

    for function in (plain, silent, greedy):
        with pytest.raises(TypeError, match=function.__name__):
            node("test.node", "1.0.0", effect=EffectClass.PURE, attempt_timeout=SECOND)(function)
