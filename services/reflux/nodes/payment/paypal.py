"""The wire of PayPal (developer.paypal.com): orders that are captured at once, `PayPal-Request-Id`.

The request id of an order is kept for 6 hours, that of a refund for 45 days (what
developer.paypal.com/docs/api says of the header at each call). The key also stands on the order as
`invoice_id`, and the transaction report lists it, up to three hours later: what is not listed may be there
nevertheless.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from reflux.nodes.payment.model import Charge, Receipt, Refund, Returned, decimal, minor
from reflux.sdk import Asked, Found, Unknown, Voided

if TYPE_CHECKING:
    from reflux.nodes.payment.wire import Wire
    from reflux.sdk import Context, Knowledge

ORDER_KEYS_KEPT: Final = timedelta(hours=6)
REFUND_KEYS_KEPT: Final = timedelta(days=45)
_EARLY: Final = 60.0
"""Seconds before its end that a token is renewed."""
_SKEW: Final = timedelta(minutes=10)
_PAGES: Final = 20
"""Of the report, that are looked through."""


class PayPal:
    """A PayPal account."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._token = ""
        self._until = 0.0
        self._renewing = asyncio.Lock()

    async def prepare(self, ctx: Context[Any]) -> None:
        """Gets a token, before the claim: without one nothing can have happened."""
        async with self._renewing:
            if self._token and time.monotonic() < self._until:
                return
            basic = b64encode(":".join(self.wire.access.secrets).encode()).decode()
            headers = {"Authorization": f"Basic {basic}"}
            form = {"grant_type": "client_credentials"}
            reply = await self.wire.ask(ctx, "POST", "/v1/oauth2/token", headers=headers, form=form)
            self._token = str(reply.get("access_token"))
            self._until = time.monotonic() + float(reply.get("expires_in") or 0) - _EARLY

    def _headers(self, key: str | None = None) -> dict[str, str]:
        headers = {"Authorization": f"Bearer {self._token}", "Prefer": "return=representation"}
        return headers if key is None else {**headers, "PayPal-Request-Id": key}

    async def charge(self, given: Charge, ctx: Context[Any]) -> Receipt:
        """Makes an order and captures it in one."""
        key = ctx.idempotency_key
        order = {
            "intent": "CAPTURE",
            "purchase_units": [
                {"invoice_id": key, "description": given.description, "amount": _amount(given)}
            ],
            "payment_source": {"token": {"id": given.source.paypal, "type": "PAYMENT_METHOD_TOKEN"}},
        }
        reply = await self.wire.ask(
            ctx, "POST", "/v2/checkout/orders", headers=self._headers(key), json=order
        )
        capture = reply.get("purchase_units", 0, "payments", "captures", 0)
        if reply.get("status") != "COMPLETED" or not isinstance(capture, dict):
            raise self.wire.strange(f"the order is {reply.get('status')}")
        return Receipt(id=capture["id"], provider="paypal", amount=given.amount, currency=given.currency)

    async def refund(self, given: Refund, ctx: Context[Any], key: str) -> Returned:
        """Gives a capture back, under a key of its own."""
        path = f"/v2/payments/captures/{given.id}/refund"
        body = {"amount": _amount(given)}
        reply = await self.wire.ask(ctx, "POST", path, headers=self._headers(key), json=body)
        if reply.get("status") not in {"COMPLETED", "PENDING"}:
            raise self.wire.strange(f"the refund is {reply.get('status')}")
        return Returned(id=reply.get("id"), provider="paypal", amount=given.amount, currency=given.currency)

    async def verify(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Looks for the key in the report of transactions."""
        receipt = await self._find(asked, ctx)
        if receipt is None:
            return Unknown("PayPal's report lists no transaction with this key yet, which proves nothing")
        return Found(receipt, f"capture {receipt.id} is listed")

    async def cancel(self, asked: Asked[Charge], ctx: Context[Any]) -> Knowledge:
        """Gives back what the report lists."""
        receipt = await self._find(asked, ctx)
        if receipt is None:
            return Unknown("PayPal's report lists no transaction with this key: there is nothing to undo yet")
        key = f"undo-{asked.idempotency_key}"
        returned = await self.refund(Refund(**receipt.model_dump()), ctx, key)
        return Voided(f"capture {receipt.id} is given back by refund {returned.id}")

    async def _find(self, asked: Asked[Charge], ctx: Context[Any]) -> Receipt | None:
        await self.prepare(ctx)
        query = {
            "start_date": (asked.since - _SKEW).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "end_date": (datetime.now(UTC) + _SKEW).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "fields": "transaction_info",
            "page_size": "500",
        }
        for page in range(1, _PAGES + 1):
            reply = await self.wire.ask(
                ctx,
                "GET",
                "/v1/reporting/transactions",
                headers=self._headers(),
                query={**query, "page": str(page)},
            )
            for each in reply.get("transaction_details") or []:
                info = each.get("transaction_info", {})
                if info.get("invoice_id") == asked.idempotency_key and info.get("transaction_status") == "S":
                    money = info["transaction_amount"]
                    currency = money["currency_code"]
                    return Receipt(
                        id=info["transaction_id"],
                        provider="paypal",
                        amount=minor(money["value"], currency),
                        currency=currency,
                    )
            if page >= int(reply.get("total_pages") or 1):
                break
        return None


def _amount(given: Charge | Refund) -> dict[str, str]:
    return {"currency_code": given.currency, "value": decimal(given.amount, given.currency)}
