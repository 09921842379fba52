"""The control port, loopback only: pause and resume the market, read the exchange's own log and audit, plan faults, and
do what no client of ours does.

GET /control/state · /control/log[?after=SEQ] · /control/audit[?since=EPOCH_SECONDS] · /control/faults
POST /control/pause · /control/resume · /control/faults · /control/price-shock · /control/shutdown
POST /control/trade · /control/symbol · /control/liquidity · /control/skew · /control/limits · /control/sockets (see hand.py)
DELETE /control/faults
"""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from infra.errors import UserError
from infra.venue.local.audit import audit
from infra.venue.local.hand import ACTS, Act

if TYPE_CHECKING:
    from infra.venue.local.runtime import Exchange


class Control:
    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/control/state", self.state)
        router.add_get("/control/log", self.log)
        router.add_get("/control/audit", self.audit)
        router.add_post("/control/pause", self.pause)
        router.add_post("/control/resume", self.resume)
        router.add_post("/control/faults", self.plan_fault)
        router.add_delete("/control/faults", self.forget_faults)
        router.add_post("/control/price-shock", self.shock)
        router.add_post("/control/shutdown", self.shutdown)
        router.add_get("/control/faults", self.faults)
        for name, act in ACTS.items():
            router.add_post(f"/control/{name}", self._acting(act))

    async def state(self, request: web.Request) -> web.Response:
        return _json(self.exchange.state())

    async def log(self, request: web.Request) -> web.Response:
        after = request.query.get("after", "0")
        if not after.isdigit():
            return _refused(UserError("the log cannot be read", f"after={after!r} is not a number", "give the last seq you know"))
        return _json({"records": self.exchange.journal.records[int(after) :]})

    async def audit(self, request: web.Request) -> web.Response:
        try:
            since_wall = float(request.query.get("since", "0"))
        except ValueError:
            return _refused(UserError("the log cannot be judged", "since is not a number", "give epoch seconds"))
        return _json(audit(self.exchange.journal.records, time.time(), self.exchange.venue.market_t, since_wall))

    async def pause(self, request: web.Request) -> web.Response:
        self.exchange.pause()
        return _json(self.exchange.state())

    async def resume(self, request: web.Request) -> web.Response:
        self.exchange.resume()
        return _json(self.exchange.state())

    async def plan_fault(self, request: web.Request) -> web.Response:
        """{"route": "order" | "DELETE algoOrder", "kind": ..., "count": 1, ...}: see faults.py and socket_faults.py"""
        try:
            body = json.loads(await request.text())
            done = await self.exchange.plan_fault(body if isinstance(body, dict) else {})
        except ValueError:
            return _refused(UserError("the fault cannot be planned", "the body is not JSON", "send a JSON object"))
        except UserError as mistake:
            return _refused(mistake)
        return _json(done)

    async def faults(self, request: web.Request) -> web.Response:
        return _json([fault.row() for fault in self.exchange.faults.planned])

    def _acting(self, act: Act) -> Any:
        async def handler(request: web.Request) -> web.Response:
            try:
                body = json.loads(await request.text() or "{}")
                return _json(act(self.exchange, body if isinstance(body, dict) else {}))
            except ValueError:
                return _refused(UserError("nothing was done", "the body is not JSON", "send a JSON object"))
            except UserError as mistake:
                return _refused(mistake)

        return handler

    async def forget_faults(self, request: web.Request) -> web.Response:
        self.exchange.faults.planned.clear()
        return _json({})

    async def shock(self, request: web.Request) -> web.Response:
        """{"symbol": "BTCUSDT", "pct": -2.5}: prices are that much lower from the next event on, of several symbols at once by
        commas. No recording says so any more."""
        what = "the price cannot be moved"
        try:
            body = json.loads(await request.text())
            names, part = str(body["symbol"]).split(","), Decimal(str(body["pct"])) / 100
        except (ValueError, TypeError, KeyError, ArithmeticError):
            return _refused(UserError(what, "the body does not say which and how far", 'send {"symbol": "BTCUSDT", "pct": -2.5}'))
        for name in names:
            if name in self.exchange.venue.symbols:
                continue
            return _refused(UserError(what, f"{name} is not traded here", "see /control/state for what is"))
        if not (part.is_finite() and -Decimal("0.5") <= part <= Decimal("0.5")):
            return _refused(UserError(what, f"{part:%} is too far", "stay within 50 percent"))
        shifts = self.exchange.shock(names, part)
        return _json({"symbol": body["symbol"], "shift_ticks": shifts[names[0]]})

    async def shutdown(self, request: web.Request) -> web.Response:
        self.exchange.stopping.set()
        return _json({})


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


def _refused(mistake: UserError) -> web.Response:
    return _json({"what": mistake.what, "why": mistake.why, "do": mistake.do}, status=400)
