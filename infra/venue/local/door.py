"""The REST door: one handler for every address. Checks key, signature and time; answers and refuses as the exchange does.

Everything between reading the body and writing the answer happens without an await, so an answer always tells the
state in which it was given and the user events of a command are queued before its answer is sent.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from infra.venue.local.auth import Keys
from infra.venue.local.faults import Fault, Faults
from infra.venue.local.params import Params
from infra.venue.local.refusals import Refusal
from infra.venue.local.rest_market import real_ms
from infra.venue.local.routes import COUNTED_AS_ORDERS, ROUTES, Route
from infra.venue.local.venue import Venue

HANG_S: Final = 3_600.0


class Counter:
    """How much was used in the last span of real time."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._uses: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, wall_s: float, weight: int) -> int:
        if weight:
            self._uses.append((wall_s, weight))
            self._sum += weight
        while self._uses and self._uses[0][0] < wall_s - self._span_s:
            self._sum -= self._uses.popleft()[1]
        return self._sum


class Door:
    def __init__(self, venue: Venue, keys: Keys, faults: Faults) -> None:
        self.venue = venue
        self.keys = keys
        self.faults = faults
        self.weight = Counter(60)
        self.orders_10s, self.orders_1m = Counter(10), Counter(60)
        self.requests = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        self.requests += 1
        call = (request.method, request.path)
        fault = self.faults.take(*call)
        if fault is not None and fault.kind == "refuse-503":
            return web.Response(status=503, text="Service Unavailable.")
        if fault is not None and fault.kind == "late":
            await asyncio.sleep(fault.delay_s)
        response = self._respond(request, body)
        if fault is not None and response.status == 200:
            return await self._misbehave(request, fault, response)
        return response

    def _respond(self, request: web.Request, body: str) -> web.Response:
        call = (request.method, request.path)
        route = ROUTES.get(call)
        try:
            if route is None:
                raise Refusal(-5000, f"Path {request.path}, Method {request.method} is invalid", status=404)
            answer: Any = self._answer(request, route, body)
            status = 200
        except Refusal as no:
            answer, status = {"code": no.code, "msg": no.message}, no.status
        wall_s = time.monotonic()
        used = self.weight.add(wall_s, route.weight if route is not None else 1)
        headers = {"X-MBX-USED-WEIGHT-1M": str(used)}
        if call in COUNTED_AS_ORDERS:
            headers["X-MBX-ORDER-COUNT-10S"] = str(self.orders_10s.add(wall_s, 1))
            headers["X-MBX-ORDER-COUNT-1M"] = str(self.orders_1m.add(wall_s, 1))
        return web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json", headers=headers)

    def _answer(self, request: web.Request, route: Route, body: str) -> Any:
        query = request.rel_url.raw_query_string
        values = dict(parse_qsl(query, keep_blank_values=True) + parse_qsl(body, keep_blank_values=True))
        if route.access != "open":
            self.keys.check_key(request.headers.get("X-MBX-APIKEY"))
        if route.access == "signed":
            self.keys.check_signed(query, body, values, real_ms())
        return route.answer(self.venue, Params(values))

    async def _misbehave(self, request: web.Request, fault: Fault, response: web.Response) -> web.StreamResponse:
        match fault.kind:
            case "accept-then-hang":
                await asyncio.sleep(HANG_S)
            case "accept-then-drop":
                if request.transport is not None:
                    request.transport.abort()
            case "accept-then-503":
                return web.Response(status=503, text="Unknown error, please check your request or try again later.")
            case "delay":
                await asyncio.sleep(fault.delay_s)
        return response
