"""The wire of Stripe (docs.stripe.com/api): forms, `Idempotency-Key`, payment intents.

A key is kept for at least 24 hours with the answer it got, a 5xx included
(docs.stripe.com/api/idempotent_requests); so until then a repetition never charges again. The key also
stands in the intent's metadata, where the search finds it, within a minute as a rule
(docs.stripe.com/search): what it does not find may be there nevertheless.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.nodes.payment.model import Charge, Receipt, Refund, Returned
from reflux.sdk import Asked, Found, Unknown, Voided

if TYPE_CHECKING:
    from reflux.nodes.payment.wire import Reply, Wire
    from reflux.sdk import Context, Knowledge

KEYS_KEPT: Final = timedelta(hours=24)
"""At least."""
_OPEN: Final = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})


class Stripe:
    """A Stripe account."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def _headers(self, key: str | None = None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self.wire.access.secrets[0]}"}
        return headers if key is None else {**headers, "Idempotency-Key": key}

    async def prepare(self, ctx: Context[Any]) -> None:
        """Nothing to be done before the claim."""

    async def charge(self, given: Charge, ctx: Context[Any]) -> Receipt:
        """Confirms a payment intent."""
        form = {
            "amount": str(given.amount),
            "currency": given.currency.lower(),
            "payment_method": given.source.stripe or "",
            "confirm": "true",
            "off_session": "true",
            "description": given.description,
            "metadata[reflux_key]": ctx.idempotency_key,
        }
        headers = self._headers(ctx.idempotency_key)
        reply = await self.wire.ask(ctx, "POST", "/v1/payment_intents", headers=headers, form=form)
        if reply.get("status") != "succeeded":
            raise self.wire.strange(f"the intent is {reply.get('status')}")
        return _receipt(reply.body)

    async def refund(self, given: Refund, ctx: Context[Any], key: str) -> Returned:
        """Gives back, under a key of its own."""
        form = {"payment_intent": given.id, "amount": str(given.amount)}
        reply = await self.wire.ask(ctx, "POST", "/v1/refunds", headers=self._headers(key), form=form)
        if reply.get("status") not in {"succeeded", "pending"}:
            raise self.wire.strange(f"the refund is {reply.get('status')}")
        return Returned(id=reply.get("id"), provider="stripe", amount=given.amount, currency=given.currency)

    async def verify(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Searches for the intent with the key."""
        found = await self._find(asked, ctx)
        if found is None:
            return Unknown("Stripe's search finds no intent with this key, which proves nothing")
        status = found.get("status")
        if status == "succeeded":
            return Found(_receipt(found.body), f"intent {found.get('id')} is paid")
        if status == "canceled":
            return Voided(f"intent {found.get('id')} is canceled, and Stripe keeps its key")
        return Unknown(f"intent {found.get('id')} is {status}")

    async def cancel(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Cancels the intent with the key, or gives the money back."""
        found = await self._find(asked, ctx)
        if found is None:
            return Unknown("Stripe's search finds no intent with this key: there is nothing to cancel yet")
        intent, key = str(found.get("id")), f"undo-{asked.idempotency_key}"
        if found.get("status") == "succeeded":
            receipt = _receipt(found.body)
            refund = Refund(**receipt.model_dump())
            returned = await self.refund(refund, ctx, key)
            return Voided(f"intent {intent} is given back by refund {returned.id}")
        if found.get("status") in _OPEN:
            path = f"/v1/payment_intents/{intent}/cancel"
            reply = await self.wire.ask(ctx, "POST", path, headers=self._headers(key), form={})
            if reply.get("status") == "canceled":
                return Voided(f"intent {intent} is canceled, and Stripe keeps its key")
        if found.get("status") == "canceled":
            return Voided(f"intent {intent} is canceled, and Stripe keeps its key")
        return Unknown(f"intent {intent} is {found.get('status')}")

    async def _find(self, asked: Asked[Charge], ctx: Context[Any]) -> Reply | None:
        from reflux.nodes.payment.wire import Reply

        query = {"query": f"metadata['reflux_key']:'{asked.idempotency_key}'"}
        headers = self._headers()
        reply = await self.wire.ask(ctx, "GET", "/v1/payment_intents/search", headers=headers, query=query)
        first = reply.get("data", 0)
        return Reply(first) if isinstance(first, dict) else None


def _receipt(intent: dict[str, Any]) -> Receipt:
    return Receipt(
        id=intent["id"], provider="stripe", amount=intent["amount"], currency=intent["currency"].upper()
    )
