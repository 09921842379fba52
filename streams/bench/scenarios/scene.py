"""A scenario at work: one instrument of the street, what can be done to it, and what is seen of it from outside."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from infra.venue.binance.filters import instrument_of
from schemas import ids, topics
from schemas.ids import Purpose
from schemas.operations import Command, CommandKind
from schemas.trading import Entry, OrderType
from schemas.units import Side
from streams.bench.entries import entry
from streams.bench.matrix.exchange import START_T
from streams.bench.scenarios.street import STEP, LiveStreet, Row

D = Decimal
DAYS_MS = 10 * 86_400_000
WITHIN_S = 40.0
OPEN = ("NEW", "PARTIALLY_FILLED")


class Missed(Exception):
    """What should have become so has not."""


class Scene:
    def __init__(self, street: LiveStreet, symbol: str) -> None:
        self.street, self.symbol, self.instrument = street, symbol, instrument_of(symbol)

    # -- what is done

    def entry(self, quantity: str = "1.00", **more: Any) -> Entry:
        """A LONG at market unless told otherwise, with a stop 2.5 % below the mark, which rests once it has filled."""
        mark = self.mark
        chosen: dict[str, Any] = {"order_type": OrderType.MARKET, "reference_price": mark, "not_after": START_T + DAYS_MS}
        chosen |= {"at": START_T, "quantity": D(quantity), "stop_price": (mark * D("0.975")).quantize(STEP)} | more
        return entry(f"{self.symbol}-{next(self.street.numbers)}", self.instrument, **chosen)

    def enter(self, quantity: str = "1.00", **more: Any) -> Entry:
        wanted = self.entry(quantity, **more)
        self.street.write(wanted)
        return wanted

    def opened(self, quantity: str = "1.00", **more: Any) -> Entry:
        """Entered, and everything rests: the net, and a ladder over all of it."""
        wanted = self.enter(quantity, **more)
        self.must(lambda: self.net == D(quantity) and bool(self.nets), "it opens, and its net rests")
        self.must(lambda: self.laddered == self.net, "a ladder rests over all of it")
        return wanted

    def fault(self, route: str, kind: str, **more: Any) -> None:
        self.tell("faults", route=route, kind=kind, **{"only": self.symbol} | more)

    def tell(self, act: str, **body: Any) -> None:
        """Something that no client of ours does."""
        assert self.street.control("POST", act, **body) is not None, f"{act} was not done"

    def trade(self, side: str, quantity: str) -> None:
        """Another hand."""
        self.tell("trade", symbol=self.symbol, side=side, quantity=quantity)

    def shock(self, pct: float) -> None:
        self.tell("price-shock", symbol=self.symbol, pct=pct)

    def climb(self) -> None:
        """Over the first rung, as prices do: the marks, told once a second, go along."""
        self.shock(1.3)
        time.sleep(2.5)
        self.shock(0.3)

    def close(self) -> None:
        """A person's wish; exits does it."""
        wish = Command(
            event_id=ids.event_id("control.command", uuid.uuid4().hex),
            at=int(time.time() * 1000),
            kind=CommandKind.CLOSE,
            actor="a scenario",
            reason="it is over",
            body=json.dumps({"instrument": self.instrument}),
        )
        self.street.write(wish)

    # -- what is seen

    @property
    def mark(self) -> Decimal:
        return D(self.street.control("GET", "state")["symbols"][self.symbol]["mark"])

    @property
    def net(self) -> Decimal:
        return self.street.books[self.symbol].net

    @property
    def fills(self) -> list[Row]:
        return list(self.street.books[self.symbol].fills)

    def algos(self, *statuses: str) -> list[Row]:
        """Conditional orders in that state; the living ones where none is told."""
        return [a for a in list(self.street.books[self.symbol].algos.values()) if a["status"] in (statuses or ("NEW",))]

    def orders(self, *, live: bool = True) -> list[Row]:
        """Ordinary ones; children of conditional ones too."""
        return [o for o in list(self.street.books[self.symbol].orders.values()) if not live or o["status"] in OPEN]

    @property
    def nets(self) -> list[Row]:
        """closePosition stops on the closing side."""
        side = "SELL" if self.net > 0 else "BUY"
        return [a for a in self.algos() if a["close_position"] and a["side"] == side and a["type"] == "STOP_MARKET"]

    @property
    def fronts(self) -> list[Row]:
        """Quantity stops before the net."""
        return [a for a in self.algos() if not a["close_position"]]

    @property
    def laddered(self) -> Decimal:
        """What resting take-profits would sell."""
        return sum(((o["qty"] - o["filled"]) * STEP for o in self.orders() if o["reduce_only"]), D(0))

    def said(self, topic: topics.Topic) -> list[Row]:
        return self.street.said(topic, self.symbol)

    def attempts(self, purpose: Purpose, state: str) -> list[Row]:
        """What execution has said of orders of that purpose."""
        return [o for o in self.said(topics.TRADE_ORDERS) if o["purpose"] == purpose and o["state"] == state and not o["cancels"]]

    def bought(self) -> int:
        """Entries of ours that exist on the exchange, or existed."""
        return sum(ids.purpose_of(o["client_id"]) is Purpose.ENTRY for o in self.orders(live=False))

    @property
    def trips(self) -> list[Row]:
        return self.said(topics.TRADE_CLOSED)

    @property
    def alarms(self) -> list[str]:
        """Who has raised his voice for this instrument."""
        reports = [r["action"] for r in self.said(topics.GUARDIAN_REPORTS) if r["action"] != "PROTECTED"]
        return reports + [f"breaker, {b['reason']}" for b in self.said(topics.BREAKER_STATES) if b["phase"] == "OPEN"]

    # -- what must become so

    def must(self, true: Callable[[], bool], what: str, within_s: float = WITHIN_S) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            if time.monotonic() > deadline:
                raise Missed(f"not so within {within_s:g} s: {what} ({self.picture()})")
            time.sleep(0.05)

    def keeps(self, true: Callable[[], bool], what: str, for_s: float) -> None:
        deadline = time.monotonic() + for_s
        while time.monotonic() < deadline:
            if not true():
                raise Missed(f"not any more: {what} ({self.picture()})")
            time.sleep(0.05)

    def flat(self, within_s: float = WITHIN_S) -> None:
        """Nothing is held, and nothing of it rests."""
        self.must(lambda: not self.net, "it is flat", within_s)
        self.must(lambda: not self.algos() and not self.orders(), "nothing rests any more", within_s)

    def left_for(self, *reasons: str) -> None:
        """One round trip, and one of these is why it ended. The guardian may have been quicker than others."""
        self.must(lambda: len(self.trips) == 1, "one round trip is over")
        if self.trips[0]["exit_reason"] not in reasons:
            raise Missed(f"left for {self.trips[0]['exit_reason']}, not {reasons[0]} ({self.picture()})")

    def settled(self) -> None:
        """Exchange, fills and position agree; no client id has two orders; what is open has its net."""
        self.must(lambda: not self.apart(), f"all agree: {self.apart()}")
        self.must(lambda: not self.net or bool(self.nets), "what is open has its net")

    def apart(self) -> str:
        filled = sum((D(f["quantity"]) * (1 if f["side"] == "BUY" else -1) for f in self.said(topics.TRADE_FILLS)), D(0))
        position = self.position()
        if not self.net == filled == position:
            return f"exchange {self.net}, fills {filled}, position {position}"
        ours = [o["client_id"] for o in self.orders(live=False) if not o["algo_id"]]
        ours += [a["client_id"] for a in list(self.street.books[self.symbol].algos.values())]
        twice = {name for name in ours if ours.count(name) > 1 and ids.purpose_of(name) is not Purpose.FOREIGN}
        return f"twice on the exchange: {sorted(twice)}" if twice else ""

    def position(self) -> Decimal:
        """By the log: the newest of the position that is open."""
        events = self.said(topics.TRADE_POSITIONS)
        last = {e["position_id"]: e for e in events}
        return sum((D(e["quantity"]) * (1 if e["side"] == Side.LONG else -1) for e in last.values()), D(0))

    def picture(self) -> str:
        """For whoever reads that it failed."""
        algos = [
            f"{a['type']} {a['status']} {a['trigger']} q{a['qty']}" for a in list(self.street.books[self.symbol].algos.values())
        ]
        orders = [f"{o['type']} {o['status']} {o['client_id'][:4]} q{o['qty']} f{o['filled']}" for o in self.orders(live=False)]
        return f"net {self.net}; {algos}; {orders}; alarms {self.alarms}"


def flatten(street: LiveStreet) -> None:
    """Everything, by another hand, until nothing rests and all agree."""
    scenes = [Scene(street, name) for name in street.books]
    for scene in scenes:
        if scene.net:
            scene.trade("SELL" if scene.net > 0 else "BUY", f"{abs(scene.net):f}")
    for scene in scenes:
        scene.flat(180)
        scene.must(lambda s=scene: not s.apart(), "all agree", 180)  # type: ignore[misc]
