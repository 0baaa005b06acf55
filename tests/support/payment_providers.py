"""Three payment providers in one process, which fail as they are told: the outside world of payments.

It speaks the wire formats of Stripe, PayPal and Square as far as `payment.charge` uses them, and records each
charge with its key. It is the judge: it knows nothing of journals, only of money that moved.

    POST /plan      {"provider", "faults": [...]}     what becomes of its next charges
    POST /odds      {"seed", "odds": {fault: share}}  the same by chance, the same for a key each time
    POST /refusing  {"provider", "refusing": bool}    whether it takes connections
    POST /show      {}                                lists what was hidden
    GET  /charges                                     every charge, in order
    GET  /moves                                       the ledger: every charge and every refund, in order
    GET  /count                                       how many charges there were
    GET  /requests                                    how many requests to charge each provider got
    GET  /faults                                      how many keys each fault was drawn for

A refund, whose plan is that of `stripe:refund` and so on, knows `ok` and `lose`. Faults of a charge, by the
first request with its key:

    ok        charges, and answers
    limited   429 before it does anything; the next request with the key charges
    decline   declines
    lose      charges, and breaks the connection off
    late      breaks it off, and charges two seconds later
    hang      charges, and answers the first request never
    broken    charges, and answers 500, also when it is repeated
    dead      charges, breaks off, and does so with every later request for this key; lists it nowhere
    hidden    the same, but lists it once it is told to: too late for `verify`
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

from aiohttp import web

PROVIDERS = ("stripe", "paypal", "square")
LATE_SECONDS = 2.0
HANG_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Move:
    """Money that moved: to the merchant, or back."""

    kind: Literal["charge", "refund"]
    provider: str
    key: str
    order: str
    id: str
    """Of the charge."""


class Wanted(NamedTuple):
    """What a request to charge asks for."""

    key: str
    order: str
    amount: int
    currency: str


@dataclass(slots=True)
class Charge:
    """Money that moved."""

    provider: str
    key: str
    order: str
    amount: int
    currency: str
    id: str
    time: float
    refunded: bool = False


@dataclass(slots=True)
class World:
    """What all providers remember."""

    charges: list[Charge] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    by_key: dict[tuple[str, str], Charge] = field(default_factory=dict)
    fault_of: dict[tuple[str, str], str] = field(default_factory=dict)
    plans: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    seed: int = 0
    odds: dict[str, float] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    refund_of: dict[str, str] = field(default_factory=dict)
    """The key of its refund, by charge."""
    shown: bool = False
    """What was hidden."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def fault(self, provider: str, key: str) -> tuple[str, bool]:
        """What becomes of a request with this key, and whether it is the first one."""
        known = self.fault_of.get((provider, key))
        if known is not None:
            return known, False
        if self.plans[provider]:
            fault = self.plans[provider].pop(0)
        elif provider not in PROVIDERS:
            fault = "ok"
        else:
            drawn = random.Random(f"{self.seed}/{provider}/{key}").random()
            fault = "ok"
            for name, share in self.odds.items():
                drawn -= share
                if drawn < 0:
                    fault = name
                    break
        self.fault_of[provider, key] = fault
        return fault, True

    def charge(self, provider: str, wanted: Wanted) -> Charge:
        """Moves the money; under a key only once."""
        if (provider, wanted.key) not in self.by_key:
            made = Charge(provider, *wanted, f"{provider}_{len(self.charges) + 1}", time.time())
            self.charges.append(made)
            self.moves.append(Move("charge", provider, wanted.key, wanted.order, made.id))
            self.by_key[provider, wanted.key] = made
        return self.by_key[provider, wanted.key]

    def give_back(self, charge_id: str) -> Charge:
        """Moves the money back; once."""
        charge = next(each for each in self.charges if each.id == charge_id)
        if not charge.refunded:
            charge.refunded = True
            self.moves.append(Move("refund", charge.provider, charge.key, charge.order, charge.id))
        return charge

    def listed(self, provider: str, since: str = "") -> list[Charge]:
        """What its search shows of the time since then."""
        begin = datetime.fromisoformat(since).timestamp() if since else 0.0
        mine = (each for each in self.charges if each.provider == provider and each.time >= begin)
        return [each for each in mine if self._is_shown(provider, each.key)]

    def _is_shown(self, provider: str, key: str) -> bool:
        fault = self.fault_of.get((provider, key))
        return fault != "dead" and (fault != "hidden" or self.shown)


def _cut(request: web.Request) -> web.Response:
    if request.transport is not None:  # else the client has cut it already
        request.transport.abort()
    return web.Response()


@dataclass(slots=True)
class Provider:
    """One provider; its wire is told apart by name."""

    name: str
    world: World

    async def take(self, request: web.Request, wanted: Wanted) -> web.Response:
        """A request to charge."""
        key = wanted.key
        self.world.requests[self.name] += 1
        fault, first = self.world.fault(self.name, key)
        if fault == "limited" and first:
            return web.json_response(
                {"error": {"type": "rate_limit"}}, status=429, headers={"Retry-After": "1"}
            )
        if fault == "decline":
            return self._declined()
        if fault == "late":
            return await self._late(request, wanted, first=first)
        charge = self.world.charge(self.name, wanted)
        if fault in {"dead", "hidden"} or (fault == "lose" and first):
            return _cut(request)
        if fault == "hang" and first:
            await asyncio.sleep(HANG_SECONDS)
            return _cut(request)
        if fault == "broken":
            return web.json_response({"error": {"type": "api_error"}}, status=500)
        return web.json_response(self._receipt(charge))

    async def _late(self, request: web.Request, wanted: Wanted, *, first: bool) -> web.Response:
        key = wanted.key

        async def later() -> None:
            await asyncio.sleep(LATE_SECONDS)
            self.world.charge(self.name, wanted)

        if first:
            task = asyncio.create_task(later())
            self.world.tasks.add(task)
            task.add_done_callback(self.world.tasks.discard)
            return _cut(request)
        if (self.name, key) not in self.world.by_key:
            return web.json_response({"error": {"type": "idempotency_error"}}, status=409)
        return web.json_response(self._receipt(self.world.by_key[self.name, key]))

    def _declined(self) -> web.Response:
        match self.name:
            case "stripe":
                body: Any = {"error": {"type": "card_error", "code": "card_declined"}}
                return web.json_response(body, status=402)
            case "paypal":
                details = [{"issue": "INSTRUMENT_DECLINED"}]
                body = {"name": "UNPROCESSABLE_ENTITY", "details": details}
                return web.json_response(body, status=422)
            case _:
                errors = [{"category": "PAYMENT_METHOD_ERROR", "code": "CARD_DECLINED"}]
                return web.json_response({"errors": errors}, status=402)

    def _receipt(self, charge: Charge) -> dict[str, Any]:
        match self.name:
            case "stripe":
                return _intent(charge)
            case "paypal":
                capture = {"id": charge.id, "status": "COMPLETED", "amount": _value(charge)}
                units = [{"payments": {"captures": [capture]}}]
                return {"id": f"order-{charge.id}", "status": "COMPLETED", "purchase_units": units}
            case _:
                return {"payment": _payment(charge)}

    def refund(self, request: web.Request, charge_id: str, key: str) -> web.Response:
        """Gives a charge back, once under a key; under another one it declines."""
        known = self.world.refund_of.setdefault(charge_id, key)
        if known != key:
            return web.json_response({"error": {"code": "charge_already_refunded"}}, status=400)
        charge = self.world.give_back(charge_id)
        fault, first = self.world.fault(f"{self.name}:refund", key)
        if fault == "lose" and first:
            return _cut(request)
        state = "succeeded" if self.name == "stripe" else "COMPLETED"
        refund = {"id": f"re-{charge.id}", "status": state}
        return web.json_response({"refund": refund} if self.name == "square" else refund)


def _intent(charge: Charge) -> dict[str, Any]:
    return {
        "id": charge.id,
        "object": "payment_intent",
        "status": "succeeded",
        "amount": charge.amount,
        "currency": charge.currency.lower(),
        "metadata": {"reflux_key": charge.key},
    }


def _value(charge: Charge) -> dict[str, str]:
    return {"currency_code": charge.currency, "value": f"{charge.amount // 100}.{charge.amount % 100:02d}"}


def _payment(charge: Charge) -> dict[str, Any]:
    return {
        "id": charge.id,
        "status": "COMPLETED",
        "reference_id": charge.key[:40],
        "amount_money": {"amount": charge.amount, "currency": charge.currency},
    }


def stripe(provider: Provider) -> web.Application:
    """Its routes; a wrong key or a JSON body is refused, as there."""

    async def charge(request: web.Request) -> web.Response:
        _authorized(request, "Bearer sk_test_nobody")
        form = await request.post()
        assert form["confirm"] == "true"
        key = request.headers["Idempotency-Key"]
        assert form["metadata[reflux_key]"] == key
        amount, currency = int(str(form["amount"])), str(form["currency"]).upper()
        return await provider.take(request, Wanted(key, str(form["description"]), amount, currency))

    async def search(request: web.Request) -> web.Response:
        _authorized(request, "Bearer sk_test_nobody")
        key = request.query["query"].split(":")[1].strip("'")
        found = [_intent(each) for each in provider.world.listed("stripe") if each.key == key]
        return web.json_response({"object": "search_result", "data": found, "has_more": False})

    async def refund(request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        return provider.refund(request, str((await request.post())["payment_intent"]), key)

    return _routes(
        ("POST", "/v1/payment_intents", charge),
        ("GET", "/v1/payment_intents/search", search),
        ("POST", "/v1/refunds", refund),
    )


def paypal(provider: Provider) -> web.Application:
    """Its routes."""

    async def token(request: web.Request) -> web.Response:
        assert request.headers["Authorization"].startswith("Basic ")
        assert (await request.post())["grant_type"] == "client_credentials"
        return web.json_response({"access_token": "A21", "token_type": "Bearer", "expires_in": 32400})

    async def charge(request: web.Request) -> web.Response:
        _authorized(request, "Bearer A21")
        order = await request.json()
        unit = order["purchase_units"][0]
        key = request.headers["PayPal-Request-Id"]
        assert unit["invoice_id"] == key
        assert order["intent"] == "CAPTURE"
        whole, _, part = unit["amount"]["value"].partition(".")
        amount = int(whole) * 100 + int(part)
        return await provider.take(
            request, Wanted(key, unit["description"], amount, unit["amount"]["currency_code"])
        )

    async def report(request: web.Request) -> web.Response:
        _authorized(request, "Bearer A21")
        details = [
            {
                "transaction_info": {
                    "transaction_id": each.id,
                    "invoice_id": each.key,
                    "transaction_status": "S",
                    "transaction_amount": _value(each),
                }
            }
            for each in provider.world.listed("paypal", request.query["start_date"])
        ]
        size, page = int(request.query["page_size"]), int(request.query["page"])
        pages = max(1, -(-len(details) // size))
        shown = details[(page - 1) * size : page * size]
        return web.json_response({"transaction_details": shown, "total_pages": pages})

    async def refund(request: web.Request) -> web.Response:
        _authorized(request, "Bearer A21")
        return provider.refund(request, request.match_info["id"], request.headers["PayPal-Request-Id"])

    return _routes(
        ("POST", "/v1/oauth2/token", token),
        ("POST", "/v2/checkout/orders", charge),
        ("GET", "/v1/reporting/transactions", report),
        ("POST", "/v2/payments/captures/{id}/refund", refund),
    )


def square(provider: Provider) -> web.Application:
    """Its routes."""

    async def charge(request: web.Request) -> web.Response:
        _authorized(request, "Bearer square-nobody")
        body = await request.json()
        key, money = body["idempotency_key"], body["amount_money"]
        assert len(key) <= 45
        return await provider.take(request, Wanted(key, body["note"], money["amount"], money["currency"]))

    async def listed(request: web.Request) -> web.Response:
        _authorized(request, "Bearer square-nobody")
        begin = int(request.query.get("cursor", "0"))
        mine = provider.world.listed("square", request.query["begin_time"])
        body: dict[str, Any] = {"payments": [_payment(each) for each in mine[begin : begin + 100]]}
        if len(mine) > begin + 100:
            body["cursor"] = str(begin + 100)
        return web.json_response(body)

    async def cancel(request: web.Request) -> web.Response:
        assert (await request.json())["idempotency_key"]
        return web.json_response({})

    async def refund(request: web.Request) -> web.Response:
        body = await request.json()
        return provider.refund(request, body["payment_id"], body["idempotency_key"])

    return _routes(
        ("POST", "/v2/payments", charge),
        ("GET", "/v2/payments", listed),
        ("POST", "/v2/payments/cancel", cancel),
        ("POST", "/v2/refunds", refund),
    )


def _authorized(request: web.Request, wanted: str) -> None:
    if request.headers.get("Authorization") != wanted:
        raise web.HTTPUnauthorized


def _routes(*routes: tuple[str, str, Any]) -> web.Application:
    @web.middleware
    async def closing(request: web.Request, handler: Any) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)
        response.force_close()  # so that who refuses connections refuses everybody
        return response

    application = web.Application(middlewares=[closing])
    for method, path, handler in routes:
        application.router.add_route(method, path, handler)
    return application


async def _serve() -> None:
    world = World()
    applications = {"stripe": stripe, "paypal": paypal, "square": square}
    sites: dict[str, tuple[web.AppRunner, web.TCPSite | None, int]] = {}
    for name, make in applications.items():
        runner = web.AppRunner(make(Provider(name, world)))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        sites[name] = (runner, site, runner.addresses[0][1])

    async def plan(request: web.Request) -> web.Response:
        body = await request.json()
        world.plans[body["provider"]].extend(body["faults"])
        return web.Response()

    async def odds(request: web.Request) -> web.Response:
        body = await request.json()
        world.seed, world.odds = body["seed"], body["odds"]
        return web.Response()

    async def refusing(request: web.Request) -> web.Response:
        body = await request.json()
        runner, site, port = sites[body["provider"]]
        if body["refusing"] and site is not None:
            await site.stop()
            site = None
        elif not body["refusing"] and site is None:
            site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
            await site.start()
        sites[body["provider"]] = (runner, site, port)
        return web.Response()

    async def show(_: web.Request) -> web.Response:
        world.shown = True
        return web.Response()

    async def charges(_: web.Request) -> web.Response:
        return web.json_response([asdict(each) for each in world.charges])

    async def moves(_: web.Request) -> web.Response:
        return web.json_response([asdict(each) for each in world.moves])

    async def faults(_: web.Request) -> web.Response:
        return web.json_response(Counter(world.fault_of.values()))

    control = web.Application()
    control.router.add_post("/show", show)
    control.router.add_get("/moves", moves)

    async def count(_: web.Request) -> web.Response:
        return web.json_response(len(world.charges))

    control.router.add_get("/faults", faults)

    async def requests(_: web.Request) -> web.Response:
        return web.json_response(world.requests)

    control.router.add_get("/count", count)
    control.router.add_get("/requests", requests)
    control.router.add_post("/plan", plan)
    control.router.add_post("/odds", odds)
    control.router.add_post("/refusing", refusing)
    control.router.add_get("/charges", charges)
    runner = web.AppRunner(control)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    urls = {name: f"http://127.0.0.1:{port}" for name, (_, _, port) in sites.items()}
    print(json.dumps({"control": f"http://127.0.0.1:{runner.addresses[0][1]}", **urls}), flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve())
