"""Candles to learn from: a Parquet or CSV file, or the history in ClickHouse, laid side by side on one grid of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.settings import Settings
from infra.venue.local.market.candles import read
from processors.learning.dataset import Market
from streams.queries import ask

STEP_MS: Final = 300_000
MISSING: Final = 0.02
"""Share of a symbol's candles that may be missing and are then filled flat; nothing is learnt of what they touch."""

Floats = NDArray[np.float64]
Series = tuple[NDArray[np.int64], Floats]
"""Open times in ms [n], and open, high, low, close, volume [n, 5]."""


def from_file(path: Path, symbols: Sequence[str] | None = None) -> Market:
    """All symbols of a file, or those named. UserError when it cannot be used."""
    found = {name: (np.array(c.open_t, dtype=np.int64), np.array(c.values, dtype=np.float64)) for name, c in read(path).items()}
    if symbols and (missing := [name for name in symbols if name not in found]):
        raise UserError(f"{path} has no {', '.join(missing)}", f"it has {', '.join(sorted(found))}", "choose from these")
    return aligned(path.name, {name: found[name] for name in sorted(symbols or found)})


def from_clickhouse(settings: Settings) -> Market:
    """The closed 5-minute candles of the history. UserError when there are none, or ClickHouse does not answer."""
    query = (
        "SELECT instrument, toUnixTimestamp64Milli(open_at) AS t, any(o), any(h), any(l), any(c), any(v) FROM market_candles "
        "WHERE interval = '5m' GROUP BY instrument, open_at ORDER BY instrument, open_at"
    )
    _, rows = ask(settings, query)
    if not rows:
        raise UserError("nothing to learn from", "the history has no 5-minute candles", "run the street first, or give --data PATH")
    names = [str(row[0]) for row in rows]
    begins = [i for i in range(len(rows)) if i == 0 or names[i] != names[i - 1]]
    found: dict[str, Series] = {}
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
        mine = rows[begin:end]
        found[names[begin]] = (np.array([r[1] for r in mine]), np.array([[float(x) for x in r[2:]] for r in mine]))
    return aligned("history in ClickHouse", found)


def aligned(name: str, series: Mapping[str, Series]) -> Market:
    """The stretch of time in which all symbols trade; a missing candle inside is flat at the close before it, without volume."""
    if not series:
        raise UserError(f"nothing to learn from in {name}", "there are no candles", "give a file of 5-minute candles")
    for symbol, (opened, values) in series.items():
        _fit(name, symbol, opened, values)
    first = max(int(opened[0]) for opened, _ in series.values())
    last = min(int(opened[-1]) for opened, _ in series.values())
    grid = np.arange(first, last + 1, STEP_MS, dtype=np.int64)
    columns = np.empty((5, len(grid), len(series)))
    traded = np.zeros((len(grid), len(series)), dtype=np.bool_)
    for place, (symbol, (opened, values)) in enumerate(series.items()):
        at = np.searchsorted(opened, grid, side="right") - 1
        there = np.asarray((at >= 0) & (opened[at] == grid))
        if len(grid) < 2 or 1.0 - there.mean() > MISSING:
            raise UserError(
                f"{symbol} in {name} has too few candles",
                f"{int(there.sum())} of {len(grid)} between the latest first candle and the earliest last one",
                "leave it out: --symbols A,B,C",
            )
        columns[:, :, place] = np.where(there, values[at].T, values[at, 3])
        columns[4, ~there, place] = 0.0
        traded[:, place] = there
    o, h, low, c, v = columns
    return Market(name, list(series), o, h, low, c, v, grid, None if traded.all() else traded)


def _fit(name: str, symbol: str, opened: NDArray[np.int64], values: Floats) -> None:
    what = f"{symbol} in {name} cannot be learnt from"
    if (np.diff(opened) <= 0).any():
        t = int(opened[int(np.argmax(np.diff(opened) <= 0)) + 1])
        raise UserError(what, f"its candles are not in order of time, or one is there twice: open_time {t} ms", "sort the file")
    if (opened % STEP_MS != 0).any():
        raise UserError(what, "its candles do not open at whole 5 minutes", "give 5-minute candles")
    o, h, low, c, v = values.T
    wrong = (
        ~np.isfinite(values).all(axis=1)
        | (values[:, :4] <= 0).any(axis=1)
        | (h < np.maximum(o, c))
        | (low > np.minimum(o, c))
        | (v < 0)
    )
    if wrong.any():
        at = int(np.argmax(wrong))
        raise UserError(what, f"the candle at {int(opened[at])} ms is none: {values[at].tolist()}", "correct or remove it")
