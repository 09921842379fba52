"""The synthetic market: a seeded, endless series of 5-minute candles with a planted signal. All of it is made up and says so.

Signatures that others build on (arrays are [candle, symbol], prices in integer ticks, volumes in integer steps):
    candles(seed, symbols=None, n=1100, *, planted_signal=True) -> Candles   .open .high .low .close .volume .open_t .planted
    Candles.floats() -> (open, high, low, close, volume), float64, the very numbers that a decoder reads from the exchange
    planted(seed, symbols=None, n=1100) -> int8[candle, symbol]              +1, -1: a pattern closed here; 0: none
    SyntheticMarket(seed, ...)                                               the same series, live: history, then events

Index i opens at START_T + i * 5 minutes. A symbol's series depends on the seed and its own name, not on who else is asked
for. Draws come in blocks of BLOCK candles, each from its own generator (seed, name, block); a few numbers of state pass from
block to block, so a start in the middle recomputes the blocks before it (some 10 ms each). A trainer takes a seed of its own:
the candles behind the history of the live seed are that exchange's future.

Returns: market factor + own part, Student-t innovations, log-volatility AR(1) and a market-wide regime (quiet, normal,
volatile), rare jumps of a symbol of its own, weakly pulled back to the base price so that ticks keep their meaning. Volume
follows volatility and the size of the move. None of this says anything about direction.

The planted signal: about every 30 candles a symbol shows a pattern, a volume burst (5-9 x) on a full body that closes at its
extreme. The following DRIFT_CANDLES carry a drift of about 3.3 %, in 82 % of the cases in the pattern's direction, otherwise
against it and then mostly at once, so take-profits fill and stops do too. Decoys (the same burst closing in the middle, no
drift) make volume alone worthless. With planted_signal=False the patterns stay and the drift is gone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from infra.errors import UserError
from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Candle5m, Label, MarketEvent, MarkOrigin, Symbol, candle_start
from infra.venue.local.market.expand import expand_all

START_T: Final = 1_767_225_600_000  # 2026-01-01T00:00:00Z
BLOCK: Final = 1024
DRIFT_CANDLES: Final = 12
RIGHT: Final = 0.82  # share of patterns after which the drift keeps their direction
DRIFT_RIGHT: Final = (0.026, 0.040)  # total log move over the drift, uniform
DRIFT_WRONG: Final = (0.034, 0.048)
DRIFT_FADE: Final = 0.8  # a candle: most of it comes early, so that late rows say little and exits come soon
WRONG_FADE: Final = 0.3  # a false break turns at once: stops meet it before any model can
JUMP_RATE: Final = 1 / 600  # a candle and symbol: news that nothing announces
JUMP: Final = (0.028, 0.045)  # log move, either way
MIN_GAP: Final = 14  # more than DRIFT_CANDLES: drifts of one symbol never overlap
MEAN_EXTRA_GAP: Final = 16
BURST: Final = (5.0, 9.0)  # volume of a pattern, and of a decoy, in typical volumes
DECOY_RATE: Final = 1 / 60
PULL: Final = 1 / 3000  # a candle, towards the base price
VOL_MEMORY: Final = 0.98
VOL_OF_VOL: Final = 0.30  # stationary sd of log-volatility
FREEDOM: Final = 5.0  # of Student's t
REGIMES: Final = (0.75, 1.0, 1.45)  # volatility in quiet, normal, volatile times
REGIME_CHANGE: Final = (1 / 400, 1 / 300, 1 / 100)
MAX_PATTERNS: Final = BLOCK // MIN_GAP + 2

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Nature:
    """A symbol's sd of one candle from the market factor and from itself, and its typical base volume of one candle."""

    factor: float
    own: float
    volume: float


NATURE: Final[dict[str, Nature]] = {
    "BTCUSDT": Nature(0.0014, 0.0011, 245.0),
    "ETHUSDT": Nature(0.0016, 0.0015, 6_600.0),
    "SOLUSDT": Nature(0.0017, 0.0018, 45_000.0),
    "XRPUSDT": Nature(0.0015, 0.0018, 1_050_000.0),
    "ADAUSDT": Nature(0.0017, 0.0020, 1_500_000.0),
    "DOGEUSDT": Nature(0.0017, 0.0020, 9_200_000.0),
    "AVAXUSDT": Nature(0.0017, 0.0019, 33_000.0),
    "BNBUSDT": Nature(0.0012, 0.0012, 1_150.0),
}


@dataclass(frozen=True, slots=True)
class Candles:
    """A stretch of the market. Integer arrays [candle, symbol] in ticks and steps; `open_t` [candle] in market ms."""

    symbols: tuple[Symbol, ...]
    open_t: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints
    planted: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.open_t)

    def __getitem__(self, rows: slice) -> Candles:
        return Candles(
            self.symbols,
            self.open_t[rows],
            self.open[rows],
            self.high[rows],
            self.low[rows],
            self.close[rows],
            self.volume[rows],
            self.planted[rows],
        )

    def floats(self) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        """(open, high, low, close, volume), each the float nearest to the decimal that the exchange prints."""
        tick = [s.tick.as_integer_ratio() for s in self.symbols]
        step = [s.step.as_integer_ratio() for s in self.symbols]
        return (
            _scaled(self.open, tick),
            _scaled(self.high, tick),
            _scaled(self.low, tick),
            _scaled(self.close, tick),
            _scaled(self.volume, step),
        )

    def row(self, i: int) -> list[Candle5m]:
        columns = (self.open[i], self.high[i], self.low[i], self.close[i], self.volume[i])
        t = int(self.open_t[i])
        return [Candle5m(s.name, t, *five) for s, *five in zip(self.symbols, *(c.tolist() for c in columns), strict=True)]


def candles(seed: int, symbols: Sequence[str] | None = None, n: int = 1100, *, planted_signal: bool = True) -> Candles:
    """The first n candles of the series; UserError for a symbol that the synthetic market does not have."""
    chosen = choose(symbols)
    parts: list[Candles] = []
    for block in blocks(seed, chosen, planted_signal=planted_signal):
        parts.append(block)
        if len(parts) * BLOCK >= n:
            break
    whole = {name: np.concatenate([getattr(p, name) for p in parts])[:n] for name in Candles.__slots__[1:]}
    return Candles(chosen, **whole)


def planted(seed: int, symbols: Sequence[str] | None = None, n: int = 1100) -> NDArray[np.int8]:
    """The labels: the direction of the pattern that closes with a candle, 0 where there is none."""
    return candles(seed, symbols, n).planted


def choose(symbols: Sequence[str] | None) -> tuple[Symbol, ...]:
    names = tuple(SYMBOLS) if symbols is None else tuple(dict.fromkeys(symbols))
    if unknown := [name for name in names if name not in NATURE]:
        raise UserError(
            "the synthetic market cannot start",
            f"it does not have {', '.join(unknown)}",
            f"choose from {', '.join(NATURE)}",
        )
    return tuple(SYMBOLS[name] for name in names)


def blocks(seed: int, symbols: tuple[Symbol, ...], *, planted_signal: bool = True) -> Iterator[Candles]:
    """Block after block, without end."""
    market = _MarketFactor()
    streams = [_Stream(symbol) for symbol in symbols]
    number = 0
    while True:
        shock, level = market.next(np.random.default_rng([seed, 0, number]))
        columns = [
            stream.next(np.random.default_rng([seed, crc32(stream.symbol.name.encode()), number]), shock, level, planted_signal)
            for stream in streams
        ]
        o, h, low, c, v, sign = (np.stack(column, axis=1) for column in zip(*columns, strict=True))
        first = number * BLOCK
        open_t = START_T + CANDLE_MS * np.arange(first, first + BLOCK, dtype=np.int64)
        yield Candles(symbols, open_t, o, h, low, c, v, sign.astype(np.int8))
        number += 1


class _MarketFactor:
    """The part that all symbols share: a shock of unit sd at calm, and the level of volatility."""

    def __init__(self) -> None:
        self.log_vol = 0.0
        self.regime = 1

    def next(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        change, turn = rng.random(BLOCK), rng.random(BLOCK)
        regime = np.empty(BLOCK)
        for i in range(BLOCK):
            if change[i] < REGIME_CHANGE[self.regime]:
                self.regime = (1 if turn[i] < 0.8 else 2) if self.regime == 0 else (0 if turn[i] < 0.6 else 3 - self.regime)
            regime[i] = REGIMES[self.regime]
        log_vol = _recursion(self.log_vol, _vol_noise(rng), VOL_MEMORY)
        self.log_vol = float(log_vol[-1])
        level = regime * np.exp(log_vol - VOL_OF_VOL**2)
        return level * _unit_t(rng), level


class _Stream:
    """One symbol: what passes from block to block, and the next block."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self.nature = NATURE[symbol.name]
        self.base = float(symbol.base_price / symbol.tick)
        self.typical = float(self.nature.volume / float(symbol.step))
        self.away = 0.0  # log distance from the base price
        self.log_vol = 0.0
        self.close = round(self.base)
        self.until_pattern = MIN_GAP + crc32(symbol.name.encode()) % MEAN_EXTRA_GAP  # not all at once
        self.tail = np.zeros(DRIFT_CANDLES)

    def next(self, rng: np.random.Generator, shock: Floats, level: Floats, planted_signal: bool) -> tuple[Ints, ...]:
        """(open, high, low, close, volume, planted sign) of the next block."""
        log_vol = _recursion(self.log_vol, _vol_noise(rng), VOL_MEMORY)
        self.log_vol = float(log_vol[-1])
        own = np.exp(log_vol - VOL_OF_VOL**2) * np.sqrt(level)
        scale = np.hypot(self.nature.factor * level, self.nature.own * own)  # the candle's sd
        move = self.nature.factor * shock + self.nature.own * own * _unit_t(rng)
        sign, at, drift = self._patterns(rng)
        middling = (rng.random(BLOCK) < DECOY_RATE) & (sign == 0)
        move[at] = sign[at] * scale[at] * rng.uniform(1.4, 2.2, MAX_PATTERNS)[: len(at)]
        move[middling] *= 0.15
        if planted_signal:
            move += drift
        jump = (rng.random(BLOCK) < JUMP_RATE) & (sign == 0) & ~middling
        move += np.where(jump, rng.uniform(*JUMP, BLOCK) * np.where(rng.random(BLOCK) < 0.5, 1, -1), 0.0)
        log_price = _recursion(self.away, move, 1 - PULL)
        self.away = float(log_price[-1])
        close = np.maximum(np.rint(self.base * np.exp(log_price)), 100).astype(np.int64)
        open_ = np.concatenate(([self.close], close[:-1]))
        self.close = int(close[-1])

        reach = np.abs(rng.standard_normal((2, BLOCK))) * 0.45 * scale * open_  # wicks, up and down
        body = np.abs(close - open_)
        reach[:, at] = np.where(sign[at] > 0, [[0.04], [0.10]], [[0.10], [0.04]]) * body[at]
        reach[:, middling] += 0.8 * scale[middling] * open_[middling]
        high = np.maximum(open_, close) + np.rint(reach[0]).astype(np.int64)
        low = np.maximum(1, np.minimum(open_, close) - np.rint(reach[1]).astype(np.int64))

        lively = 0.8 + 0.2 * np.minimum(np.abs(move) / scale, 3.0)
        burst = rng.uniform(*BURST, BLOCK)
        crowd = np.where((sign != 0) | middling, burst, lively * np.exp(0.25 * rng.standard_normal(BLOCK)))
        volume = np.maximum(4, np.rint(self.typical * np.sqrt(level) * crowd)).astype(np.int64)
        return open_, high, low, close, volume, sign

    def _patterns(self, rng: np.random.Generator) -> tuple[Ints, Ints, Floats]:
        """Sign per candle, the places of the patterns, and the drift per candle that earlier and present patterns cause."""
        gaps = MIN_GAP + rng.geometric(1 / MEAN_EXTRA_GAP, MAX_PATTERNS)
        direction = np.where(rng.random(MAX_PATTERNS) < 0.5, 1, -1)
        right = rng.random(MAX_PATTERNS) < RIGHT
        total = np.where(right, rng.uniform(*DRIFT_RIGHT, MAX_PATTERNS), -rng.uniform(*DRIFT_WRONG, MAX_PATTERNS))
        fade = np.where(right, DRIFT_FADE, WRONG_FADE)[:, None]
        shape = rng.gamma(2.0, size=(MAX_PATTERNS, DRIFT_CANDLES)) * fade ** np.arange(DRIFT_CANDLES)
        places = self.until_pattern + np.concatenate(([0], np.cumsum(gaps)))
        at = places[places < BLOCK]
        self.until_pattern = int(places[len(at)]) - BLOCK

        sign = np.zeros(BLOCK, dtype=np.int64)
        drift = np.zeros(BLOCK + DRIFT_CANDLES)
        drift[:DRIFT_CANDLES] = self.tail
        for k, place in enumerate(at):
            sign[place] = direction[k]
            drift[place + 1 : place + 1 + DRIFT_CANDLES] += direction[k] * total[k] * shape[k] / shape[k].sum()
        self.tail = drift[BLOCK:].copy()
        return sign, at, drift[:BLOCK]


class SyntheticMarket:
    """The endless market behind the MarketSource protocol."""

    label: Label = "synthetic"
    mark_origin: MarkOrigin = "generated"
    history_is_generated = True

    def __init__(
        self, seed: int, symbols: Sequence[str] | None = None, *, history: int = 1100, planted_signal: bool = True
    ) -> None:
        self.seed = seed
        self.symbols = choose(symbols)
        self.past = history
        self.planted_signal = planted_signal
        self.start_t = START_T + history * CANDLE_MS

    def history(self) -> Iterator[Candle5m]:
        past = candles(self.seed, [s.name for s in self.symbols], self.past, planted_signal=self.planted_signal)
        for i in range(len(past)):
            yield from past.row(i)

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        after = self.start_t - 1 if resume_t is None else max(resume_t, self.start_t - 1)
        first = candle_start(after + 1)
        previous: list[int | None] = [None] * len(self.symbols)
        for block in blocks(self.seed, self.symbols, planted_signal=self.planted_signal):
            skip = (first - int(block.open_t[0])) // CANDLE_MS
            if skip > 0:
                previous = list(block.close[min(skip, BLOCK) - 1].tolist())
            for i in range(max(skip, 0), BLOCK):
                row = block.row(i)
                for event in expand_all(zip(row, self.symbols, previous, strict=True), seed=self.seed):
                    if event.t > after:
                        yield event
                previous = [candle.close for candle in row]


def _recursion(start: float, noise: Floats, keep: float) -> Floats:
    """y[i] = keep * y[i-1] + noise[i], in pieces short enough for keep**-i to stay small."""
    out = np.empty_like(noise)
    for i in range(0, len(noise), 128):
        piece = noise[i : i + 128]
        power = keep ** np.arange(1, len(piece) + 1)
        out[i : i + 128] = power * (start + np.cumsum(piece / power))
        start = float(out[min(i + 128, len(noise)) - 1])
    return out


def _vol_noise(rng: np.random.Generator) -> Floats:
    return rng.normal(0.0, VOL_OF_VOL * math.sqrt(1 - VOL_MEMORY**2), BLOCK)


def _unit_t(rng: np.random.Generator) -> Floats:
    """Student's t of unit variance, cut at six sd."""
    draws: Floats = np.clip(rng.standard_t(FREEDOM, BLOCK) * np.sqrt((FREEDOM - 2) / FREEDOM), -6.0, 6.0)
    return draws


def _scaled(values: Ints, ratios: Sequence[tuple[int, int]]) -> Floats:
    """values x ratio with one correctly rounded division: exact integers stay below 2**53."""
    top = np.array([r[0] for r in ratios], dtype=np.int64)
    bottom = np.array([r[1] for r in ratios], dtype=np.float64)
    scaled: Floats = (values * top).astype(np.float64) / bottom
    return scaled
