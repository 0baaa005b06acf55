"""The wire of Square (developer.squareup.com): payments with an `idempotency_key` in the JSON body.

A key has at most 45 characters and a `reference_id` 40, so both are the beginning of ours. How long a key
is kept is not published (developer.squareup.com/forums/t/28303), so ours is used for an hour. Payments are
listed from a time on, not by key: what is not listed may be there nevertheless. A cancel by key answers
well also where there was nothing to cancel, and the key may be used again afterwards: so it proves nothing,
and only a payment that was found and given back is void.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.nodes.payment.model import Charge, Receipt, Refund, Returned
from reflux.sdk import Asked, Found, Unknown, Voided

if TYPE_CHECKING:
    from reflux.nodes.payment.wire import Wire
    from reflux.sdk import Context, Knowledge

VERSION: Final = "2025-01-23"
"""Of the API, sent with each request."""
KEYS_KEPT: Final = timedelta(hours=1)
"""Our guess, on the safe side."""
_SKEW: Final = timedelta(minutes=10)
_PAGES: Final = 20
"""Of payments, that are looked through."""


class Square:
    """A Square account."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.wire.access.secrets[0]}", "Square-Version": VERSION}

    async def prepare(self, ctx: Context[Any]) -> None:
        """Nothing to be done before the claim."""

    async def charge(self, given: Charge, ctx: Context[Any]) -> Receipt:
        """Takes a payment."""
        body = {
            "idempotency_key": ctx.idempotency_key[:45],
            "source_id": given.source.square,
            "amount_money": {"amount": given.amount, "currency": given.currency},
            "autocomplete": True,
            "reference_id": ctx.idempotency_key[:40],
            "note": given.description,
        }
        reply = await self.wire.ask(ctx, "POST", "/v2/payments", headers=self._headers, json=body)
        payment = reply.get("payment")
        if not isinstance(payment, dict) or payment.get("status") != "COMPLETED":
            raise self.wire.strange(f"the payment is {reply.get('payment', 'status')}")
        return _receipt(payment)

    async def refund(self, given: Refund, ctx: Context[Any], key: str) -> Returned:
        """Gives a payment back, under a key of its own."""
        body = {
            "idempotency_key": key[:45],
            "payment_id": given.id,
            "amount_money": {"amount": given.amount, "currency": given.currency},
        }
        reply = await self.wire.ask(ctx, "POST", "/v2/refunds", headers=self._headers, json=body)
        if reply.get("refund", "status") not in {"COMPLETED", "PENDING"}:
            raise self.wire.strange(f"the refund is {reply.get('refund', 'status')}")
        returned = str(reply.get("refund", "id"))
        return Returned(id=returned, provider="square", amount=given.amount, currency=given.currency)

    async def verify(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Looks for the payment among those since then."""
        payment = await self._find(asked, ctx)
        if payment is None:
            return Unknown("Square lists no payment with this key, which proves nothing")
        if payment.get("status") == "COMPLETED":
            return Found(_receipt(payment), f"payment {payment['id']} is completed")
        return Unknown(f"payment {payment['id']} is {payment.get('status')}")

    async def cancel(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Gives back what is listed; else has Square cancel the key, which proves nothing."""
        payment = await self._find(asked, ctx)
        if payment is not None and payment.get("status") == "COMPLETED":
            refund = Refund(**_receipt(payment).model_dump())
            returned = await self.refund(refund, ctx, f"undo-{asked.idempotency_key}")
            return Voided(f"payment {payment['id']} is given back by refund {returned.id}")
        body = {"idempotency_key": asked.idempotency_key[:45]}
        await self.wire.ask(ctx, "POST", "/v2/payments/cancel", headers=self._headers, json=body)
        return Unknown("Square has cancelled whatever there was under this key, and says not whether it was")

    async def _find(self, asked: Asked[Charge], ctx: Context[Any]) -> dict[str, Any] | None:
        query = {
            "begin_time": (asked.since - _SKEW).isoformat(),
            "sort_order": "ASC",
            "limit": "100",
        }
        for _ in range(_PAGES):
            reply = await self.wire.ask(ctx, "GET", "/v2/payments", headers=self._headers, query=query)
            for payment in reply.get("payments") or []:
                if payment.get("reference_id") == asked.idempotency_key[:40]:
                    found: dict[str, Any] = payment
                    return found
            cursor = reply.get("cursor")
            if not cursor:
                break
            query["cursor"] = str(cursor)
        return None


def _receipt(payment: dict[str, Any]) -> Receipt:
    money = payment["amount_money"]
    return Receipt(id=payment["id"], provider="square", amount=money["amount"], currency=money["currency"])
