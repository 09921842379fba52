"""What is told by the wall clock: quotes and marks at most once per symbol in 100 ms (the last value), and marks at least
that often, so that time passes for those who only listen; candles; and only to those who ask depth and tickers.

Depth comes from the ladder behind the quote (books.py). The first event of a depth stream holds the whole ladder, each
later one what has changed; `pu` is the event before, so that a client who joins it to a snapshot finds no gap.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from infra.venue.local import wire_depth, wire_market
from infra.venue.local.happenings import Happening, OrderChanged
from infra.venue.local.klines import INTERVALS, MINUTE_MS, Candle
from infra.venue.local.wire_depth import Ladder

if TYPE_CHECKING:
    from infra.venue.local.venue import Venue

DEPTH: Final = re.compile(r"([a-z0-9]+)@depth(5|10|20)?(?:@(0|100|250|500)ms)?")
LOOK_EVERY_S: Final = 0.05
QUOTE_EVERY_S: Final = 0.1
MARK_EVERY_S: Final = 0.09  # with the pump's step of 10 ms: ten a second
KLINES_EVERY_S: Final = 0.25
MARKS_EVERY_S: Final = 1.0
TICKERS_EVERY_S: Final = 1.0
ALL_MARKS: Final = ("!markPrice@arr", "!markPrice@arr@1s")


class Feeds:
    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.stale: dict[str, None] = {}  # symbols whose quote has moved since it was told
        self._looked_s = 0.0
        self._depth: dict[str, tuple[str, int, float]] = {}  # stream -> symbol, levels (0: changes), seconds between events
        self._told_s: dict[str, float] = {}
        self._last: dict[str, tuple[int, Ladder]] = {}  # stream -> last update id, the book as it was told

    def flush(self, wall_s: float) -> None:
        """Tell what is due; `wall_s` is monotonic."""
        venue, hub = self.venue, self.venue.hub
        self._flush_rare(wall_s)
        for name, symbol in venue.symbols.items():
            stream = name.lower()
            if self._due(f"mark {name}", wall_s, MARK_EVERY_S):
                text = wire_market.mark_price(symbol, venue.marks[name], venue.market_t)
                hub.send(f"{stream}@markPrice", text)
                hub.send(f"{stream}@markPrice@1s", text)
            if name in self.stale and self._due(f"quote {name}", wall_s, QUOTE_EVERY_S):
                del self.stale[name]
                text = wire_market.book_ticker(venue.engine.floor.books[name], venue.updates, venue.market_t)
                hub.send(f"{stream}@bookTicker", text)
                hub.send("!bookTicker", text)
            if self._due(f"klines {name}", wall_s, KLINES_EVERY_S):
                for interval in INTERVALS:
                    self._tell_kline(name, interval, None, venue.market_t)

    def on_close(self, name: str, interval: str, candle: Candle) -> None:
        """A candle has ended: kept and told at once."""
        if self.venue.keeper is not None and interval == "1m":
            self.venue.keeper.minute(name, candle)
        self._tell_kline(name, interval, candle, candle.open_t + INTERVALS[interval] * MINUTE_MS)

    def _tell_kline(self, name: str, interval: str, closed: Candle | None, t: int) -> None:
        """`closed`, or the candle as it stands."""
        venue = self.venue
        for stream, endless in (
            (f"{name.lower()}@kline_{interval}", False),
            (f"{name.lower()}_perpetual@continuousKline_{interval}", True),
        ):
            if venue.hub.wants(stream):
                candle = closed if closed is not None else venue.candles[name].now(interval)
                done = closed is not None
                text = wire_market.kline(venue.symbols[name], interval, candle, t, closed=done, continuous=endless)
                venue.hub.send(stream, text)

    def _flush_rare(self, wall_s: float) -> None:
        if wall_s - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = wall_s
        hub = self.venue.hub
        self._see(hub.wanted("@depth"))
        for stream, (name, levels, every_s) in self._depth.items():
            if self._due(stream, wall_s, every_s):
                self._tell_depth(stream, name, levels)
        for stream in ALL_MARKS:
            if hub.wants(stream) and self._due(stream, wall_s, MARKS_EVERY_S):
                hub.send(stream, self._all_marks())
        for kind in ("ticker", "miniTicker"):
            self._tell_tickers(kind, wall_s)

    def on_happened(self, happened: list[Happening]) -> None:
        """What our takers consumed shows in the quote; a liquidation is told to everybody."""
        for what in happened:
            if isinstance(what, OrderChanged) and what.fill is not None:
                self.stale[what.order.symbol] = None
            if isinstance(what, OrderChanged) and what.execution == "CALCULATED" and what.fill is not None:
                text = wire_depth.force_order(self.venue.symbols[what.order.symbol], what.order)
                self.venue.hub.send(f"{what.order.symbol.lower()}@forceOrder", text)
                self.venue.hub.send("!forceOrder@arr", text)

    def _due(self, stream: str, wall_s: float, every_s: float) -> bool:
        if wall_s - self._told_s.get(stream, 0.0) < every_s:
            return False
        self._told_s[stream] = wall_s
        return True

    def _see(self, streams: list[str]) -> None:
        for gone in [stream for stream in self._depth if stream not in streams]:
            del self._depth[gone]
            self._last.pop(gone, None)
        for stream in streams:
            if stream not in self._depth and (found := DEPTH.fullmatch(stream)) is not None:
                if (name := found[1].upper()) in self.venue.symbols:
                    self._depth[stream] = name, int(found[2] or 0), int(found[3] or 250) / 1000

    def _tell_depth(self, stream: str, name: str, levels: int) -> None:
        venue = self.venue
        book = venue.engine.floor.books[name]
        now = wire_depth.ladder(book)
        update_id, before = self._last.get(stream, (0, None))
        if before is None:
            update_id = venue.updates - 1
        elif before == now:
            return
        self._last[stream] = venue.updates, now
        first = min(update_id + 1, venue.updates)
        shown = wire_depth.top(now, levels) if levels else wire_depth.changes(before, now)
        venue.hub.send(stream, wire_depth.depth_update(book, shown, first, venue.updates, update_id, venue.market_t))

    def _all_marks(self) -> str:
        venue = self.venue
        rows = [wire_market.mark_price(symbol, venue.marks[name], venue.market_t) for name, symbol in venue.symbols.items()]
        return f"[{','.join(rows)}]"

    def _tell_tickers(self, kind: str, wall_s: float) -> None:
        venue = self.venue
        whole = f"!{kind}@arr"
        wanted = [name for name in venue.symbols if venue.hub.wants(f"{name.lower()}@{kind}")]
        if not (wanted or venue.hub.wants(whole)) or not self._due(kind, wall_s, TICKERS_EVERY_S):
            return
        write = wire_depth.ticker if kind == "ticker" else wire_depth.mini_ticker
        names = list(venue.symbols) if venue.hub.wants(whole) else wanted
        rows = {name: write(venue.symbols[name], venue.candles[name], venue.market_t) for name in names}
        for name in wanted:
            venue.hub.send(f"{name.lower()}@{kind}", rows[name])
        if venue.hub.wants(whole):
            venue.hub.send(whole, f"[{','.join(rows.values())}]")
