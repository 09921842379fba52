"""/ws-fapi/v1 and /ws-api/v3: requests over a WebSocket. Each method is one of the REST routes with another envelope and its
own way of signing: the sorted parameters with `apiKey` and `timestamp` among them.

{"id": 1, "method": "order.place", "params": {"symbol": ..., "apiKey": ..., "timestamp": ..., "signature": ...}}
-> {"id": 1, "status": 200, "result": {...}, "rateLimits": [...]}

Spot's user stream comes over such a connection: `userDataStream.subscribe.signature` gives {"subscriptionId": 0}, and from
then on events arrive between the answers as {"subscriptionId": 0, "event": {...}}. A new connection hears nothing until
it subscribes again.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import WSMsgType, web

from infra.venue.local.connection import opened
from infra.venue.local.door import BLIND, HANG_S, LATE, Door
from infra.venue.local.faults import Fault
from infra.venue.local.hub import Hub, Listener
from infra.venue.local.limits import Limits, Throttled
from infra.venue.local.params import Params
from infra.venue.local.refusals import Refusal
from infra.venue.local.rest_batch import text_of
from infra.venue.local.routes import ROUTES, Access

CONNECTING: Final = 5  # weight of a connection
SUBSCRIBE: Final = "userDataStream.subscribe.signature"
UNSUBSCRIBE: Final = "userDataStream.unsubscribe"
SUBSCRIPTION: Final = 0  # a connection has one, of the one account
Methods = dict[str, tuple[str, str]]
USDM: Final[Methods] = {
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
SPOT: Final[Methods] = {
    "ping": ("GET", "/api/v3/ping"),
    "time": ("GET", "/api/v3/time"),
    "exchangeInfo": ("GET", "/api/v3/exchangeInfo"),
    "klines": ("GET", "/api/v3/klines"),
    "depth": ("GET", "/api/v3/depth"),
    "ticker.price": ("GET", "/api/v3/ticker/price"),
    "ticker.book": ("GET", "/api/v3/ticker/bookTicker"),
    "order.test": ("POST", "/api/v3/order/test"),
    "order.place": ("POST", "/api/v3/order"),
    "order.status": ("GET", "/api/v3/order"),
    "order.cancel": ("DELETE", "/api/v3/order"),
    "openOrders.status": ("GET", "/api/v3/openOrders"),
    "openOrders.cancelAll": ("DELETE", "/api/v3/openOrders"),
    "allOrders": ("GET", "/api/v3/allOrders"),
    "orderList.place.oco": ("POST", "/api/v3/orderList/oco"),
    "orderList.status": ("GET", "/api/v3/orderList"),
    "orderList.cancel": ("DELETE", "/api/v3/orderList"),
    "openOrderLists.status": ("GET", "/api/v3/openOrderList"),
    "allOrderLists": ("GET", "/api/v3/allOrderList"),
    "account.status": ("GET", "/api/v3/account"),
    "myTrades": ("GET", "/api/v3/myTrades"),
}
DIALECTS: Final[dict[str, Methods]] = {"/ws-fapi/v1": USDM, "/ws-api/v3": SPOT}
Answer = dict[str, Any]


class WsApi:
    def __init__(self, door: Door, hub: Hub) -> None:
        self.door = door
        self.hub = hub

    def add_to(self, router: web.UrlDispatcher) -> None:
        for path in DIALECTS:
            router.add_get(path, self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        dialect = "/api/" if request.path == "/ws-api/v3" else "/fapi/"
        self.door.limits_of(dialect).weight.add(time.time(), CONNECTING)
        late: set[asyncio.Task[None]] = set()
        async with opened(request, self.hub, "requests") as listener:
            try:
                async for message in listener.ws:
                    if listener.muted:
                        continue
                    if message.type is WSMsgType.PING:
                        await listener.ws.pong(message.data)
                    elif message.type is WSMsgType.TEXT:
                        task = asyncio.create_task(self._handle(request.path, listener, message.data))
                        late.add(task)
                        task.add_done_callback(late.discard)
            finally:
                for task in late:
                    task.cancel()
        return listener.ws

    async def _handle(self, path: str, listener: Listener, text: str) -> None:
        """One request, with whatever befalls it (`WS order.place` as a fault's route)."""
        self.door.requests += 1
        asked = _parse(text)
        if asked is None:
            _say(listener, {"id": None, **_refused(Refusal(-1102, "The request is not a JSON object with id and method."))})
            return
        number, method, params = asked
        fault = self.door.faults.take("WS", f"/{method}", params)
        if fault is not None and fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        if fault is not None and fault.kind in ("refuse-drop", "refuse-503"):
            listener.abort()
            return
        answer = {"id": number, **self.respond(path, method, params, fault, listener)}
        if fault is not None and answer["status"] == 200:
            match fault.kind:
                case "accept-then-hang":
                    await asyncio.sleep(HANG_S)
                case "accept-then-drop" | "accept-then-html":
                    listener.abort()
                    return
                case "accept-then-503":
                    answer = {"id": number, "status": 503, "error": {"code": -1000, "msg": BLIND}}
                case "accept-then-1007":
                    answer = {"id": number, "status": 408, "error": {"code": -1007, "msg": LATE}}
                case "delay":
                    await asyncio.sleep(fault.delay_s)
        _say(listener, answer)

    def respond(self, path: str, method: str, params: dict[str, str], fault: Fault | None, listener: Listener) -> Answer:
        """The answer without its id; the request takes effect here."""
        door, now_s = self.door, time.time()
        call = DIALECTS[path].get(method)
        route = ROUTES[call] if call is not None else None
        limits = door.limits_of("/api/" if path == "/ws-api/v3" else "/fapi/")
        try:
            limits.admit(now_s, route.weight(params) if route else 2, route.orders if route else (0, 0))
            if path == "/ws-api/v3" and method in (SUBSCRIBE, UNSUBSCRIBE):
                answer: Answer = {"status": 200, "result": self._subscribe(method, params, listener)}
            elif route is None:
                raise Refusal(-4056, f"Method '{method}' is unknown.")
            else:
                self._check(route.access, params)
                if fault is not None:
                    fault.refuse_if_meant()
                venue = fault.view if fault is not None and fault.view is not None else door.venue
                answer = {"status": 200, "result": route.answer(venue, Params(params))}
        except Refusal as no:
            answer = _refused(no)
        if params.get("returnRateLimits") != "false":
            answer["rateLimits"] = _rate_limits(limits, now_s, of_orders=route is not None and any(route.orders))
        return answer

    def _subscribe(self, method: str, params: dict[str, str], listener: Listener) -> Answer:
        if method == UNSUBSCRIBE:
            if not self.hub.leave_spot(listener):
                raise Refusal(-2036, "User Data Stream subscription not active.")
            return {}
        self._check("signed", params)
        if not self.hub.join_spot(listener, SUBSCRIPTION):
            raise Refusal(-2035, "User Data Stream subscription already active.")
        return {"subscriptionId": SUBSCRIPTION}

    def _check(self, access: Access, params: dict[str, str]) -> None:
        if access != "open":
            self.door.keys.check_key(params.get("apiKey"))
        if access == "signed":
            signed = {name: params[name] for name in sorted(params) if name != "signature"}
            self.door.keys.check_signed(urlencode(signed), "", params, self.door.venue.request_ms())


def _rate_limits(limits: Limits, now_s: float, *, of_orders: bool) -> list[Answer]:
    rules = limits.rules
    rows = [("REQUEST_WEIGHT", "MINUTE", 1, rules.weight_1m, limits.weight.used(now_s))]
    if of_orders:
        rows = [
            ("ORDERS", "SECOND", 10, rules.orders_10s, limits.orders_10s.used(now_s)),
            ("ORDERS", rules.span[0], 1, rules.orders, limits.orders_long.used(now_s)),
        ]
    names = ("rateLimitType", "interval", "intervalNum", "limit", "count")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _say(listener: Listener, answer: Answer) -> None:
    listener.push(msgspec.json.encode(answer).decode())


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
