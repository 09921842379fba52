"""`quantum bench features`: one new candle of 100 symbols into all 49 features, by the kernel and by what one would use instead.

kernel        one `step` of a state of 100 symbols, to float32
talib         TA-Lib over the last 256 candles of each symbol: the shortest window that its recursions bear (they begin anew in it)
talib_stream  TA-Lib's incremental handles, one set a symbol, kept in memory only
talipp        an incremental library in pure Python; it has only some of the indicators
pandas        the formulas over the last 256 candles of each symbol

Kernel, TA-Lib and streams take turns of some candles, so that a busy machine slows all of them alike. Told are medians of wall
time a candle; of pandas two rounds over all symbols, of talipp one symbol times all. `apart`: the largest difference to the kernel
in deviations of the feature: over 256 candles TA-Lib's recursions have not quite forgotten their beginnings.
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
TURN: Final = 5

Floats = NDArray[np.float64]


def run(symbols: int = 100, rounds: int = 60) -> dict[str, Any]:
    """Times in ms for one update of all symbols. UserError when the libraries to compare with are not installed."""
    try:
        from streams.bench.rivals import TalibStreams, by_pandas, by_talib, talipp_indicators
    except ModuleNotFoundError as e:
        raise UserError("cannot compare", f"{e.name} is not installed", "make dev (or pip install '.[dev]'), then try again") from e

    began = time.monotonic()
    data = market(symbols, WARM + rounds)
    state = FeatureState(symbols)
    state.replay(*data[:, :WARM])
    columns = np.ascontiguousarray(data.transpose(2, 0, 1))  # [symbols, 5, bars]: contiguous for each symbol, as TA-Lib wants it
    handles = [TalibStreams(one[:, :WARM]) for one in columns]
    indicators, feed = talipp_indicators(columns[0][:, : WARM // 2])

    def windows(n: int) -> list[Floats]:
        return [one[:, n + 1 - WINDOW : n + 1] for one in columns]

    def numbers(n: int) -> list[list[float]]:
        return data[:, n].T.tolist()  # type: ignore[no-any-return]

    took: dict[str, list[float]] = {name: [] for name in ("kernel", "peek", "talib", "talib_stream", "pandas", "talipp")}
    said: dict[str, list[Any]] = {name: [] for name in took}
    for first in range(WARM, WARM + rounds, TURN):
        turn = range(first, min(first + TURN, WARM + rounds))
        for name, given, work in (
            ("peek", [data[:, turn[0]]] * len(turn), lambda candle: state.peek(*candle)),
            ("kernel", [data[:, n] for n in turn], lambda candle: state.step(*candle)),
            ("talib", [windows(n) for n in turn], lambda given: [by_talib(window, last=True) for window in given]),
            ("talib_stream", [numbers(n) for n in turn], lambda given: [s.update(*c) for s, c in zip(handles, given, strict=True)]),
            ("talipp", [numbers(n)[0] for n in turn], lambda candle: feed(*candle)),
        ):
            said[name] += [_timed(took[name], work, one) for one in given]
    for _ in range(2):
        _timed(took["pandas"], lambda given: [by_pandas(window) for window in given], windows(WARM + rounds - 1))

    rows = np.array(said["kernel"], dtype=np.float64)
    spread = rows.std(axis=(0, 1)) + 1e-12
    apart = {}
    for name in ("talib", "talib_stream"):
        values = np.array([[[row[feature] for feature in NAMES] for row in candle] for candle in said[name]])
        apart[name] = float(f"{np.max(np.abs(values - rows) / spread):.2g}")
    ms = {name: median(values) * 1e3 for name, values in took.items()}
    ms["talipp"] *= symbols
    return {
        "symbols": symbols,
        "features": len(NAMES),
        "feature_set": FEATURE_SET,
        "feature_hash": feature_hash(),
        **{f"{name}_ms": round(value, 4) for name, value in ms.items()},
        **{f"ratio_{name}": round(ms[name] / ms["kernel"], 1) for name in ("talib", "talib_stream", "talipp", "pandas")},
        "talipp_indicators": indicators,
        "apart": apart,
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


def _timed(into: list[float], work: Callable[[Any], Any], given: Any) -> Any:
    began = time.perf_counter()
    done = work(given)
    into.append(time.perf_counter() - began)
    return done
