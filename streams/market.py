"""market: the exchange's public streams -> market.trades (past candles, frames, ticks) and market.marks; what it lists ->
market.universe (streams/universe.py). Marks also of what is held and not streamed. Not Faust: an ingest loop.

Order is the whole art. A new connection is opened first; then what was missed is fetched by REST, merged in market time and written
as backfilled; then what the connection has brought meanwhile follows, duplicates dropped by id. Whatever is written is written in
order; when the log is away, reading stops. A restart reads the log's own tail and goes on behind the last trade that stands there.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

from infra import logs
from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.sockets import Socket, market_stream, quote_stream
from infra.venue.port import BestQuote, MarketEvent, MarkPrice, PublicTrade, TradeSeen, VenueError
from processors.market import Cutter, Gap, Marks, Trade
from schemas.ids import PARTITIONS
from schemas.units import Source
from streams.loop import Loop, run_loop
from streams.market_past import PAGE, began_anew, begin, missed
from streams.market_tail import Tail, read_tail
from streams.outlet import Outlet
from streams.plans import PlanReader
from streams.policy import PolicyReader
from streams.universe import Watch, instruments_of

T = TypeVar("T")
log = logs.get(__name__)

PATIENCE_S = 10.0
"""How long the exchange may take to tell trades that its stream has skipped, before the hole is accepted and counted."""
FLUSH_S = 2.0
HELD_S = 3.0
"""Wall seconds between two questions for the marks of what is held and not streamed: 10 of weight each."""
LEAP_MS = 6 * 3_600_000
"""Further ahead of all that was heard no message is believed before the exchange, asked by REST, says the same time."""


class Gateway:
    """`run()` until cancelled, then `finish()`."""

    def __init__(
        self,
        settings: Settings,
        venue: BinanceUsdm,
        outlet: Outlet,
        processed: Counter[str],
        symbols: Sequence[str],
        planned: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        """`planned`: instruments with an exit plan as the log tells them."""
        self.holes = 0
        self.repairs = 0
        self.leaps = 0
        self.ready = False
        self._settings = settings
        self._venue = venue
        self._outlet = outlet
        self._processed = processed
        self._source = source_of(settings)
        self.instruments = self._instruments = instruments_of(symbols)
        self._marks = Marks(self._source, self._instruments)
        self._planned = planned
        self._cutter: Cutter | None = None
        self._pages: dict[str, list[PublicTrade]] = {}
        self._asked_at = 0
        self._repaired_until = 0
        self._repaired_to: dict[str, int] = {}
        self.stream: Socket = market_stream(settings, venue.rest, symbols)
        self._quotes = quote_stream(settings, venue.rest, symbols)

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
            tasks.create_task(self._say_marks())
            tasks.create_task(self._mark_what_is_held())

    async def finish(self) -> None:
        """After `run` has been cancelled: what is open, a last tick, and the log's word on all of it."""
        await asyncio.gather(self.stream.close(), self._quotes.close())
        if self._cutter is not None:
            self._outlet.send([*self.cutter.second(self.age_ms()), *self._marks.records(self.cutter.watermark)])
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
            if not isinstance(message, BestQuote) and message.at > cutter.watermark + LEAP_MS:
                self.leaps += 1
                log.error("a message from the far future", instrument=message.instrument, at=message.at, now=cutter.watermark)
                self.stream.doubt(f"{message.instrument} told a time of {message.at}, {cutter.watermark} was the latest")
                break  # the next connection begins with the exchange's own word on the time
            if isinstance(message, TradeSeen):
                send(cutter.passed(message.at))
                trade = message.trade
                if (gap := cutter.gap(message.instrument, trade.id)) is not None:
                    await self._fill(gap)
                elif trade.id < self._repaired_to[message.instrument] and trade.t >= self._repaired_until:
                    raise began_anew(f"{message.instrument} trades under id {trade.id} again")
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
                self._outlet.send(self.cutter.second(self.age_ms()))

    async def _say_marks(self) -> None:
        """Each partition once a wall second, one after the other: no mark waits behind those of eleven others."""
        slot = int(time.time() * PARTITIONS)
        while True:
            slot = max(slot + 1, int((time.time() - 1.0) * PARTITIONS))  # late ones are made up for, up to a round
            await asyncio.sleep(max(0.0, slot / PARTITIONS - time.time()))
            if self._cutter is not None and self.ready:
                await self._outlet.room()
                self._outlet.send(self._marks.records(self.cutter.watermark, (slot % PARTITIONS,)))

    async def _mark_what_is_held(self) -> None:
        """A position in what is not streamed has an exit plan all the same, and that lives by marks."""
        while True:
            await asyncio.sleep(HELD_S)
            wanted = set(self._planned()) - set(self._instruments)
            found: list[MarkPrice] = []
            if wanted:
                with suppress(VenueError):
                    found = [mark for mark in await self._venue.marks() if mark.instrument in wanted]
            self._marks.beside(mark.instrument for mark in found)
            for mark in found:
                self._mark(mark)
                self._marks.last(mark.instrument, mark.mark)

    def age_ms(self) -> int:
        return int(self.stream.silent_s * 1000)

    # -- what was missed

    async def _begin(self, tail: Tail) -> Cutter:
        start = await begin(self._venue, tail, self._instruments, self._source)
        for name, price in start.prices.items():
            self._marks.last(name, price)
        self._pages, self._asked_at = start.pages, start.asked_at
        self._outlet.send(start.histories)
        return Cutter(self._source, start.next_ids, start.watermark, tail.ticked, frame_ms=self._settings.frame_ms)

    async def _repair(self) -> None:
        """The connection stands: all trades before the present market time are fetched, merged in time and written.

        Later ones come on the connection, which was opened before that time was asked for.
        """
        self.repairs += 1
        for mark in await self._venue.marks():
            if mark.instrument in self.cutter.next_ids:
                self._mark(mark)
        known, self._pages = self._pages, {}
        until = self._asked_at if known else await self._venue.market_ms(self._instruments[0])
        async for trades in missed(self._venue, self.cutter.next_ids, until, known):
            for instrument, trade in trades:
                self._outlet.send(self.cutter.passed(trade.t))
                self._backfill(instrument, (trade,))
            await self._outlet.room()
        self._outlet.send(self.cutter.passed(until))
        self._repaired_until, self._repaired_to = until, dict(self.cutter.next_ids)

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
                gone = bool(page) and page[0].id > first  # its tape begins later: asking on is in vain
                if gone or time.monotonic() > deadline:
                    self.holes += 1
                    following = min(page[0].id if gone else gap.last + 1, gap.last + 1)
                    log.error("hole in the feed", instrument=gap.instrument, first=first, last=following - 1)
                    self._outlet.send(self.cutter.skip(gap.instrument, following))
                    continue
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


async def until(true: Callable[[], bool]) -> None:
    while True:
        if true():
            return
        await asyncio.sleep(0.05)


def source_of(settings: Settings) -> Source:
    return Source(settings.market.partition(":")[0])


def metrics(gateway: Gateway, watch: Watch) -> Mapping[str, float]:
    cutter = gateway.cutter if gateway.begun else None
    return {
        "universe_members": len(watch.chosen.members),
        "universe_outside": len(watch.chosen.outside),
        "trades": cutter.trades if cutter else 0,
        "trades_backfilled": cutter.backfilled if cutter else 0,
        "trades_duplicate": cutter.duplicates if cutter else 0,
        "trades_late": cutter.late if cutter else 0,
        "time_ms": cutter.watermark if cutter else 0,
        "holes": gateway.holes,
        "repairs": gateway.repairs,
        "leaps": gateway.leaps,
        "socket_rebuilds": gateway.stream.rebuilds,
        "socket_unreadable": gateway.stream.unreadable,
        "feed_age_seconds": gateway.stream.silent_s,
    }


def main(settings: Settings) -> None:
    run_loop("market", settings, work)


async def work(loop: Loop) -> None:
    loop.tell(problems=lambda: ("the exchange has not said what it lists",), metrics=dict)
    reader, plans = PolicyReader(loop.settings.bootstrap), PlanReader(loop.settings)
    reader.start()
    plans.start()
    try:
        async with BinanceUsdm(loop.settings, who="market", patient=True) as venue:
            await until(lambda: reader.ready)
            watch = Watch(venue, reader.current)
            symbols = await patiently("universe", lambda: watch.symbols(loop.settings.symbol_list))
            counts = loop.counts.processed
            await _stream(loop, Gateway(loop.settings, venue, loop.outlet, counts, symbols, plans.known), watch)
    finally:
        reader.stop()
        plans.stop()


async def _stream(loop: Loop, gateway: Gateway, watch: Watch) -> None:
    loop.tell(
        problems=lambda: () if gateway.ready else ("the feed is not repaired yet",),
        metrics=lambda: metrics(gateway, watch),
        feed_age_ms=lambda: gateway.age_ms() if gateway.ready else None,
    )

    async def keep_universe() -> None:
        await until(lambda: gateway.ready)
        await watch.run(instruments_of(loop.settings.symbol_list), lambda: gateway.cutter.watermark, loop.outlet.send)

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(gateway.run())
            tasks.create_task(keep_universe())
    finally:
        await gateway.finish()
