"""/ws-fapi/v1: requests over a WebSocket. Each method is one of the REST routes with another envelope and its own way
of signing: the sorted parameters with `apiKey` and `timestamp` among them.

{"id": 1, "method": "order.place", "params": {"symbol": ..., "apiKey": ..., "timestamp": ..., "signature": ...}}
-> {"id": 1, "status": 200, "result": {...}, "rateLimits": [...]}
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import WSMsgType, web

from infra.venue.local.door import BLIND, HANG_S, LATE, Door
from infra.venue.local.faults import Fault
from infra.venue.local.limits import ORDERS_1M, ORDERS_10S, WEIGHT_1M, Throttled
from infra.venue.local.params import Params
from infra.venue.local.refusals import Refusal
from infra.venue.local.rest_batch import text_of
from infra.venue.local.routes import ROUTES, Route

HEARTBEAT_S: Final = 180.0
CONNECTING: Final = 5  # weight of a connection
METHODS: Final[dict[str, tuple[str, str]]] = {
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "account.status": ("GET", "/fapi/v2/account"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "depth": ("GET", "/fapi/v1/depth"),
    "ticker.price": ("GET", "/fapi/v1/ticker/price"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
}
Answer = dict[str, Any]


class WsApi:
    def __init__(self, door: Door) -> None:
        self.door = door

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/ws-fapi/v1", self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.door.limits.weight.add(time.time(), CONNECTING)
        ws = web.WebSocketResponse(heartbeat=HEARTBEAT_S, compress=False)
        await ws.prepare(request)
        late: set[asyncio.Task[None]] = set()
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    task = asyncio.create_task(self._handle(request, ws, message.data))
                    late.add(task)
                    task.add_done_callback(late.discard)
        finally:
            for task in late:
                task.cancel()
        return ws

    async def _handle(self, request: web.Request, ws: web.WebSocketResponse, text: str) -> None:
        """One request, with whatever befalls it (`WS order.place` as a fault's route)."""
        self.door.requests += 1
        asked = _parse(text)
        if asked is None:
            await self._say(ws, {"id": None, **_refused(Refusal(-1102, "The request is not a JSON object with id and method."))})
            return
        number, method, params = asked
        fault = self.door.faults.take("WS", f"/{method}", params)
        if fault is not None and fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        if fault is not None and fault.kind in ("refuse-drop", "refuse-503"):
            _cut(request)
            return
        answer = {"id": number, **self.respond(method, params, fault)}
        if fault is not None and answer["status"] == 200:
            match fault.kind:
                case "accept-then-hang":
                    await asyncio.sleep(HANG_S)
                case "accept-then-drop" | "accept-then-html":
                    _cut(request)
                    return
                case "accept-then-503":
                    answer = {"id": number, "status": 503, "error": {"code": -1000, "msg": BLIND}}
                case "accept-then-1007":
                    answer = {"id": number, "status": 408, "error": {"code": -1007, "msg": LATE}}
                case "delay":
                    await asyncio.sleep(fault.delay_s)
        await self._say(ws, answer)

    def respond(self, method: str, params: dict[str, str], fault: Fault | None = None) -> Answer:
        """The answer without its id; the request takes effect here."""
        door, now_s = self.door, time.time()
        call = METHODS.get(method)
        route = ROUTES[call] if call is not None else None
        try:
            door.limits.admit(now_s, route.weight(params) if route else 1, route.orders if route else (0, 0))
            if route is None:
                raise Refusal(-4056, f"Method '{method}' is unknown.")
            self._check(route, params)
            if fault is not None:
                fault.refuse_if_meant()
            venue = fault.view if fault is not None and fault.view is not None else door.venue
            answer: Answer = {"status": 200, "result": route.answer(venue, Params(params))}
        except Refusal as no:
            answer = _refused(no)
        if params.get("returnRateLimits") != "false":
            answer["rateLimits"] = self._rate_limits(now_s, of_orders=route is not None and any(route.orders))
        return answer

    def _check(self, route: Route, params: dict[str, str]) -> None:
        if route.access != "open":
            self.door.keys.check_key(params.get("apiKey"))
        if route.access == "signed":
            signed = {name: params[name] for name in sorted(params) if name != "signature"}
            self.door.keys.check_signed(urlencode(signed), "", params, self.door.venue.request_ms())

    def _rate_limits(self, now_s: float, *, of_orders: bool) -> list[Answer]:
        limits = self.door.limits
        rows = [("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_1M, limits.weight.used(now_s))]
        if of_orders:
            rows = [
                ("ORDERS", "SECOND", 10, ORDERS_10S, limits.orders_10s.used(now_s)),
                ("ORDERS", "MINUTE", 1, ORDERS_1M, limits.orders_1m.used(now_s)),
            ]
        names = ("rateLimitType", "interval", "intervalNum", "limit", "count")
        return [dict(zip(names, row, strict=True)) for row in rows]

    async def _say(self, ws: web.WebSocketResponse, answer: Answer) -> None:
        with suppress(ConnectionError):  # who has gone meanwhile needs no answer
            await ws.send_str(msgspec.json.encode(answer).decode())


def _parse(text: str) -> tuple[Any, str, dict[str, str]] | None:
    try:
        asked = json.loads(text)
        params = asked.get("params") or {}
        return asked.get("id"), str(asked["method"]), {key: text_of(value) for key, value in params.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _refused(no: Refusal) -> Answer:
    error: Answer = {"code": no.code, "msg": no.message}
    if isinstance(no, Throttled):
        error["data"] = {"serverTime": time.time_ns() // 1_000_000, "retryAfter": int((time.time() + no.retry_after_s) * 1000)}
    return {"status": no.status, "error": error}


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()
