"""The versions of `payment.charge`, one per provider, and `payment.refund`."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the SDK reads the annotations
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.nodes.payment import paypal as paypal_wire
from reflux.nodes.payment import square as square_wire
from reflux.nodes.payment import stripe as stripe_wire
from reflux.nodes.payment.access import access_to
from reflux.nodes.payment.model import (  # noqa: TC001 - the SDK reads the annotations
    Charge,
    Provider,
    Receipt,
    Refund,
    Returned,
)
from reflux.nodes.payment.paypal import PayPal
from reflux.nodes.payment.square import Square
from reflux.nodes.payment.stripe import Stripe
from reflux.nodes.payment.wire import Wire
from reflux.sdk import Asked, Context, EffectClass, Knowledge, NodeVersion, node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from reflux.runtime.settings import Settings

ATTEMPT: Final = timedelta(seconds=30)
MAX_CONCURRENCY: Final = 64

Account = Stripe | PayPal | Square

CHARGE_KEYS: Final[Mapping[Provider, timedelta]] = {
    "stripe": stripe_wire.KEYS_KEPT,
    "paypal": paypal_wire.ORDER_KEYS_KEPT,
    "square": square_wire.KEYS_KEPT,
}
REFUND_KEYS: Final[Mapping[Provider, timedelta]] = {**CHARGE_KEYS, "paypal": paypal_wire.REFUND_KEYS_KEPT}
"""How long each provider keeps the key of a request."""

_ACCOUNTS: Final[Mapping[Provider, Callable[[Wire], Account]]] = {
    "stripe": Stripe,
    "paypal": PayPal,
    "square": Square,
}


def _opened(provider: Provider) -> Callable[[Settings], AbstractAsyncContextManager[Account]]:
    @asynccontextmanager
    async def account(_: Settings) -> AsyncIterator[Account]:
        async with Wire(access_to(provider)) as wire:
            yield _ACCOUNTS[provider](wire)

    return account


async def _charge(given: Charge, ctx: Context[Account]) -> Receipt:
    account = ctx.resources
    access = account.wire.access
    if access.missing is not None:
        raise account.wire.unconfigured()
    if getattr(given.source, access.provider) is None:
        raise account.wire.without_source()
    await account.prepare(ctx)
    await ctx.claim(scope=access.scope)
    return await account.charge(given, ctx)


async def _verify(asked: Asked[Charge], ctx: Context[Account]) -> Knowledge:
    """Of another account nothing is known here."""
    _check_scope(asked, ctx)
    await ctx.resources.prepare(ctx)
    return await ctx.resources.verify(asked, ctx)


async def _cancel(asked: Asked[Charge], ctx: Context[Account]) -> Knowledge:
    _check_scope(asked, ctx)
    await ctx.resources.prepare(ctx)
    return await ctx.resources.cancel(asked, ctx)


def _check_scope(asked: Asked[Charge], ctx: Context[Account]) -> None:
    wire = ctx.resources.wire
    if wire.access.missing is not None:
        raise wire.unconfigured()
    if asked.scope != wire.access.scope:
        raise wire.strange("the effect was claimed for another account than the one that is set now")


def _version(provider: Provider) -> NodeVersion:
    async def charge(given: Charge, ctx: Context[Any]) -> Receipt:
        return await _charge(given, ctx)

    charge.__doc__ = _ABOUT.format(name=provider.capitalize(), upper=provider.upper())
    return node(
        "payment.charge",
        provider,
        effect=EffectClass.COMPENSATABLE,
        attempt_timeout=ATTEMPT,
        max_concurrency=MAX_CONCURRENCY,
        scope=provider,
        key_ttl=CHARGE_KEYS[provider],
        claims_itself=True,
        resources=_opened(provider),
        verify=_verify,
        cancel=_cancel,
    )(charge)


_ABOUT: Final = """Takes a payment through {name}, once.

Money is in minor units. The key of the step makes a repetition the same payment. When {name} cannot be
reached, or takes no request now, the next provider of the route is asked at once; what it declines fails the
step (PROVIDER_DECLINED) and goes nowhere. When nobody knows whether it was paid, {name} alone is asked again,
then searched for the payment; else a person decides. Needs the keys of {name} in the environment;
{upper}_BASE_URL names another address.
"""

stripe: Final = _version("stripe")
paypal: Final = _version("paypal")
square: Final = _version("square")


@asynccontextmanager
async def _all(_: Settings) -> AsyncIterator[Mapping[Provider, Account]]:
    async with AsyncExitStack() as stack:
        accounts: dict[Provider, Account] = {}
        for provider, make in _ACCOUNTS.items():
            accounts[provider] = make(await stack.enter_async_context(Wire(access_to(provider))))
        yield accounts


@node(
    "payment.refund",
    "1.0.0",
    effect=EffectClass.IDEMPOTENT,
    attempt_timeout=ATTEMPT,
    max_concurrency=MAX_CONCURRENCY,
    claims_itself=True,
    resources=_all,
)
async def refund(given: Refund, ctx: Context[Mapping[Provider, Account]]) -> Returned:
    """Gives a payment back, or a part of it, through the provider that took it, once.

    Takes the receipt of `payment.charge`. What the provider declines fails the step (PROVIDER_DECLINED).
    """
    account = ctx.resources[given.provider]
    if account.wire.access.missing is not None:
        raise account.wire.unconfigured()
    await account.prepare(ctx)
    await ctx.claim(scope=account.wire.access.scope, key_ttl=REFUND_KEYS[given.provider])
    return await account.refund(given, ctx, ctx.idempotency_key)
