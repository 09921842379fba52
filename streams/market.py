"""market: the exchange's public streams -> market.trades (past candles, frames, ticks) and market.marks. Not Faust: an ingest loop.

Order is the whole art. A new connection is opened first; then what was missed is fetched by REST, merged in market time and written
as backfilled; then what the connection has brought meanwhile follows, duplicates dropped by id. Whatever is written is written in
order; when the log is away, reading stops. A restart reads the log's own tail and goes on behind the last trade that stands there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from infra import logs
from infra.errors import UserError
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from infra.venue.binance.sockets import Socket, market_stream, quote_stream
from infra.venue.port import BestQuote, MarketEvent, MarkPrice, PublicTrade, TradeSeen, VenueError
from processors.market import Cutter, Gap, Marks, Trade
from schemas import hot
from schemas.ids import event_id, partition_of
from schemas.units import Source
from streams.loop import Loop, run_loop
from streams.market_tail import Tail, read_tail
from streams.outlet import Outlet

T = TypeVar("T")
log = logs.get(__name__)

INTERVAL, INTERVAL_MS = "5m", 300_000
HISTORY = 1_000
MODEST = 20_000
"""Missed trades of one instrument that are fetched one by one; beyond, its past begins anew with closed candles."""
PAGE = 1_000
PATIENCE_S = 10.0
"""How long the exchange may take to tell trades that its stream has skipped, before the hole is accepted and counted."""
FLUSH_S = 2.0


class Gateway:
    """`run()` until cancelled, then `finish()`."""

    def __init__(self, settings: Settings, venue: BinanceUsdm, outlet: Outlet, processed: Counter[str]) -> None:
        self.holes = 0
        self.repairs = 0
        self.ready = False
        self._settings = settings
        self._venue = venue
        self._outlet = outlet
        self._processed = processed
        self._source = source_of(settings)
        self._instruments = tuple(instrument_of(symbol) for symbol in settings.symbol_list)
        self._marks = Marks(self._source, self._instruments)
        self._cutter: Cutter | None = None
        self.stream: Socket = market_stream(settings, venue.rest, settings.symbol_list)
        self._quotes = quote_stream(settings, venue.rest, settings.symbol_list)

    @property
    def begun(self) -> bool:
        return self._cutter is not None

    @property
    def cutter(self) -> Cutter:
        assert self._cutter is not None, "before the first connection"
        return self._cutter

    async def run(self) -> None:
        tail = await asyncio.to_thread(read_tail, self._settings.bootstrap, self._instruments)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(tail))
            tasks.create_task(self._read_quotes())
            tasks.create_task(self._cut_what_is_due())
            tasks.create_task(self._tick())

    async def finish(self) -> None:
        """After `run` has been cancelled: what is open, a last tick, and the log's word on all of it."""
        await asyncio.gather(self.stream.close(), self._quotes.close())
        if self._cutter is not None:
            self._outlet.send([*self.cutter.second(self._age_ms()), *self._marks.records(self.cutter.watermark)])
        if left := await self._outlet.flush(FLUSH_S):
            log.warning("records not acknowledged", records=left)

    # -- the stream

    async def _read(self, tail: Tail) -> None:
        async for batch in self.stream.batches():
            await self._outlet.room()
            if batch.messages:
                await self._take(batch.messages)
                continue
            if self._cutter is None:
                self._cutter = await patiently("start", lambda: self._begin(tail))
            await patiently("repair", self._repair)
            self.ready = True

    async def _take(self, messages: Sequence[MarketEvent]) -> None:
        cutter, marks, send = self.cutter, self._marks, self._outlet.send
        now_ms = time.monotonic() * 1000
        for message in messages:
            if isinstance(message, TradeSeen):
                send(cutter.passed(message.at))
                trade = message.trade
                if (gap := cutter.gap(message.instrument, trade.id)) is not None:
                    await self._fill(gap)
                send(cutter.add(message.instrument, Trade(*trade), now_ms))
                marks.last(message.instrument, trade.p)
            elif isinstance(message, MarkPrice):
                send(cutter.passed(message.at))
                self._mark(message)
        send(cutter.due(now_ms))
        self._processed["stream"] += len(messages)

    async def _read_quotes(self) -> None:
        """Only the newest quote of an instrument counts: it is taken into the next marks record."""
        async for batch in self._quotes.batches():
            for quote in batch.messages:
                if isinstance(quote, BestQuote):
                    self._marks.quote(*quote)

    def _mark(self, mark: MarkPrice) -> None:
        self._marks.mark(mark.instrument, mark.mark, mark.index, mark.funding_rate, mark.next_funding_at)

    # -- time

    async def _cut_what_is_due(self) -> None:
        while True:
            await asyncio.sleep(self._settings.frame_ms / 2000)
            if self._cutter is not None:
                self._outlet.send(self.cutter.due(time.monotonic() * 1000))

    async def _tick(self) -> None:
        """Each wall second, whether the exchange talks or not; not while the log cannot take it."""
        while True:
            await asyncio.sleep(1.0 - time.time() % 1.0)
            if self._cutter is not None and self.ready:
                await self._outlet.room()
                self._outlet.send(self.cutter.second(self._age_ms()))
                self._outlet.send(self._marks.records(self.cutter.watermark))

    def _age_ms(self) -> int:
        return int(self.stream.silent_s * 1000)

    # -- what was missed

    async def _begin(self, tail: Tail) -> Cutter:
        """Where to go on: behind the log's tail, or, first and after a long absence, behind freshly written past candles."""
        next_ids: dict[str, int] = {}
        starts: list[int] = []
        histories: list[hot.CandleHistory] = []
        for name in self._instruments:
            known = tail.last.get(name)
            newest = await self._venue.trades(name, limit=1)
            head = newest[-1].id + 1 if newest else 1
            if known is not None and head < known.next_id:
                raise UserError(
                    f"market.trades is ahead of the exchange in {name}",
                    f"the log holds trades up to {known.next_id - 1}, the exchange has only come to {head - 1}: it began anew",
                    "start with --fresh, so that both begin anew",
                )
            ticked = tail.ticked.get(partition_of(name))
            if known is not None and ticked is not None and head - known.next_id <= MODEST:
                next_ids[name] = known.next_id
                starts.append(ticked)
                self._marks.last(name, known.price)
            else:
                history = await self._history(name, head)
                histories.append(history)
                next_ids[name] = history.next_id
                starts.append(history.at)
                self._marks.last(name, history.c[-1])
        self._outlet.send(histories)
        return Cutter(self._source, next_ids, min(starts), tail.ticked, frame_ms=self._settings.frame_ms)

    async def _history(self, instrument: str, head: int) -> hot.CandleHistory:
        now = await self._venue.market_ms(instrument)
        rows = [k for k in await self._venue.klines(instrument, INTERVAL, HISTORY + 1) if k.open_at + INTERVAL_MS <= now][-HISTORY:]
        if not rows:
            raise UserError(
                f"the exchange has no closed candle of {instrument}", "features cannot warm up", "choose another symbol"
            )
        at = rows[-1].open_at + INTERVAL_MS
        after = await self._venue.trades(instrument, start_at=at, limit=1)
        next_id = after[0].id if after else head
        return hot.CandleHistory(
            event_id=event_id("market.candle-history", instrument, INTERVAL, at, len(rows)),
            type="market.candle-history",
            at=at,
            instrument=instrument,
            interval=INTERVAL,
            open_at=[k.open_at for k in rows],
            o=[k.o for k in rows],
            h=[k.h for k in rows],
            l=[k.l for k in rows],
            c=[k.c for k in rows],
            v=[k.v for k in rows],
            next_id=next_id,
            generated=self._source is Source.TICKS,
            source=self._source,
        )

    async def _repair(self) -> None:
        """The connection stands: all trades before the present market time are fetched, merged in time and written.

        Later ones come on the connection, which was opened before that time was asked for.
        """
        self.repairs += 1
        for mark in await self._venue.marks():
            if mark.instrument in self.cutter.next_ids:
                self._mark(mark)
        until = await self._venue.market_ms(self._instruments[0])
        async for trades in self._missed(until):
            for instrument, trade in trades:
                self._outlet.send(self.cutter.passed(trade.t))
                self._backfill(instrument, (trade,))
            await self._outlet.room()
        self._outlet.send(self.cutter.passed(until))

    async def _missed(self, until: int) -> AsyncIterator[list[tuple[str, PublicTrade]]]:
        """Batches of (instrument, trade) of all instruments in time order, up to market time `until` (exclusive)."""
        heads = dict(self.cutter.next_ids)
        pages: dict[str, list[PublicTrade]] = {name: [] for name in heads}
        unfinished = set(heads)
        while unfinished or any(pages.values()):
            for name in [name for name in self._instruments if name in unfinished and not pages[name]]:
                page = await self._venue.trades(name, from_id=heads[name], limit=PAGE)
                pages[name] = [trade for trade in page if trade.t < until]
                if page:
                    heads[name] = page[-1].id + 1
                if len(page) < PAGE or len(pages[name]) < len(page):
                    unfinished.discard(name)
            horizon = min((pages[name][-1].t for name in unfinished), default=until)
            ready = [(name, trade) for name, page in pages.items() for trade in page if trade.t <= horizon]
            for name in pages:
                pages[name] = [trade for trade in pages[name] if trade.t > horizon]
            yield sorted(ready, key=lambda item: (item[1].t, item[0], item[1].id))

    async def _fill(self, gap: Gap) -> None:
        """The stream has skipped trades of one instrument: they stand in the log before the newer ones."""
        self.repairs += 1
        deadline = time.monotonic() + PATIENCE_S
        while self.cutter.next_ids[gap.instrument] <= gap.last:
            first = self.cutter.next_ids[gap.instrument]
            page: list[PublicTrade] = []
            with suppress(VenueError):
                page = await self._venue.trades(gap.instrument, from_id=first, limit=min(PAGE, gap.last - first + 1))
            self._backfill(gap.instrument, [trade for trade in page if trade.id <= gap.last])
            if self.cutter.next_ids[gap.instrument] == first:
                if time.monotonic() > deadline:
                    self.holes += 1
                    log.error("hole in the feed", extra={"instrument": gap.instrument, "first": first, "last": gap.last})
                    self._outlet.send(self.cutter.skip(gap.instrument, gap.last + 1))
                    return
                await asyncio.sleep(0.2)

    def _backfill(self, instrument: str, trades: Iterable[PublicTrade]) -> None:
        """Trades as far as they are contiguous with what is written."""
        now_ms = time.monotonic() * 1000
        for trade in trades:
            if self.cutter.gap(instrument, trade.id) is not None:
                return
            self._outlet.send(self.cutter.add(instrument, Trade(*trade), now_ms, backfilled=True))
            self._marks.last(instrument, trade.p)


async def patiently(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Tries until the exchange answers."""
    wait_s = 0.2
    while True:
        try:
            return await attempt()
        except VenueError as e:
            log.warning("the exchange does not answer", at=what, why=str(e))
        await asyncio.sleep(wait_s)
        wait_s = min(wait_s * 2, 5.0)


def source_of(settings: Settings) -> Source:
    return Source(settings.market.partition(":")[0])


def metrics(gateway: Gateway) -> Mapping[str, float]:
    cutter = gateway.cutter if gateway.begun else None
    return {
        "trades": cutter.trades if cutter else 0,
        "trades_backfilled": cutter.backfilled if cutter else 0,
        "trades_duplicate": cutter.duplicates if cutter else 0,
        "trades_late": cutter.late if cutter else 0,
        "time_ms": cutter.watermark if cutter else 0,
        "holes": gateway.holes,
        "repairs": gateway.repairs,
        "socket_rebuilds": gateway.stream.rebuilds,
        "socket_unreadable": gateway.stream.unreadable,
        "feed_age_seconds": gateway.stream.silent_s,
    }


def main(settings: Settings) -> None:
    run_loop("market", settings, work)


async def work(loop: Loop) -> None:
    async with BinanceUsdm(loop.settings, patient=True) as venue:
        gateway = Gateway(loop.settings, venue, loop.outlet, loop.counts.processed)
        loop.tell(
            problems=lambda: () if gateway.ready else ("the feed is not repaired yet",),
            metrics=lambda: metrics(gateway),
        )
        try:
            await gateway.run()
        finally:
            await gateway.finish()
