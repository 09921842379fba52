"""What the gateway must know of the past: where to go on in the log, closed candles to warm up on, and trades that it has missed.

Asked as cheaply as it can be: a page of trades costs 20 of the 2,400 that all processes of this machine may use in a minute.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from infra.errors import UserError
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import PublicTrade
from schemas import hot
from schemas.ids import event_id, partition_of
from schemas.units import Source
from streams.market_tail import Tail

INTERVAL, INTERVAL_MS = "5m", 300_000
HISTORY = 1_000
SPARE = 20
"""The open one, and those that close while we ask: in time lapse there are some."""
MODEST = 20_000
"""Missed trades of one instrument that are fetched one by one; beyond, its past begins anew with closed candles."""
LOOK_BACK = 499
"""Candles (2 of weight) in which missed trades are counted."""
PAGE = 1_000


@dataclass(slots=True)
class Start:
    """Where to begin: `histories` are written first. `pages`: first trades of an instrument that are already known, whole
    up to market time `asked_at`."""

    watermark: int
    asked_at: int
    next_ids: dict[str, int] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    histories: list[hot.CandleHistory] = field(default_factory=list)
    pages: dict[str, list[PublicTrade]] = field(default_factory=dict)


async def begin(venue: BinanceUsdm, tail: Tail, instruments: Sequence[str], source: Source) -> Start:
    """Behind the log's tail, or, first and after a long absence, behind past candles. UserError: the exchange began anew."""
    now = await venue.market_ms(instruments[0])
    if (ahead := max(tail.ticked.values(), default=0)) > now:
        raise began_anew(f"the log has come to market time {ahead}, the exchange is at {now}")
    start = Start(watermark=now, asked_at=now)
    for name in instruments:
        known, ticked = tail.last.get(name), tail.ticked.get(partition_of(name))
        if known is not None and ticked is not None and await _missed_since(venue, name, ticked) <= MODEST:
            start.next_ids[name], start.prices[name] = known.next_id, known.price
            start.watermark = min(start.watermark, ticked)
            continue
        history, page = await _history(venue, name, now, source)
        start.histories.append(history)
        start.pages[name] = page
        start.next_ids[name], start.prices[name] = history.next_id, history.c[-1]
        start.watermark = min(start.watermark, history.at)
    return start


def began_anew(why: str) -> UserError:
    return UserError(
        "market.trades is ahead of the exchange", f"{why}: it began anew", "start with --fresh, so that both begin anew"
    )


async def missed(
    venue: BinanceUsdm, next_ids: Mapping[str, int], until: int, known: Mapping[str, list[PublicTrade]]
) -> AsyncIterator[list[tuple[str, PublicTrade]]]:
    """All trades from `next_ids` on with t < `until`, of all instruments, merged in time: batches of (instrument, trade).

    `known`: first pages that need not be asked for.
    """
    heads = dict(next_ids)
    pages: dict[str, list[PublicTrade]] = {name: [] for name in heads}
    unfinished = list(heads)
    asked: set[str] = set()
    while unfinished or any(pages.values()):
        for name in [name for name in unfinished if not pages[name]]:
            page = known.get(name) if name not in asked else None
            asked.add(name)
            if page is None:
                page = await venue.trades(name, from_id=heads[name], limit=PAGE)
            pages[name] = [trade for trade in page if trade.t < until]
            if page:
                heads[name] = page[-1].id + 1
            if len(page) < PAGE or len(pages[name]) < len(page):
                unfinished.remove(name)
        horizon = min((pages[name][-1].t for name in unfinished), default=until)
        ready = [(name, trade) for name, page in pages.items() for trade in page if trade.t <= horizon]
        for name in pages:
            pages[name] = [trade for trade in pages[name] if trade.t > horizon]
        yield sorted(ready, key=lambda item: (item[1].t, item[0], item[1].id))


async def _missed_since(venue: BinanceUsdm, instrument: str, at: int) -> int:
    """About how many trades there were since market time `at`, counted in whole candles; more than MODEST if they reach further."""
    rows = await venue.klines(instrument, INTERVAL, LOOK_BACK)
    if len(rows) == LOOK_BACK and rows[0].open_at > at:
        return MODEST + 1
    return sum(row.trades for row in rows if row.open_at + INTERVAL_MS > at)


async def _history(venue: BinanceUsdm, instrument: str, now: int, source: Source) -> tuple[hot.CandleHistory, list[PublicTrade]]:
    """Closed candles up to `now`, and the first trades after them, from the exchange's newest on where there is none yet."""
    rows = [k for k in await venue.klines(instrument, INTERVAL, HISTORY + SPARE) if k.open_at + INTERVAL_MS <= now][-HISTORY:]
    if not rows:
        raise UserError(f"the exchange has no closed candle of {instrument}", "features cannot warm up", "choose another symbol")
    at = rows[-1].open_at + INTERVAL_MS
    page = await venue.trades(instrument, start_at=at, limit=PAGE)
    newest = page or await venue.trades(instrument, limit=1)
    next_id = page[0].id if page else newest[-1].id + 1 if newest else 1
    history = hot.CandleHistory(
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
        generated=source is Source.TICKS,
        quote_volume=[k.quote for k in rows],
        taker_buy_volume=[k.taker_buy for k in rows],
        trades=[k.trades for k in rows],
        source=source,
    )
    return history, page
