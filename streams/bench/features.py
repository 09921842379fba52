"""`quantum bench features`: one new candle of 100 symbols into all 49 features, by the kernel and by what one would use instead.

kernel        one `step` of a state of 100 symbols, to float32
talib         TA-Lib over the last 256 candles of each symbol: the shortest window that its recursions bear (they begin anew in it)
talib_stream  TA-Lib's incremental handles, one set a symbol, kept in memory only
talipp        an incremental library in pure Python; it has only some of the indicators
pandas        the formulas over the last 256 candles of each symbol

Kernel, TA-Lib and streams take turns candle by candle, so that a busy machine slows all of them alike; medians are told, of `rounds`
candles (pandas and talipp: fewer). `apart`: the largest difference to the kernel in deviations of the feature, beginnings included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from processors.features.catalogue import FEATURE_SET, NAMES, feature_hash
from processors.features.kernel import FeatureState

WINDOW: Final = 256
WARM: Final = 1_000

Floats = NDArray[np.float64]


def run(symbols: int = 100, rounds: int = 60) -> dict[str, Any]:
    """Times in ms for one update of all symbols. UserError when the libraries to compare with are not installed."""
    try:
        from streams.bench.rivals import TalibStreams, by_pandas, by_talib, talipp_indicators
    except ModuleNotFoundError as e:
        raise UserError(
            "cannot compare", f"{e.name} is not installed", "make dev (or pip install '.[dev]'), then try again"
        ) from e

    began = time.monotonic()
    data = market(symbols, WARM + rounds)
    state = FeatureState(symbols)
    state.replay(*data[:, :WARM])
    columns = np.ascontiguousarray(data.transpose(2, 0, 1))  # [symbols, 5, bars]: contiguous for each symbol, as TA-Lib wants it
    streams = [TalibStreams(one[:, :WARM]) for one in columns]
    took: dict[str, list[float]] = {"kernel": [], "peek": [], "talib": [], "talib_stream": [], "pandas": [], "talipp": []}
    apart = {"talib": 0.0, "talib_stream": 0.0}
    rows = np.empty((rounds, symbols, len(NAMES)))
    others: dict[str, list[Any]] = {"talib": [], "talib_stream": []}
    for n in range(rounds):
        candle = data[:, WARM + n]
        single = [tuple(one) for one in candle.T.tolist()]
        windows = [one[:, WARM + n + 1 - WINDOW : WARM + n + 1] for one in columns]
        _timed(took["peek"], lambda candle=candle: state.peek(*candle))
        rows[n] = _timed(took["kernel"], lambda candle=candle: state.step(*candle))
        others["talib"].append(_timed(took["talib"], lambda windows=windows: [by_talib(w, last=True) for w in windows]))
        others["talib_stream"].append(
            _timed(took["talib_stream"], lambda single=single: [s.update(*one) for s, one in zip(streams, single, strict=True)])
        )
    for _ in range(2):
        _timed(took["pandas"], lambda: [by_pandas(one[:, -WINDOW:]) for one in columns])
    count, feed = talipp_indicators(columns[0][:, : WARM // 2])
    for n in range(rounds):
        one = tuple(columns[0][:, WARM + n].tolist())
        _timed(took["talipp"], lambda one=one: feed(*one))

    spread = rows.std(axis=(0, 1)) + 1e-12
    for name, found in others.items():
        values = np.array([[[row[f] for f in NAMES] for row in one] for one in found])
        apart[name] = float(np.max(np.abs(values - rows) / spread))
    ms = {name: median(values) * 1e3 for name, values in took.items()}
    ms["talipp"] *= symbols
    return {
        "symbols": symbols,
        "features": len(NAMES),
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        **{f"{name}_ms": round(value, 4) for name, value in ms.items()},
        **{f"ratio_{name}": round(ms[name] / ms["kernel"], 1) for name in ("talib", "talib_stream", "talipp", "pandas")},
        "talipp_indicators": count,
        "apart": {name: float(f"{value:.2g}") for name, value in apart.items()},
        "state_bytes": len(_one(data).to_bytes()),
        "window": WINDOW,
        "rounds": rounds,
        "load_average": round(os.getloadavg()[0], 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def market(symbols: int, bars: int, seed: int = 1) -> Floats:
    """Random walks [5, bars, symbols] (o h l c v)."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.002, (bars, symbols)), axis=0))
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.001, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.001, close.shape)))
    return np.stack([open_, high, low, close, 20.0 * rng.lognormal(0, 0.8, close.shape)])


def _one(data: Floats) -> FeatureState:
    state = FeatureState()
    state.replay(*data[:, :WARM, 0])
    return state


def _timed(into: list[float], work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    done = work()
    into.append(time.perf_counter() - began)
    return done
