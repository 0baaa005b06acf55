"""A node version as a value: a decorated function, its models, its limits and how it describes itself."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import orjson
from pydantic import BaseModel, ConfigDict

from reflux.api.node.v1 import node_service_pb2
from reflux.core.names import is_name, is_version
from reflux.sdk.effects import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from reflux.core.effect import EffectClass
    from reflux.runtime.settings import Settings
    from reflux.sdk.credentials import CredentialSlot
    from reflux.sdk.verifying import Asking

MAX_CONCURRENCY: Final = 1000
MAX_KEY_TTL: Final = timedelta(days=366)

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class Model(BaseModel):
    """Base of inputs and outputs: unknown fields are refused, values do not change, errors show none."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class NodeVersion:
    """One deployable of a node. Build it with `@node`."""

    node: str
    version: str
    description: str
    input: type[BaseModel]
    output: type[BaseModel]
    effect: Effect
    attempt_timeout: timedelta
    max_concurrency: int
    batchable: bool
    claims_itself: bool
    resources: Callable[[Settings], AbstractAsyncContextManager[Any]] | None
    function: Callable[..., Any]
    wants_context: bool
    verify: Asking | None = None
    cancel: Asking | None = None
    credentials: tuple[CredentialSlot, ...] = ()

    @property
    def name(self) -> str:
        """`http.request@1.0.0`."""
        return f"{self.node}@{self.version}"

    @property
    def in_thread(self) -> bool:
        """Whether the function blocks."""
        return not inspect.iscoroutinefunction(self.function)

    def describe(self) -> node_service_pb2.NodeDescription:
        """What the registry stores; the same text for the same code, since it is hashed."""
        description = node_service_pb2.NodeDescription(
            node=self.node,
            version=self.version,
            description=self.description,
            input_schema=_schema(self.input, "validation"),
            output_schema=_schema(self.output, "serialization"),
            effect=self.effect.to_proto(),
            max_concurrency=self.max_concurrency,
            batchable=self.batchable,
            verifiable=self.verify is not None,
            cancelable=self.cancel is not None,
            credentials=[slot.to_proto() for slot in self.credentials],
        )
        description.attempt_timeout.FromTimedelta(self.attempt_timeout)
        return description


def node(
    name: str,
    version: str,
    *,
    effect: EffectClass | str,
    attempt_timeout: timedelta,
    max_concurrency: int = 64,
    batchable: bool = False,
    scope: str = "",
    key_ttl: timedelta | None = None,
    claims_itself: bool = False,
    resources: Callable[[Settings], AbstractAsyncContextManager[Any]] | None = None,
    verify: Asking | None = None,
    cancel: Asking | None = None,
    credentials: Sequence[CredentialSlot] = (),
) -> Callable[[Callable[..., Any]], NodeVersion]:
    """Make a node version of a function `(given: InputModel[, ctx: Context[R]]) -> OutputModel`.

    The function's docstring becomes the description. A plain `def` runs in a thread.

    >>> @node("mail.send", "1.0.0", effect=EffectClass.AT_MOST_ONCE, attempt_timeout=timedelta(seconds=30))
    ... async def send(given: Mail, ctx: Context[None]) -> Receipt: ...

    Args:
        name: e.g. `http.request`.
        version: e.g. `1.0.0`, or `anthropic-claude`.
        effect: a class, or a CEL expression over `input` that gives the name of one.
        attempt_timeout: deadline of a call that brings none.
        max_concurrency: calls at once, 1 to 1000; more are answered RESOURCE_EXHAUSTED.
        batchable: pure calls that are ready at the same moment may come in one message, which saves most of
            what they cost (`reflux.sdk.batches`). Not for a provider that may fail call by call.
        scope: within which the idempotency key holds, e.g. one provider account.
        key_ttl: how long the provider keeps a key from its first request on; None: taken for six hours.
        claims_itself: the function calls `ctx.claim()` right before its effect. Else the SDK claims before
            the function runs: safe, but a failure before the effect then counts as possibly done.
        verify: says what became of the effect of a key, and changes nothing; see `reflux.sdk.verifying`.
        cancel: undoes the effect of a key for ever; what makes a version `compensatable`.
        credentials: where a step may name a credential; `ctx.credential(slot)` is what it named.
        resources: opened once per process, closed after the drain; `ctx.resources` is what it yields.

    Raises:
        TypeError, ValueError: the function or an argument does not fit.
    """
    _check(name, version, max_concurrency, attempt_timeout, key_ttl)

    def make(function: Callable[..., Any]) -> NodeVersion:
        hints = get_type_hints(function)
        parameters = list(inspect.signature(function).parameters)
        if len(parameters) not in {1, 2}:
            raise TypeError(f"{function.__qualname__} takes (input) or (input, ctx)")
        return NodeVersion(
            node=name,
            version=version,
            description=inspect.cleandoc(function.__doc__ or ""),
            input=_model(hints.get(parameters[0]), function),
            output=_model(hints.get("return"), function),
            effect=Effect.declare(effect, scope=scope, key_ttl=key_ttl),
            attempt_timeout=attempt_timeout,
            max_concurrency=max_concurrency,
            batchable=batchable,
            claims_itself=claims_itself,
            resources=resources,
            function=function,
            wants_context=len(parameters) == 2,
            verify=verify,
            cancel=cancel,
            credentials=tuple(credentials),
        )

    return make


def _check(
    name: str, version: str, max_concurrency: int, attempt_timeout: timedelta, key_ttl: timedelta | None
) -> None:
    if key_ttl is not None and not timedelta() < key_ttl <= MAX_KEY_TTL:
        raise ValueError(f"key_ttl is above 0, at most {MAX_KEY_TTL.days} days, not {key_ttl}")
    if not is_name(name) or not is_version(version):
        raise ValueError(f"{name}@{version} is not the name of a node version")
    if not 1 <= max_concurrency <= MAX_CONCURRENCY:
        raise ValueError(f"max_concurrency is 1 to {MAX_CONCURRENCY}, not {max_concurrency}")
    if attempt_timeout.total_seconds() <= 0:
        raise ValueError("attempt_timeout must be positive")


def _model(hint: object, function: Callable[..., Any]) -> type[BaseModel]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    raise TypeError(f"{function.__qualname__} must be annotated with pydantic models, not {hint!r}")


def _schema(model: type[BaseModel], mode: Any) -> bytes:
    schema = {"$schema": _DIALECT, **model.model_json_schema(mode=mode)}
    return orjson.dumps(schema, option=orjson.OPT_SORT_KEYS)
