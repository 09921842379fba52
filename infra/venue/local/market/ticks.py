"""A recorded raw WebSocket capture as a market: real trades with their ids, real quotes, marks from the recorded mid.

A capture is gzip, one `<receive time ns> <json>` a line, json = {"stream": "...", "data": {...}}. Used are the streams `trade`
(only X == "MARKET"), `bookTicker`, and `depth` from the REST snapshot of the book on that stands in the file. Events of all
files are merged by transaction time. A mark is the mean of the last quote's bid and ask, at most one a symbol and second: it is
named so by mark_origin == "recorded-mid".

A capture has no past. The 5-minute candles before it are made up by the synthetic market without a planted signal, rescaled to
end at the first recorded price (history_is_generated). They end at the boundary at or before the first trade of all symbols;
between the boundary and that trade nothing trades. The funding rate of its marks is made up as well.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from infra.errors import UserError
from infra.venue.local.market.base import (
    CANDLE_MS,
    FUNDING_MS,
    SYMBOLS,
    Candle5m,
    Depth,
    Label,
    Levels,
    Mark,
    MarketEvent,
    MarkOrigin,
    Quote,
    Symbol,
    Trade,
    candle_start,
    next_funding,
)
from infra.venue.local.market.expand import funding_rate
from infra.venue.local.market.synthetic import candles

MARK_EVERY_MS: Final = 1000
GIVE: Final = "give a directory, or files separated by commas"


class _Message(msgspec.Struct):
    """`trade` and `bookTicker` in one shape. {"e":"trade","T":1,"s":"BTCUSDT","t":7,"p":"1.0","q":"2","X":"MARKET","m":true}"""

    s: str
    T: int
    t: int = 0
    p: str = ""
    q: str = ""
    X: str = ""
    m: bool = False
    b: str = ""
    B: str = ""
    a: str = ""
    A: str = ""


class _Envelope(msgspec.Struct):
    data: _Message


_Texts = list[tuple[str, str]]


class _Changes(msgspec.Struct):
    """`depthUpdate`. {"T":1,"s":"BTCUSDT","b":[["1.0","2"]],"a":[]}"""

    s: str
    T: int
    b: _Texts
    a: _Texts


class _Told(msgspec.Struct):
    data: _Changes


class _Snapshot(msgspec.Struct):
    """{"lastUpdateId":1,"E":1,"T":1,"bids":[["1.0","2"]],"asks":[]}; of the symbol whose stream it stands in."""

    T: int
    bids: _Texts
    asks: _Texts


class _Grid(dict[str, int]):
    """Decimal text -> integer ticks or steps; the same few texts come again and again."""

    def __init__(self, unit: Decimal) -> None:
        super().__init__()
        self.unit = unit

    def __missing__(self, text: str) -> int:
        n = Decimal(text) / self.unit
        if n != (whole := int(n)):
            raise ValueError(f"{text} is not a multiple of {self.unit}")
        self[text] = whole
        return whole


class TickMarket:
    """A capture behind the MarketSource protocol. The whole capture is held in memory: some 100 bytes a trade or quote."""

    label: Label = "ticks"
    mark_origin: MarkOrigin = "recorded-mid"
    history_is_generated = True

    def __init__(self, files: Sequence[Path], *, seed: int, symbols: Sequence[str] | None = None, history: int = 1100) -> None:
        found: list[Trade | Quote | Depth] = []
        for file in files:
            found.extend(read(file, symbols))
        found.sort(key=attrgetter("t"))  # stable: what the exchange sent in one millisecond stays in its order
        first: dict[str, Trade] = {}
        for event in found:
            if isinstance(event, Trade):
                first.setdefault(event.symbol, event)
        what = "the capture cannot drive the market"
        if missing := [name for name in symbols or () if name not in first]:
            raise UserError(what, f"no trade of {', '.join(missing)}", f"choose from {', '.join(sorted(first))}")
        if not first:
            raise UserError(what, "it holds no trades", "give captures with trade streams")
        self.seed = seed
        self.past = history
        self.symbols = tuple(SYMBOLS[name] for name in (tuple(dict.fromkeys(symbols)) if symbols is not None else sorted(first)))
        known = {s.name: s for s in self.symbols}
        found = [event for event in found if event.symbol in known]  # a symbol that is quoted but never traded is left out
        self.start_t = found[0].t
        self._first = first
        self._events = list(_with_marks(found, known, seed))

    def history(self) -> Iterator[Candle5m]:
        end = candle_start(self.start_t)
        made = candles(self.seed, [s.name for s in self.symbols], self.past, planted_signal=False)
        ratio = [self._first[s.name].price for s in self.symbols] / made.close[-1]
        prices = (np.rint(values * ratio).astype(np.int64).tolist() for values in (made.open, made.high, made.low, made.close))
        for i, *rows in zip(range(self.past), *prices, made.volume.tolist(), strict=True):
            for symbol, *five in zip(self.symbols, *rows, strict=True):
                yield Candle5m(symbol.name, end - (self.past - i) * CANDLE_MS, *five)

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        for event in self._events:
            if resume_t is None or event.t > resume_t:
                yield event


def find(spec: str) -> list[Path]:
    """The captures that `ticks:SPEC` means: a directory's usdm_*.gz, or files separated by commas."""
    folder = Path(spec)
    files = sorted(folder.glob("usdm_*.gz")) if folder.is_dir() else [Path(part) for part in spec.split(",") if part]
    if not files:
        raise UserError(f"no capture in '{spec}'", "a directory must hold usdm_*.gz", GIVE)
    if absent := [str(file) for file in files if not file.is_file()]:
        raise UserError("a capture cannot be read", f"there is no file {', '.join(absent)}", GIVE)
    return files


def read(file: Path, symbols: Sequence[str] | None = None) -> Iterator[Trade | Quote | Depth]:
    """A capture's trades, quotes and depth in its own order, of the symbols asked for."""
    decode = msgspec.json.Decoder(_Envelope).decode
    ticks = {name: _Grid(symbol.tick) for name, symbol in SYMBOLS.items()}
    steps = {name: _Grid(symbol.step) for name, symbol in SYMBOLS.items()}
    snapshot, changes = msgspec.json.Decoder(_Snapshot).decode, msgspec.json.Decoder(_Told).decode

    def levels(name: str, texts: _Texts) -> Levels:
        price, qty = ticks[name], steps[name]
        return {price[p]: qty[q] for p, q in texts}

    number, name, begun = 0, "", False
    try:
        for line in gzip.decompress(file.read_bytes()).splitlines():  # twice as fast as line by line
            number += 1
            head = line[:64]
            traded = b'@trade"' in head
            if not traded and b'@bookTicker"' not in head:
                if b'"lastUpdateId"' in head and name:
                    whole = snapshot(memoryview(line)[line.index(b"{") :])
                    begun = True
                    yield Depth(name, whole.T, levels(name, whole.bids), levels(name, whole.asks), is_whole=True)
                elif b"@depth" in head and begun:
                    told = changes(memoryview(line)[line.index(b"{") :]).data
                    yield Depth(name, told.T, levels(name, told.b), levels(name, told.a))
                continue
            it = decode(memoryview(line)[line.index(b"{") :]).data
            if symbols is not None and it.s not in symbols:
                continue
            if it.s not in SYMBOLS:
                raise UserError(
                    f"{file} cannot drive the market",
                    f"tick and step of {it.s} are not known to the local exchange",
                    f"choose symbols from {', '.join(SYMBOLS)}",
                )
            name = it.s
            price, qty = ticks[name], steps[name]
            if not traded:
                yield Quote(it.s, it.T, price[it.b], qty[it.B], price[it.a], qty[it.A])
            elif it.X == "MARKET":
                yield Trade(it.s, it.T, price[it.p], qty[it.q], it.m, it.t)
    except (OSError, EOFError, zlib.error, ValueError, ArithmeticError, msgspec.DecodeError) as error:
        raise UserError(f"{file} is not a usable capture", f"after line {number}: {error}", "give a complete capture") from None


def _with_marks(events: Iterable[Trade | Quote | Depth], symbols: dict[str, Symbol], seed: int) -> Iterator[MarketEvent]:
    due: dict[str, int] = {}
    for event in events:
        yield event
        if isinstance(event, Quote) and event.t >= due.get(event.symbol, 0):
            due[event.symbol] = event.t - event.t % MARK_EVERY_MS + MARK_EVERY_MS
            mid = (event.bid + event.ask) * symbols[event.symbol].tick / 2
            rate = funding_rate(event.symbol, event.t // FUNDING_MS, seed)
            yield Mark(event.symbol, event.t, mid, mid, rate, next_funding(event.t))
