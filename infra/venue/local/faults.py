"""Planned misbehaviour, for tests: what clients must survive, on chosen routes, a chosen number of times, with a chosen
probability (from a seeded generator).

At the door (`route`: "order", "DELETE algoOrder", "*"):
- accept-then-hang, -drop, -503, -html, -1007: the request takes effect and its answer is lost in that way
- accept-then-4116: the request takes effect and its answer is that of a second one under the same client id
- refuse-503, refuse-drop: it takes no effect; "Service Unavailable.", or the connection is cut
- refuse with `code` (or refuse-1021 and so on): it takes no effect and is answered with that code of the exchange;
  a throttled one (-1008) lets through what reduces a position, as live
- 429, 418: it takes no effect and is answered so, with Retry-After of `retry_after_s`
- delay: it takes effect at once and is answered late; late: it takes effect late, perhaps after the client has given up
- late-1007: answered at once with -1007, and takes effect late
- hide: a list is answered without the rows of the symbol `only`, or empty
- stale: answered from the account and the books as they were when the fault was planned
On the user stream (`route`: an event's name or "*"): event-duplicate, event-delay, event-reorder, event-drop.
At a trigger (`route`: a symbol or "*"): algo-reject.

`only` narrows a fault to requests in which some parameter has this value (a symbol, a client id), and to events that name it.
`count` is how often (default 1; with a duration without end), `for_s` how long in real seconds, `for_market_s` in the market's.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from infra.errors import UserError
from infra.venue.local.limits import Throttled
from infra.venue.local.refusals import MESSAGES, refuse

if TYPE_CHECKING:
    from infra.venue.local.venue import Venue

DOOR: Final = (
    "accept-then-hang",
    "accept-then-drop",
    "accept-then-503",
    "accept-then-html",
    "accept-then-1007",
    "accept-then-4116",
    "refuse-503",
    "refuse-drop",
    "refuse",
    "429",
    "418",
    "delay",
    "late",
    "late-1007",
    "stale",
    "hide",
)
EVENTS: Final = ("event-duplicate", "event-delay", "event-reorder", "event-drop")
TRIGGERS: Final = ("algo-reject",)
KINDS: Final = DOOR + EVENTS + TRIGGERS
ENDLESS: Final = 1_000_000_000
_REFUSE_CODE: Final = re.compile(r"refuse(-[0-9]{4})")
_METHODS: Final = ("GET", "POST", "PUT", "DELETE", "WS")


@dataclass(slots=True)
class Fault:
    """`route` is "order", "POST order" or "POST /fapi/v1/order"; without a method it means POST (for "*": all)."""

    method: str
    path: str  # the end of the path, without a leading slash; or an event, or a symbol
    kind: str
    count: int = 1
    delay_s: float = 0.0
    code: int = 0
    probability: float = 1.0
    until_s: float | None = None  # monotonic
    until_t: int | None = None  # market time
    retry_after_s: int = 1
    only: str = ""
    hits: int = 0
    view: Venue | None = None  # for stale: what it answers from

    @property
    def is_over(self) -> bool:
        return self.count <= 0 or (self.until_s is not None and time.monotonic() >= self.until_s)

    def meets(self, method: str, path: str, params: Mapping[str, str] | None = None) -> bool:
        if self.only and self.kind != "hide" and (params is None or self.only not in params.values()):
            return False
        if self.path == "*":
            return self.method in ("*", method)
        return method == self.method and path.endswith("/" + self.path)

    def refuse_if_meant(self) -> None:
        if self.kind == "refuse":
            raise refuse(self.code)
        if self.kind == "429":
            raise Throttled(-1003, "Too many requests.", 429, self.retry_after_s)
        if self.kind == "418":
            raise Throttled(-1003, "Way too many requests; IP(127.0.0.1) banned.", 418, self.retry_after_s)

    def without_hidden(self, answer: Any) -> Any:
        """What is left of a list."""
        if self.kind != "hide" or not isinstance(answer, list):
            return answer
        return [row for row in answer if self.only and row.get("symbol") != self.only]

    def row(self) -> dict[str, Any]:
        names = ("method", "path", "kind", "count", "delay_s", "code", "probability", "retry_after_s", "only", "hits")
        return {name: getattr(self, name) for name in names}


def _reduces(params: Mapping[str, str]) -> bool:
    return "true" in (params.get("reduceOnly", "").lower(), params.get("closePosition", "").lower())


class Faults:
    def __init__(self, seed: int = 1) -> None:
        self.planned: list[Fault] = []
        self.market_t: Callable[[], int] = lambda: 0
        self._dice = random.Random(seed)

    def plan(self, body: Mapping[str, Any]) -> Fault:
        what = "the fault cannot be planned"
        kind, route = body.get("kind"), body.get("route", "")
        kind, code = str(kind), body.get("code", 0)
        if (coded := _REFUSE_CODE.fullmatch(kind)) is not None:
            kind, code = "refuse", coded[1]
        if kind not in KINDS:
            raise UserError(what, f"kind {body.get('kind')!r} is unknown", f"choose one of {', '.join(KINDS)}")
        if not isinstance(route, str) or (not route and kind in DOOR):
            raise UserError(what, "no route was named", 'name one, such as "order" or "DELETE algoOrder"')
        try:
            lasting_s = float(body["for_s"]) if "for_s" in body else None
            lasting_market_s = float(body["for_market_s"]) if "for_market_s" in body else None
            endless = lasting_s is not None or lasting_market_s is not None
            fault = Fault(
                *_where(route or "*"),
                kind,
                count=int(body.get("count", ENDLESS if endless else 1)),
                delay_s=float(body.get("delay_s", 0.0)),
                code=int(code),
                probability=float(body.get("probability", 1.0)),
                until_s=None if lasting_s is None else time.monotonic() + lasting_s,
                until_t=None if lasting_market_s is None else self.market_t() + int(lasting_market_s * 1000),
                retry_after_s=int(body.get("retry_after_s", 1)),
                only=str(body.get("only", "")),
            )
        except (TypeError, ValueError):
            raise UserError(
                what, "one of count, delay_s, for_s, for_market_s, probability, code is not a number", "give numbers"
            ) from None
        if kind == "refuse" and fault.code not in MESSAGES:
            raise UserError(what, f"code {fault.code} is unknown", f"choose one of {', '.join(map(str, MESSAGES))}")
        self.planned.append(fault)
        return fault

    def take(self, method: str, path: str, params: Mapping[str, str] | None = None) -> Fault | None:
        """The first planned fault that this request meets; it is used up by one."""
        for fault in self._living(DOOR):
            if fault.meets(method, path, params):
                if fault.code == -1008 and params is not None and _reduces(params):
                    continue
                if self._hit(fault):
                    return fault
        return None

    def take_event(self, name: str, text: str = "") -> Fault | None:
        met = (f for f in self._living(EVENTS) if f.path in ("*", name) and (not f.only or f'"{f.only}"' in text))
        return next((f for f in met if self._hit(f)), None)

    def take_trigger(self, symbol: str) -> bool:
        return any(f.path in ("*", symbol) and self._hit(f) for f in self._living(TRIGGERS))

    def _living(self, kinds: tuple[str, ...]) -> list[Fault]:
        if not self.planned:
            return []
        now_t = self.market_t()
        self.planned = [f for f in self.planned if not f.is_over and (f.until_t is None or now_t < f.until_t)]
        return [fault for fault in self.planned if fault.kind in kinds]

    def _hit(self, fault: Fault) -> bool:
        if fault.is_over or (fault.probability < 1 and self._dice.random() >= fault.probability):
            return False
        fault.count -= 1
        fault.hits += 1
        return True


def _where(route: str) -> tuple[str, str]:
    first, _, rest = route.strip().partition(" ")
    if rest and first.upper() in _METHODS:
        return first.upper(), rest.strip().lstrip("/")
    return ("*" if first == "*" else "POST"), first.lstrip("/")
