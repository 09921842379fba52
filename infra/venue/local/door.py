"""The REST door: one handler for every address. Checks limits, key, signature and time; answers and refuses as the
exchange does.

Everything between reading the body and writing the answer happens without an await, so an answer always tells the
state in which it was given and the user events of a command are queued before its answer is sent.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from infra.venue.local.auth import Keys
from infra.venue.local.faults import Fault, Faults
from infra.venue.local.limits import SPOT, Limits, Throttled
from infra.venue.local.params import Params
from infra.venue.local.refusals import MESSAGES, Refusal
from infra.venue.local.routes import ROUTES, Route
from infra.venue.local.venue import Venue

HANG_S: Final = 3_600.0
BLIND: Final = "Unknown error, please check your request or try again later."
LATE: Final = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."
PAGE: Final = "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"


class Door:
    def __init__(self, venue: Venue, keys: Keys, faults: Faults, limits: Limits | None = None) -> None:
        self.venue = venue
        self.keys = keys
        self.faults = faults
        self.limits = limits if limits is not None else Limits()
        self.spot_limits = Limits(enforced=self.limits.enforced, rules=SPOT)
        self.requests = 0

    def limits_of(self, path: str) -> Limits:
        """Spot and perpetuals count apart."""
        return self.spot_limits if path.startswith("/api/") else self.limits

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode("utf-8", "replace")
        self.requests += 1
        query = request.rel_url.raw_query_string
        values = dict(parse_qsl(query, keep_blank_values=True) + parse_qsl(body, keep_blank_values=True))
        fault = self.faults.take(request.method, request.path, values)
        if fault is not None:
            match fault.kind:
                case "refuse-503":
                    return web.Response(status=503, text="Service Unavailable.")
                case "refuse-drop":
                    return self._cut(request)
                case "late":
                    await asyncio.sleep(fault.delay_s)
                case "late-1007":
                    asyncio.get_running_loop().call_later(fault.delay_s, self._respond, request, query, body, values, None)
                    return _lost()
        response = self._respond(request, query, body, values, fault)
        if fault is not None and response.status == 200:
            return await self._misbehave(request, fault, response)
        return response

    def _respond(self, request: web.Request, query: str, body: str, values: dict[str, str], fault: Fault | None) -> web.Response:
        route = ROUTES.get((request.method, request.path))
        headers: dict[str, str] = {}
        now_s, limits = time.time(), self.limits_of(request.path)
        try:
            limits.admit(now_s, route.weight(values) if route is not None else 1, route.orders if route is not None else (0, 0))
            if route is None:
                raise Refusal(-5000, f"Path {request.path}, Method {request.method} is invalid", status=404)
            self._check(request, route, query, body, values)
            if fault is not None:
                fault.refuse_if_meant()
            venue = fault.view if fault is not None and fault.view is not None else self.venue
            answer: Any = route.answer(venue, Params(values))
            if fault is not None:
                answer = fault.without_hidden(answer)
            status = 200
        except Refusal as no:
            answer, status = {"code": no.code, "msg": no.message}, no.status
            if isinstance(no, Throttled):
                headers["Retry-After"] = str(no.retry_after_s)
        headers["X-MBX-USED-WEIGHT-1M"] = str(limits.weight.used(now_s))
        if route is not None and any(route.orders):
            headers["X-MBX-ORDER-COUNT-10S"] = str(limits.orders_10s.used(now_s))
            headers[f"X-MBX-ORDER-COUNT-{limits.rules.span[1]}"] = str(limits.orders_long.used(now_s))
        return web.Response(status=status, body=msgspec.json.encode(answer), content_type="application/json", headers=headers)

    def _check(self, request: web.Request, route: Route, query: str, body: str, values: dict[str, str]) -> None:
        if route.access != "open":
            self.keys.check_key(request.headers.get("X-MBX-APIKEY"))
        if route.access == "signed":
            self.keys.check_signed(query, body, values, self.venue.request_ms())

    async def _misbehave(self, request: web.Request, fault: Fault, response: web.Response) -> web.StreamResponse:
        match fault.kind:
            case "accept-then-hang":
                await asyncio.sleep(HANG_S)
            case "accept-then-drop":
                return self._cut(request, response)
            case "accept-then-503":
                return web.Response(status=503, text=BLIND)
            case "accept-then-html":
                return web.Response(status=502, text=PAGE, content_type="text/html")
            case "accept-then-1007":
                return _lost()
            case "accept-then-4116":
                twice = msgspec.json.encode({"code": -4116, "msg": MESSAGES[-4116]})
                return web.Response(status=400, body=twice, content_type="application/json")
            case "delay":
                await asyncio.sleep(fault.delay_s)
        return response

    def _cut(self, request: web.Request, response: web.Response | None = None) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return response if response is not None else web.Response(status=503)


def _lost() -> web.Response:
    """-1007: nobody knows what becomes of it."""
    body = msgspec.json.encode({"code": -1007, "msg": LATE})
    return web.Response(status=408, body=body, content_type="application/json")
