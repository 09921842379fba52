"""What can happen to a connection: cut, closed with 1001, or half-open, and the end of the listen key. Done at once, to
all connections of a category.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from infra.errors import UserError
from infra.venue.local.hub import Listener

if TYPE_CHECKING:
    from infra.venue.local.venue import Venue

KINDS: Final = ("ws-abort", "ws-1001", "ws-half-open", "listen-key-expired")
CATEGORIES: Final = ("user", "market", "public", "private", "requests", "*")
GOING_AWAY: Final = 1001
SAID_S: Final = 0.2


async def befall(venue: Venue, body: dict[str, Any]) -> dict[str, Any]:
    """{"kind": "ws-abort", "route": "user"}; gives how many connections it met."""
    kind, category = str(body.get("kind")), str(body.get("route") or "*")
    if category not in CATEGORIES:
        raise UserError("the fault cannot happen", f"route {category!r} is unknown", f"choose one of {', '.join(CATEGORIES)}")
    hub = venue.hub
    if kind == "listen-key-expired":
        met: list[Listener] = [x for x in hub.users() if x.category != "requests"]
        venue.drop_listen_key()
    else:
        met = hub.users() if category == "user" else [x for x in hub.listeners if category in ("*", x.category)]
        for listener in met:
            if kind == "ws-abort":
                listener.abort()
            elif kind == "ws-half-open":
                listener.muted = True
                listener.queue.clear()
        if kind == "ws-1001" and met:
            closing = [asyncio.ensure_future(x.ws.close(code=GOING_AWAY, message=b"going away")) for x in met]
            await asyncio.wait(closing, timeout=SAID_S)  # said at once; whoever does not answer is left to it
    return {"kind": kind, "route": category, "connections": len(met)}
