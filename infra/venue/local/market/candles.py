"""Recorded 5-minute candles, Parquet or CSV, as a market: the first candles are history, the rest is expanded into trades.

Columns as in the data folder: symbol, open_time, open, high, low, close, volume. open_time is a timestamp (UTC), or a number of
milliseconds or microseconds since the epoch. A candle must be exact in ticks and steps (float noise is rounded away), every
symbol must have the same gap-free window, else a UserError says which candle is wrong. The recording ends; so do the events.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

from infra.errors import UserError
from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Candle5m, Label, MarketEvent, MarkOrigin, Symbol, candle_start
from infra.venue.local.market.expand import expand_all, unfit

COLUMNS: Final = ("symbol", "open_time", "open", "high", "low", "close", "volume")
LIVE_AT_LEAST: Final = 12  # candles after the history, else there is nothing to watch
OFF_TICK: Final = 1e-3  # of a tick: what float noise may add to an exact price
OFF_STEP: Final = 1e-2
GIVE: Final = "give a Parquet or CSV file of 5-minute candles"


@dataclass(slots=True)
class Columns:
    """One symbol's raw rows in file order; times in ms."""

    open_t: list[int] = field(default_factory=list)
    values: list[tuple[float, float, float, float, float]] = field(default_factory=list)


class CandleMarket:
    """Recorded candles behind the MarketSource protocol."""

    label: Label = "candles"
    mark_origin: MarkOrigin = "generated"
    history_is_generated = False

    def __init__(self, path: Path, *, seed: int, symbols: Sequence[str] | None = None, history: int = 1100) -> None:
        raw = read(path)
        names = tuple(dict.fromkeys(symbols)) if symbols is not None else tuple(sorted(raw))
        what = f"{path} cannot drive the market"
        if missing := [name for name in names if name not in raw]:
            raise UserError(what, f"it has no {', '.join(missing)}", f"choose from {', '.join(sorted(raw))}")
        if unknown := [name for name in names if name not in SYMBOLS]:
            raise UserError(
                what,
                f"tick and step of {', '.join(unknown)} are not known to the local exchange",
                f"choose symbols from {', '.join(SYMBOLS)}",
            )
        self.seed = seed
        self.past = history
        self.symbols = tuple(SYMBOLS[name] for name in names)
        self._rows = _rows(what, {name: raw[name] for name in names}, self.symbols, history + LIVE_AT_LEAST)
        self.start_t = self._rows[history][0].open_t

    def history(self) -> Iterator[Candle5m]:
        for row in self._rows[: self.past]:
            yield from row

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        after = self.start_t - 1 if resume_t is None else max(resume_t, self.start_t - 1)
        first = self.past + (candle_start(after + 1) - self.start_t) // CANDLE_MS
        for i in range(first, len(self._rows)):
            previous = [candle.close for candle in self._rows[i - 1]]
            for event in expand_all(zip(self._rows[i], self.symbols, previous, strict=True), seed=self.seed):
                if event.t > after:
                    yield event


def read(path: Path) -> dict[str, Columns]:
    """The file's rows by symbol, unchecked beyond their columns."""
    if not path.is_file():
        raise UserError(f"candles cannot be read from {path}", "there is no such file", GIVE)
    return _parquet(path) if path.suffix == ".parquet" else _csv(path)


def _parquet(path: Path) -> dict[str, Columns]:
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq
    except ImportError:
        why = "Parquet needs the package pyarrow"
        raise UserError(f"{path} cannot be read", why, "install the extra 'embedded' or give a CSV file") from None
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet", str(error), GIVE) from None
    _require(path, schema.names)
    table = pq.read_table(path, columns=list(COLUMNS))
    opened = table.column("open_time")
    if pa.types.is_timestamp(opened.type):
        opened = pc.cast(pc.cast(opened, pa.timestamp("ms", tz=opened.type.tz), safe=False), pa.int64())
    columns = [table.column(name).to_pylist() for name in COLUMNS if name != "open_time"]
    found: dict[str, Columns] = {}
    for name, t, o, h, low, c, v in zip(columns[0], opened.to_pylist(), *columns[1:], strict=True):
        rows = found.setdefault(str(name), Columns())
        rows.open_t.append(_milliseconds(int(t)))
        rows.values.append((float(o), float(h), float(low), float(c), float(v)))
    return found


def _csv(path: Path) -> dict[str, Columns]:
    found: dict[str, Columns] = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            reader = csv.DictReader(lines)
            _require(path, reader.fieldnames or ())
            for row in reader:
                rows = found.setdefault(row["symbol"], Columns())
                rows.open_t.append(_time(row["open_time"]))
                rows.values.append(
                    (float(row["open"]), float(row["high"]), float(row["low"]), float(row["close"]), float(row["volume"]))
                )
    except (ValueError, TypeError) as error:  # UnicodeDecodeError is a ValueError
        why = f"line {reader.line_num}: {error}"
        raise UserError(f"{path} cannot be read as CSV", why, "write numbers and UTC times") from None
    return found


def _require(path: Path, present: Sequence[str]) -> None:
    if missing := [name for name in COLUMNS if name not in present]:
        raise UserError(
            f"{path} does not hold 5-minute candles",
            f"it has no column {', '.join(missing)}",
            f"give the columns {', '.join(COLUMNS)}",
        )


def _time(text: str) -> int:
    if text.strip().isdigit():
        return _milliseconds(int(text))
    at = datetime.fromisoformat(text.strip())
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def _milliseconds(t: int) -> int:
    """Newer archives count microseconds: told by magnitude."""
    return t // 1000 if t > 10**14 else t


def _rows(what: str, raw: dict[str, Columns], symbols: Sequence[Symbol], needed: int) -> list[list[Candle5m]]:
    """Candles by time, one row of all symbols each; the window that all symbols share."""
    first = max(min(rows.open_t) for rows in raw.values())
    last = min(max(rows.open_t) for rows in raw.values())
    count = max(0, (last - first) // CANDLE_MS + 1)
    if count < needed:
        why = f"its symbols share {count} candles, {needed} are needed"
        raise UserError(what, why, "give more candles, or ask for fewer symbols or a shorter history")
    columns: list[list[Candle5m]] = []
    for symbol in symbols:
        rows = raw[symbol.name]
        inside = sorted((t, values) for t, values in zip(rows.open_t, rows.values, strict=True) if first <= t <= last)
        series = [_exact(what, symbol, t, values) for t, values in inside]
        for i, candle in enumerate(series):
            if candle.open_t != first + i * CANDLE_MS:
                raise UserError(
                    what,
                    f"{symbol.name} has no candle at {_utc(first + i * CANDLE_MS)}, or two, or one off the 5-minute grid",
                    "give candles without gaps and repetitions",
                )
        columns.append(series)
    return [list(row) for row in zip(*columns, strict=True)]


def _exact(what: str, symbol: Symbol, t: int, values: tuple[float, float, float, float, float]) -> Candle5m:
    tick, step = float(symbol.tick), float(symbol.step)
    if not all(math.isfinite(value) for value in values):
        raise UserError(what, f"{symbol.name} at {_utc(t)} holds a value that is not finite", "repair that candle")
    prices = [round(Decimal(repr(value)) / symbol.tick) for value in values[:4]]
    volume = round(Decimal(repr(values[4])) / symbol.step)
    off = max(abs(ticks - value / tick) for ticks, value in zip(prices, values[:4], strict=True))
    if off > OFF_TICK or abs(volume - values[4] / step) > OFF_STEP:
        why = f"{symbol.name} at {_utc(t)} is not on its tick {symbol.tick} or step {symbol.step}"
        raise UserError(what, why, "give candles as the exchange printed them")
    candle = Candle5m(symbol.name, t, prices[0], prices[1], prices[2], prices[3], volume)
    if reason := unfit(candle):
        raise UserError(what, f"{symbol.name} at {_utc(t)}: {reason}", "repair that candle")
    return candle


def _utc(t: int) -> str:
    return datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="seconds")
