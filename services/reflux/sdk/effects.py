"""What a node version declares about its effect: one class, or an expression over the input that gives it.

The orchestrator evaluates the same declaration before it chooses a lane; both read the input as it was sent,
not as the model completes it. An expression that fails, or gives no class, means `AT_MOST_ONCE`: unknown is
the weakest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reflux.api.node.v1 import node_service_pb2
from reflux.core.effect import EffectClass
from reflux.core.expression import Expression, ExpressionError, compile_expression

if TYPE_CHECKING:
    from datetime import timedelta

    from reflux.core.document import JsonValue


@dataclass(frozen=True, slots=True)
class Effect:
    """A declaration; build it with `Effect.declare`."""

    declared: EffectClass | Expression
    scope: str
    """Within which the idempotency key holds, e.g. one provider account."""
    key_ttl: timedelta | None = None
    """How long the provider keeps an idempotency key; None: not known."""

    @classmethod
    def declare(
        cls, effect: EffectClass | str, *, scope: str = "", key_ttl: timedelta | None = None
    ) -> Effect:
        """A constant class, or a CEL expression over `input`.

        >>> Effect.declare("input.dry_run ? 'pure' : 'idempotent'")

        Raises:
            ExpressionSyntaxError: the text is neither a class nor an expression.
        """
        if effect in EffectClass.__members__.values():
            return cls(EffectClass(effect), scope, key_ttl)
        return cls(compile_expression(effect), scope, key_ttl)

    @property
    def constant(self) -> EffectClass | None:
        """The class of every call, or None when it depends on the input."""
        return self.declared if isinstance(self.declared, EffectClass) else None

    def of(self, value: JsonValue) -> EffectClass:
        """The class of a call with this input."""
        if isinstance(self.declared, EffectClass):
            return self.declared
        try:
            return EffectClass(str(self.declared.evaluate({"input": value})))
        except (ExpressionError, ValueError):
            return EffectClass.AT_MOST_ONCE

    def to_proto(self) -> node_service_pb2.Effect:
        """The declaration as the registry keeps it."""
        effect = node_service_pb2.Effect(scope=self.scope)
        if self.key_ttl is not None:
            effect.key_ttl.FromTimedelta(self.key_ttl)
        if isinstance(self.declared, EffectClass):
            # `class` is a word of Python, so the field cannot be named in the call above.
            setattr(effect, "class", node_service_pb2.Effect.Class.Value(self.declared.name))
        else:
            effect.expression = self.declared.source
        return effect
