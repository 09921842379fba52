"""The exchange as one thing: market source, engine, candles, tape, log and listeners, moved forward in steps.

`step` applies what the market did up to a time, `execute` a client's command, `flush` tells the listeners what is
told by the wall clock (feeds.py). Everything here runs between two awaits of one event loop:
nobody sees half a step.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

from infra.venue.local import wire_market, wire_user
from infra.venue.local.account import START_BALANCE
from infra.venue.local.commands import CancelAllOrders, Command
from infra.venue.local.engine import Engine
from infra.venue.local.feeds import Feeds
from infra.venue.local.happenings import Happening, OrderChanged
from infra.venue.local.hub import Hub
from infra.venue.local.journal import Journal
from infra.venue.local.keeping import Keeper, Kept, Stand
from infra.venue.local.keys import ListenKey
from infra.venue.local.klines import MINUTE_MS, Candles, minutes_of
from infra.venue.local.market.base import Candle5m, Depth, Mark, MarketEvent, MarketSource, Quote, Symbol, Trade, next_funding
from infra.venue.local.orders import Order
from infra.venue.local.spot import wire as spot_wire
from infra.venue.local.spot.orders import SpotCommand, SpotHappening, SpotOrder
from infra.venue.local.tape import Tape


class Venue:
    """`step`, `execute` and `flush` are the only ways it moves."""

    def __init__(
        self,
        source: MarketSource,
        journal: Journal,
        hub: Hub,
        balance: Decimal = START_BALANCE,
        keeper: Keeper | None = None,
        *,
        children_compete: bool = True,
    ) -> None:
        self.source = source
        self.journal = journal
        self.hub = hub
        self.keeper = keeper
        self.listen_key = ListenKey()
        self.feeds = Feeds(self)
        self.symbols: dict[str, Symbol] = {s.name: s for s in source.symbols}
        past: dict[str, list[Candle5m]] = {name: [] for name in self.symbols}
        for candle in source.history():
            past[candle.symbol].append(candle)
        last = {name: candles[-1].close if candles else self._base(name) for name, candles in past.items()}
        self.engine = Engine(source.symbols, last, balance, children_compete=children_compete)
        self.candles = {name: self._candles(name, candles, last[name]) for name, candles in past.items()}
        self.tapes = {name: Tape() for name in self.symbols}
        self._places = {name: place for place, name in enumerate(self.symbols)}
        self.marks = {name: self._first_mark(name, last[name], source.start_t) for name in self.symbols}
        self.market_t = source.start_t - 1  # everything up to here has been applied
        self.next_minute = source.start_t - source.start_t % MINUTE_MS + MINUTE_MS
        self.updates = 0  # quotes so far: the book's update id
        self.events = 0
        self.ended = False
        self.shift = dict.fromkeys(self.symbols, 0)  # ticks by which shocks have moved each price, for good
        self.countdowns: dict[str, float] = {}  # symbol -> monotonic seconds at which its orders end
        self.skew_ms = 0  # by which the exchange's own clock is wrong
        self._quiet = False
        self._pending: MarketEvent | None = None
        kept = keeper.kept if keeper is not None else None
        if kept is not None:
            self._take_up(kept)
        self._feed: Iterator[MarketEvent] = iter(source.events(kept.market_t if kept is not None else None))

    def _base(self, name: str) -> int:
        symbol = self.symbols[name]
        return max(1, int(symbol.base_price / symbol.tick))

    def _candles(self, name: str, past: list[Candle5m], last: int) -> Candles:
        start_t = self.source.start_t
        begin = past[-1].open_t + 5 * MINUTE_MS if past else start_t
        candles = Candles(name, begin, last)
        candles.seed(minute for candle in past for minute in minutes_of(candle))
        candles.advance(start_t)
        candles.on_close = self.feeds.on_close
        return candles

    def _take_up(self, kept: Kept) -> None:
        """Stand where the market stood; quotes and marks follow with the first events."""
        self.market_t = kept.market_t
        self.shift |= kept.shift
        self.next_minute = kept.market_t - kept.market_t % MINUTE_MS + MINUTE_MS
        for name, candles in self.candles.items():
            candles.seed(minute for minute in kept.minutes.get(name, []) if minute.open_t >= candles.current.open_t)
            candles.take_up(kept.current[name])
            self.tapes[name] = Tape(kept.next_ids[name])
            self.tapes[name].take_up(kept.trades[name])
            last = candles.current.close
            self.engine.floor.books[name].last = last
            self.engine.observe(Quote(name, 0, max(1, last - 1), 1, last, 1))
            self.marks[name] = self._first_mark(name, last, kept.market_t)
            self.engine.observe(self.marks[name])

    def keep(self) -> None:
        """Put down where the market stands."""
        if self.keeper is not None:
            next_ids = {name: tape.next_id for name, tape in self.tapes.items()}
            current = {name: candles.current for name, candles in self.candles.items()}
            followed = self.engine.conditional.followed()
            queues = {order.id: order.queue_ahead for order in self._resting()}
            self.keeper.save(Stand(self.market_t, next_ids, current, self.shift, followed, queues))
            self.keeper.tell_time(self.market_t)

    def _resting(self) -> list[Order | SpotOrder]:
        return [*self.engine.floor.open_orders(), *(o for orders in self.engine.spot.resting.values() for o in orders)]

    def catch_up(self, t: int) -> None:
        """Let the market pass up to `t` without anybody's orders: the log shows that what it did to them is known.

        What the log does not tell follows here: how far trailing stops went with the market, and who stood before whom. Of
        orders that rest since less than a second before the end all that is shown at their price counts as before them.
        """
        kept = self.keeper.kept if self.keeper is not None else None
        if kept is not None:
            self.engine.conditional.follow_again(kept.followed, kept.market_t)
        self._quiet = True
        while self.step(t):
            pass
        self._quiet = False
        for order in self._resting():
            book = self.engine.floor.books[order.symbol] if isinstance(order, Order) else self.engine.spot.book(order.symbol)
            before = kept.queues.get(order.id) if kept is not None else None
            order.queue_ahead = book.queue_at(order.side, order.price) if before is None else before

    def _first_mark(self, name: str, last: int, t: int) -> Mark:
        price = last * self.symbols[name].tick
        return Mark(name, t, price, price, Decimal(0), next_funding(t))

    def request_ms(self) -> int:
        """The clock that requests are signed with: real time."""
        return time.time_ns() // 1_000_000 + self.skew_ms

    def as_it_stands(self) -> Venue:
        """A view of account and books that does not move any more; only to be read."""
        twin = copy.copy(self)
        twin.engine = copy.copy(self.engine)
        twin.engine.floor, twin.engine.spot = copy.deepcopy((self.engine.floor, self.engine.spot))
        return twin

    # --- time passes --------------------------------------------------------------------------------------------------------

    def step(self, until_t: int, most: int = 2_000) -> bool:
        """Apply the market's events up to `until_t`, about `most` of them; tells whether more are due."""
        count = 0
        last_t = -1
        while (event := self._peek()) is not None and event.t <= until_t:
            if count >= most and event.t != last_t:
                self.market_t = max(self.market_t, last_t)
                return True
            self._pending = None
            if event.t >= self.next_minute:
                self._turn_minutes(event.t)
            self._apply(event)
            last_t = event.t
            count += 1
        if until_t >= self.next_minute:
            self._turn_minutes(until_t)
        self.market_t = max(self.market_t, until_t)
        return False

    def shock(self, name: str, part: Decimal) -> int:
        """Move a symbol's price by this part of it, from the next event on, for good; gives the whole shift in ticks."""
        self.shift[name] += int(self.engine.floor.books[name].last * part)
        return self.shift[name]

    def _shifted(self, event: MarketEvent, ticks: int) -> MarketEvent:
        if isinstance(event, Trade):
            return replace(event, price=max(1, event.price + ticks))
        if isinstance(event, Quote):
            bid = max(1, event.bid + ticks)
            return replace(event, bid=bid, ask=bid + event.ask - event.bid)
        if isinstance(event, Depth):
            bids, asks = ({max(1, price + ticks): qty for price, qty in side.items()} for side in (event.bids, event.asks))
            return Depth(event.symbol, event.t, bids, asks, event.is_whole)
        moved = ticks * self.symbols[event.symbol].tick
        return replace(event, mark=max(event.mark + moved, self.symbols[event.symbol].tick), index=event.index + moved)

    def _peek(self) -> MarketEvent | None:
        if self._pending is None and not self.ended:
            self._pending = next(self._feed, None)
            self.ended = self._pending is None
        return self._pending

    def _turn_minutes(self, t: int) -> None:
        """Close what has ended before anything later is told, minute by minute for all symbols."""
        while t >= self.next_minute:
            for candles in self.candles.values():
                candles.advance(self.next_minute)
            self.next_minute += MINUTE_MS

    def _apply(self, event: MarketEvent) -> None:
        name = event.symbol
        self.events += 1
        if self.shift[name]:
            event = self._shifted(event, self.shift[name])
        if isinstance(event, Trade):
            trade_id = self.tapes[name].add(event)
            if self.keeper is not None:
                self.keeper.trade(self._places[name], trade_id, event)
            self.candles[name].add(event, trade_id)
            stream = name.lower()
            if self.hub.wants(f"{stream}@trade"):
                self.hub.send(f"{stream}@trade", wire_market.trade(self.symbols[name], event, trade_id))
            if self.hub.wants(f"{stream}@aggTrade"):
                self.hub.send(f"{stream}@aggTrade", wire_market.agg_trade(self.symbols[name], event, trade_id))
        elif isinstance(event, Quote):
            self.updates += 1
            self.feeds.stale[name] = None
        elif isinstance(event, Depth):
            self.updates += 1
        else:
            self.marks[name] = event
        if self._quiet:
            self.engine.observe(event)
            return
        happened = self.engine.apply(event, event.t)
        if happened:
            self._tell(happened)

    # --- clients ----------------------------------------------------------------------------------------------------------------

    def execute(self, command: Command | SpotCommand) -> list[Happening]:
        """Apply a command now; its user events are logged and queued before this returns. Raises Refusal."""
        happened = self.engine.apply(command, self.market_t)
        self._tell(happened)
        return happened

    def count_down(self, wall_s: float) -> None:
        """End the orders of those who have not renewed their countdown."""
        for name in [name for name, end_s in self.countdowns.items() if wall_s >= end_s]:
            del self.countdowns[name]
            self.execute(CancelAllOrders(name))

    def _tell(self, happened: list[Happening]) -> None:
        if any(isinstance(what, OrderChanged) and what.fill is not None for what in happened):
            self.updates += 1  # our takers have changed the book
        self.feeds.on_happened(happened)
        self.journal.tell(self.engine, happened, time.time())
        for what in happened:
            if isinstance(what, SpotHappening):
                self.hub.send_spot(json.dumps(spot_wire.event(self.engine.spot, what), separators=(",", ":")))
            elif (event := wire_user.user_event(self.engine.floor, what)) is not None:
                self.hub.send_user(json.dumps(event, separators=(",", ":")))

    # --- listeners --------------------------------------------------------------------------------------------------------------

    def drop_listen_key(self) -> None:
        """The key has ended: those who listen are told, and hear no more."""
        key = self.listen_key.close()
        if key:
            event = {"e": "listenKeyExpired", "E": self.market_t, "listenKey": key}
            self.hub.send_user(json.dumps(event, separators=(",", ":")))
            self.hub.leave_users()

    def flush(self, wall_s: float) -> None:
        """Tell what is told by the wall clock; `wall_s` is monotonic."""
        self.feeds.flush(wall_s)

    def state(self) -> dict[str, Any]:
        floor = self.engine.floor
        return {
            "label": self.source.label,
            "market_t": self.market_t,
            "ended": self.ended,
            "events": self.events,
            "shift_ticks": {name: ticks for name, ticks in self.shift.items() if ticks},
            "trades": sum(len(tape) for tape in self.tapes.values()),
            "last_trade_ids": {name: tape.next_id - 1 for name, tape in self.tapes.items()},
            "history_is_generated": self.source.history_is_generated,
            "mark_origin": self.source.mark_origin,
            "symbols": {
                name: {"tick": f"{s.tick:f}", "step": f"{s.step:f}", "mark": f"{self.marks[name].mark:f}"}
                for name, s in self.symbols.items()
            },
            "wallet": f"{floor.account.wallet:f}",
            "positions": {p.key: f"{p.qty:f}" for p in floor.account.open_positions()},
            "open_orders": len(floor.open_orders()),
            "live_algos": len(floor.live_algos()),
            "fills": sum(len(fills) for fills in floor.fills.values()),
            "spot_balances": {asset: f"{total:f}" for asset, total in self.engine.spot.balances.total.items() if total},
            "spot_open_orders": len(self.engine.spot.open_orders()),
            **self.hub.counts(),
        }
