"""The WebSocket addresses: combined and raw streams by category, SUBSCRIBE and its kin, and the user stream behind
its listen key.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from aiohttp import WSMsgType, web

from infra.venue.local.connection import Pace, opened, put_out
from infra.venue.local.hub import Hub, Listener
from infra.venue.local.venue import Venue

MOST_STREAMS: Final = 1_024


class Sockets:
    def __init__(self, venue: Venue, hub: Hub) -> None:
        self.venue = venue
        self.hub = hub

    def add_to(self, router: web.UrlDispatcher) -> None:
        for prefix, category in (("", ""), ("/public", "public"), ("/market", "market")):
            router.add_get(f"{prefix}/stream", self._serve(category, combined=True))
            router.add_get(f"{prefix}/ws", self._serve(category, combined=False))
            router.add_get(f"{prefix}/ws/{{streams:.*}}", self._serve(category, combined=False))
        router.add_get("/private/stream", self._serve("private", combined=True))
        router.add_get("/private/ws", self._serve("private", combined=False))
        router.add_get("/private/ws/{key}", self._serve("private", combined=False))

    def _serve(self, category: str, *, combined: bool) -> Any:
        async def handler(request: web.Request) -> web.StreamResponse:
            async with opened(request, self.hub, category, combined=combined) as listener:
                self._join(listener, request)
                await self._listen(listener)
            return listener.ws

        return handler

    def _join(self, listener: Listener, request: web.Request) -> None:
        asked = request.match_info.get("streams") or request.query.get("streams") or ""
        key = request.query.get("listenKey") or request.match_info.get("key") or ""
        if listener.category == "private" and not key:
            key, asked = asked, ""
        if listener.category == "" and "@" not in asked and asked:
            key, asked = asked, ""  # the old address of the user stream: /ws/<listenKey>
        if key and key == self.venue.listen_key.value and listener.category in ("", "private"):
            self.hub.join_user(listener, key)  # an unknown key is accepted and stays silent, as live
        if listener.category != "private":
            self.hub.subscribe(listener, [name for name in asked.split("/") if name][:MOST_STREAMS])

    async def _listen(self, listener: Listener) -> None:
        pace = Pace()
        async for message in listener.ws:
            if listener.muted:
                continue
            if pace.is_too_fast(time.monotonic()):
                await put_out(listener.ws)
                return
            if message.type is WSMsgType.PING:
                await listener.ws.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                listener.push(json.dumps(self._reply(listener, message.data)))

    def _reply(self, listener: Listener, text: str) -> dict[str, Any]:
        try:
            asked = json.loads(text)
            method, number = asked["method"], asked.get("id")
        except (ValueError, TypeError, KeyError, AttributeError):
            return {"error": {"code": 3, "msg": "Invalid JSON: expected an object with a method"}}
        names = asked.get("params") or []
        if method == "LIST_SUBSCRIPTIONS":
            return {"result": list(listener.streams), "id": number}
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return {"error": {"code": 2, "msg": f"Invalid request: unknown method {method}"}, "id": number}
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return {"error": {"code": 2, "msg": "Invalid request: params must be an array of strings"}, "id": number}
        if method == "SUBSCRIBE":
            if len(listener.streams) + len(names) > MOST_STREAMS:
                return {"error": {"code": 2, "msg": "Invalid request: too many streams"}, "id": number}
            self.hub.subscribe(listener, names)
            if listener.category in ("", "private") and self.venue.listen_key.value in names:
                self.hub.join_user(listener, self.venue.listen_key.value)
        else:
            self.hub.unsubscribe(listener, names)
        return {"result": None, "id": number}
