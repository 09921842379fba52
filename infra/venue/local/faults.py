"""Planned misbehaviour of the door, for tests: what clients must survive, on chosen routes, a chosen number of times.

- accept-then-hang: the request takes effect and is never answered
- accept-then-drop: it takes effect and the connection is cut
- accept-then-503: it takes effect and the answer is "Unknown error"
- refuse-503: it takes no effect, "Service Unavailable."
- delay: it takes effect at once and is answered late
- late: it takes effect late, perhaps after the client has given up
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from infra.errors import UserError

Kind = Literal["accept-then-hang", "accept-then-drop", "accept-then-503", "refuse-503", "delay", "late"]
KINDS: Final = ("accept-then-hang", "accept-then-drop", "accept-then-503", "refuse-503", "delay", "late")


@dataclass(slots=True)
class Fault:
    """`route` is "order", "POST order" or "POST /fapi/v1/order"; without a method it means POST."""

    method: str
    path: str  # the end of the path, without a leading slash
    kind: Kind
    count: int
    delay_s: float

    def meets(self, method: str, path: str) -> bool:
        return self.count > 0 and method == self.method and path.endswith("/" + self.path)


class Faults:
    def __init__(self) -> None:
        self.planned: list[Fault] = []

    def plan(self, body: dict[str, Any]) -> Fault:
        what = "the fault cannot be planned"
        kind, route = body.get("kind"), body.get("route")
        if kind not in KINDS:
            raise UserError(what, f"kind {kind!r} is unknown", f"choose one of {', '.join(KINDS)}")
        if not isinstance(route, str) or not route:
            raise UserError(what, "no route was named", 'name one, such as "order" or "DELETE algoOrder"')
        first, _, rest = route.strip().partition(" ")
        method, path = (first.upper(), rest) if rest else ("POST", first)
        try:
            count, delay_s = int(body.get("count", 1)), float(body.get("delay_s", 0.0))
        except (TypeError, ValueError):
            raise UserError(what, "count or delay_s is not a number", "give numbers") from None
        fault = Fault(method, path.lstrip("/"), cast(Kind, kind), count, delay_s)
        self.planned.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The first planned fault that this request meets; it is used up by one."""
        for fault in self.planned:
            if fault.meets(method, path):
                fault.count -= 1
                return fault
        return None
