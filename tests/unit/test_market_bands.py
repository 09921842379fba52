"""The made-up market beside the recorded one: the same measures of both lie within the same bands.

What is not alike is known (docs/local-exchange.md): it trades far more rarely and evenly, and within its five minutes a price
goes on in its direction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infra.venue.local.market import open_source
from infra.venue.local.market.base import MarketEvent, Quote, Trade

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Measures:
    one_tick: float  # share of quotes
    widest: int  # spread, 99th percentile
    sd_bp: float  # of returns of a second
    kurtosis: float
    memory: float  # autocorrelation of returns, lag 1
    signs: float  # autocorrelation of who takes, lag 1
    signs_far: float  # lag 50
    size_mean: float  # in medians
    size_p99: float
    clusters: float  # autocorrelation of absolute returns of a minute


def closes(trades: list[Trade], every_ms: int) -> NDArray[np.float64]:
    """The last price of every span, the one before where nothing was traded."""
    last = {trade.t // every_ms: trade.price for trade in trades}
    price, found = float(trades[0].price), []
    for span in range(min(last), max(last) + 1):
        price = last.get(span, price)
        found.append(price)
    return np.array(found)


def returns(trades: list[Trade], every_ms: int) -> NDArray[np.float64]:
    changes: NDArray[np.float64] = np.diff(np.log(closes(trades, every_ms)))
    return changes


def acf(series: NDArray[np.float64], lag: int) -> float:
    return float(np.corrcoef(series[:-lag], series[lag:])[0, 1])


def measure(events: Iterable[MarketEvent], symbol: str) -> Measures:
    mine = [event for event in events if event.symbol == symbol]
    trades = [event for event in mine if isinstance(event, Trade)]
    spreads = Counter(event.ask - event.bid for event in mine if isinstance(event, Quote))
    seconds = returns(trades, 1_000)
    # one order of a taker is many trades of one millisecond
    orders = [(key[1], sum(t.qty for t in group)) for key, group in groupby(trades, key=lambda t: (t.t, t.buyer_is_maker))]
    sides = np.array([-1.0 if sold else 1.0 for sold, _ in orders])
    sizes = np.array([trade.qty for trade in trades], dtype=float)
    minutes = np.abs(returns(trades, 60_000))
    return Measures(
        one_tick=spreads[1] / spreads.total(),
        widest=int(np.percentile(list(spreads.elements()), 99)),
        sd_bp=float(seconds.std() * 1e4),
        kurtosis=float(((seconds - seconds.mean()) ** 4).mean() / seconds.var() ** 2),
        memory=acf(seconds, 1),
        signs=acf(sides, 1),
        signs_far=acf(sides, 50),
        size_mean=float(sizes.mean() / np.median(sizes)),
        size_p99=float(np.percentile(sizes, 99) / np.median(sizes)),
        clusters=acf(minutes, 1) if len(minutes) > 100 else 1.0,  # a recording of minutes says nothing about them
    )


def check(found: Measures) -> None:
    assert 0.90 < found.one_tick < 0.98, found
    assert 1 < found.widest < 40, found
    assert 0.6 < found.sd_bp < 2.4, found
    assert found.kurtosis > 5, found
    assert abs(found.memory) < 0.1, found
    assert 0.1 < found.signs < 0.5, found
    assert abs(found.signs_far) < 0.15, found
    assert 2 < found.size_mean < 12, found
    assert 20 < found.size_p99 < 150, found
    assert found.clusters > 0.1, found


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_made_up_market_lies_within_the_bands(symbol: str) -> None:
    source = open_source("synthetic", seed=3, symbols=[symbol])
    end = source.start_t + 2 * DAY_MS
    check(measure(takewhile(lambda event: event.t < end, source.events()), symbol))


def test_the_recorded_market_lies_within_the_same_bands(shared_data: Path) -> None:
    folder = shared_data / "ticks"
    if not folder.is_dir():
        pytest.skip(f"no capture at {folder}")
    events = list(open_source(f"ticks:{folder}", seed=1).events())
    for symbol in ("BTCUSDT", "ETHUSDT"):
        check(measure(events, symbol))
