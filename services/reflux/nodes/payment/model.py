"""Inputs and outputs of `payment.charge` and `payment.refund`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from reflux.sdk import Model

Provider = Literal["stripe", "paypal", "square"]

NO_DECIMALS: Final = frozenset(
    {"BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XPF"}
)
"""Currencies without a minor unit (docs.stripe.com/currencies): an amount is of the whole."""

WHOLE: Final = frozenset({"HUF", "TWD"})
"""Currencies of which PayPal takes no parts, though they have a minor unit: what has parts it declines."""

Amount = Annotated[int, Field(gt=0, le=10**12, description="In minor units: 1999 USD is 19.99 dollars.")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217, e.g. USD.")]
Token = Annotated[str, Field(min_length=1, max_length=255)]


class Sources(Model):
    """What is charged, as each provider names it; a provider without one declines."""

    stripe: Token | None = Field(None, description="A payment method, e.g. pm_1Nh….")
    paypal: Token | None = Field(None, description="A vaulted payment token.")
    square: Token | None = Field(None, description="A source id, e.g. of a card on file.")


class Charge(Model):
    """What is to be paid."""

    amount: Amount
    currency: Currency
    source: Sources
    description: str = Field("", max_length=120, description="Shown to the customer where the provider does.")


class Receipt(Model):
    """What was paid."""

    id: str
    """The provider's; what `payment.refund` takes."""
    provider: Provider
    amount: Amount
    currency: Currency


class Refund(Model):
    """What is to be given back: a charge, or a part of it."""

    id: Token = Field(description="Of the charge, as its receipt has it.")
    provider: Provider
    amount: Amount
    currency: Currency


class Returned(Model):
    """What was given back."""

    id: str
    provider: Provider
    amount: Amount
    currency: Currency


def decimal(amount: int, currency: str) -> str:
    """Minor units as PayPal writes them.

    >>> decimal(1999, "USD"), decimal(500, "JPY"), decimal(50000, "HUF")
    ('19.99', '500', '500')
    """
    if currency in NO_DECIMALS:
        return str(amount)
    whole, part = divmod(amount, 100)
    return str(whole) if currency in WHOLE and not part else f"{whole}.{part:02d}"


def minor(value: str, currency: str) -> int:
    """The other way round.

    Raises:
        ValueError: it is no amount of this currency.
    """
    whole, dot, part = value.partition(".")
    if currency in NO_DECIMALS:
        if dot and part.strip("0"):
            raise ValueError(f"{value} {currency}")
        return int(whole)
    if len(part) > 2:
        raise ValueError(f"{value} {currency}")
    return int(whole) * 100 + int(part.ljust(2, "0") or 0)
