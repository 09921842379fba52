"""The feature kernel: one way to compute the features, for training, for live candles and for the forming one.

A state holds a tape of the last candles and one float per recursion. Finite windows are recomputed from the tape each time,
oldest value first, and never kept as running sums: nothing drifts, and a state restored from bytes goes on bit for bit.
The tape runs in time, with the symbols beside each other: a sum over a window adds whole rows of symbols, so one symbol and a
hundred add in the same order. Logarithms are taken one by one, because vector units may round them otherwise.

    state = FeatureState()                      one symbol          state = FeatureState(symbols=8)
    row = state.step(o, h, l, c, v)             float32 [49]        rows = state.step(o, h, l, c, v)     float32 [8, 49]
    row = state.peek(o, h, l, c, v)             the same, and the state is as before
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from processors.features.catalogue import NAMES, READY_BARS

Floats = NDArray[np.float64]

VERSION: Final = 2
"""Of a state's bytes, and of the bits of the features: whoever changes either counts it up."""
KEPT: Final = 128
"""Candles that a state remembers: more than the longest window (100) and the close before it."""

_TAPE = 2 * KEPT  # written forwards; when full, the last KEPT move to the front
_H, _NL, _TR, _R, _C, _V, _SV, _VR = range(8)  # neighbours share windows; NL is -l, so that both extremes are maxima
_BASE = [_H, _NL, _C, _V]
_HEAD = struct.Struct("<HHQ")  # version, symbols (0: one, as plain numbers), bars

# the recursions: first exponential means of the close, then Wilder's of what happens between two candles
_EMA = (9, 12, 21, 26, 50)
_WILDER = (7, 14, 21, 7, 14, 21, 14, 14, 14)  # rises, falls, TR, +DM, -DM
_E9, _E12, _E21, _E26, _E50, _U, _D, _ATR, _PDM, _MDM = 0, 1, 2, 3, 4, slice(5, 8), slice(8, 11), 11, 12, 13
_STACK, _SIGNAL, _ADX, _K1, _K2, _RECURSIONS = 14, 14, 15, 16, 17, 18  # K1, K2: the stochastic one and two candles ago
_PERIOD = np.array([*_EMA, *_WILDER, 9, 14], dtype=np.float64)[:, None]  # the last two: MACD's signal, ADX
_GAIN = np.array([*(2 / (n + 1) for n in _EMA), *(1 / n for n in _WILDER), 2 / 10, 1 / 14])[:, None]
_SETTLED = 64  # candles from which on every gain is its last
_WEIGHTS = np.arange(1.0, 21.0)[:, None]

_FLAT = 1e-12  # a deviation below this part of the price is rounding
_STILL = 1e-9  # a mean range below this part of the price is the memory of a market that stands still
_SQRT_12 = math.sqrt(12.0)
_PRICES = (
    "open_rel high_rel low_rel close_rel ret_3 ret_6 ret_12 roc_10 bb_upper bb_mid bb_lower "
    "sma10_rel sma50_rel ema9_rel ema21_rel ema50_rel wma20_rel"
).split()
_LESS_ONE = np.array([float(name in _PRICES) for name in NAMES])[:, None]
"""A quotient of two prices counts from 1, so that 0 means equal."""
_EMPTY = {"volume_ratio": 1.0, "volume_ma_ratio": 1.0, "atr_ratio": 1.0, "close_pos": 0.5, "bb_pctb": 0.5}
_OTHERWISE = np.array([_EMPTY.get(name, 0.0) for name in NAMES])[:, None]
"""What a feature is when its divisor is zero."""


class UnknownStateVersion(Exception):
    """These bytes were written by another version of the kernel: replay the history instead of guessing."""


class FeatureState:
    """Features of one symbol (numbers in, [49] out), or with `symbols` of several in step ([symbols] in, [symbols, 49] out)."""

    __slots__ = ("_buffer", "_end", "_one", "_recursions", "_tape", "bars", "symbols")

    def __init__(self, symbols: int | None = None) -> None:
        self.symbols = symbols
        self.bars = 0
        width = max(symbols or 1, 2)  # a lone symbol stands twice: a single column would be summed in another order
        self._tape = np.zeros((8, _TAPE, width))
        self._recursions = np.zeros((_RECURSIONS, width))
        self._buffer, self._one = np.empty((2, width)), np.ones(width)
        self._end = 0

    @property
    def ready(self) -> bool:
        """True when the recursions have forgotten their beginning: before, values are finite but not to be trusted."""
        return self.bars >= READY_BARS

    def step(self, o: ArrayLike, h: ArrayLike, l: ArrayLike, c: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:  # noqa: E741
        """Take a closed candle; prices are positive, volume is not negative."""
        features, recursions = self._advance(o, h, l, c, v)
        self._recursions = recursions
        self._end += 1
        self.bars += 1
        return self._shaped(features).astype(np.float32, order="C")

    def peek(self, o: ArrayLike, h: ArrayLike, l: ArrayLike, c: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:  # noqa: E741
        """What `step` would return, without taking the candle."""
        return self._shaped(self._advance(o, h, l, c, v)[0]).astype(np.float32, order="C")

    def exact(self, o: ArrayLike, h: ArrayLike, l: ArrayLike, c: ArrayLike, v: ArrayLike) -> Floats:  # noqa: E741
        """`peek` before it is rounded to float32: what formulas are compared with. No model sees it."""
        return self._shaped(self._advance(o, h, l, c, v)[0])

    def replay(self, o: ArrayLike, h: ArrayLike, l: ArrayLike, c: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:  # noqa: E741
        """Step through arrays [n] (or [n, symbols]); returns [n, 49] (or [n, symbols, 49])."""
        candles = np.stack([np.asarray(column, dtype=np.float64) for column in (o, h, l, c, v)], axis=1)
        shape = (len(candles), len(NAMES)) if self.symbols is None else (len(candles), self.symbols, len(NAMES))
        rows = np.empty(shape, dtype=np.float32)
        for position, candle in enumerate(candles):
            rows[position] = self.step(*candle)
        return rows

    def to_bytes(self) -> bytes:
        """Version first, then bars, the last candles (h -l c v) and the recursions, little endian: about 4 kB a symbol."""
        count = self.symbols or 1
        kept = self._tape[_BASE, max(self._end - KEPT, 0) : self._end, :count].astype("<f8").tobytes()
        return _HEAD.pack(VERSION, self.symbols or 0, self.bars) + kept + self._recursions[:, :count].astype("<f8").tobytes()

    @classmethod
    def from_bytes(cls, raw: bytes) -> FeatureState:
        """Raises UnknownStateVersion; goes on exactly where `to_bytes` stopped."""
        version = int.from_bytes(raw[:2], "little")
        if version != VERSION:
            raise UnknownStateVersion(
                f"feature state of version {version}, this kernel reads {VERSION}: warm up from candles again"
            )
        _, symbols, bars = _HEAD.unpack_from(raw)
        state = cls(symbols or None)
        count, kept = symbols or 1, min(bars, KEPT)
        numbers = np.frombuffer(raw, dtype="<f8", offset=_HEAD.size).astype(np.float64)
        state._tape[_BASE, :kept] = numbers[: 4 * count * kept].reshape(4, kept, count)
        state._recursions[:] = numbers[4 * count * kept :].reshape(_RECURSIONS, count)
        state.bars = bars
        state._end = kept
        if kept:
            closes = state._tape[_C, :kept]
            _derive(state._tape[:, :kept], np.concatenate((closes[:1], closes[:-1])))  # only windows of 100 are ever summed
        return state

    def _shaped(self, rows: Floats) -> Floats:
        """[49, width] -> [49] or [symbols, 49]."""
        return rows[:, 0] if self.symbols is None else rows[:, : self.symbols].T

    def _advance(self, o_: ArrayLike, h_: ArrayLike, l_: ArrayLike, c_: ArrayLike, v_: ArrayLike) -> tuple[Floats, Floats]:
        """Features [49, width] and recursions with this candle. Writes only behind the end of the tape, which is nobody's yet."""
        if self._end == _TAPE:
            self._tape[:, :KEPT] = self._tape[:, KEPT:]
            self._end = KEPT
        tape, end = self._tape, self._end
        last = tape[:, end]
        o, l = self._buffer  # noqa: E741
        o[:], l[:], last[_H], last[_C], last[_V] = o_, l_, h_, c_, v_
        np.negative(l, out=last[_NL])
        previous = tape[:, end - 1] if end else last  # the very first candle is its own predecessor
        c0 = previous[_C]
        _derive(last, c0)
        h, _, _, r, c, v = last[:6]
        one = self._one
        newest = end + 1
        n20, n50 = min(newest, 20), min(newest, 50)
        last20, last50 = slice(newest - n20, newest), slice(newest - n50, newest)

        high14, nlow14 = np.maximum.reduce(tape[: _NL + 1, max(newest - 14, 0) : newest], axis=1)
        high50, nlow50 = np.maximum.reduce(tape[: _NL + 1, last50], axis=1)
        k = _ratio(c + nlow14, high14 + nlow14, 0.5)
        state = self._recur(last, previous, k)
        e9, e50, atr = state[_E9], state[_E50], state[_ATR]
        rise, fall = state[_U], state[_D]
        gain, total = rise - fall, rise + fall
        moving = atr * (atr >= _STILL * c)
        macd, spread = state[_E12] - state[_E26], e9 - e50

        mean20, mean50 = _sums(tape[_R : _VR + 1, last20]) / n20, _sums(tape[_TR : _C + 1, last50]) / n50
        _, sma20, v20, sv20, vr20 = mean20
        tr50, _, sma50 = mean50
        hv20, sd20 = _deviation(tape[_R : _C + 1, last20], mean20[:2])
        hv50 = _deviation(tape[_R, last50], mean50[1])
        sma10, v100 = (_sums(tape[f, max(newest - n, 0) : newest]) / min(newest, n) for f, n in ((_C, 10), (_V, 100)))
        wma20 = _sums(tape[_C, last20] * _WEIGHTS[:n20]) / (n20 * (n20 + 1) // 2)
        band, span = 2.0 * sd20, h - l
        width, lower = 2.0 * band, sma20 - band
        c10, c12 = tape[_C, max(end - 10, 0)], tape[_C, max(end - 12, 0)]

        # above, below; quotients of prices lose their 1 afterwards
        f: dict[str, tuple[Floats, Floats]] = {
            "open_rel": (o, c0),
            "high_rel": (h, c0),
            "low_rel": (l, c0),
            "close_rel": (c, c0),
            "volume_log_rel": (_log(_ratio(v + 0.01 * v100, 1.01 * v100, 1.0)), one),
            "log_ret_1": (r, one),
            "ret_3": (c, tape[_C, max(end - 3, 0)]),
            "ret_6": (c, tape[_C, max(end - 6, 0)]),
            "ret_12": (c, c12),
            "range_rel": (span, c),
            "body_rel": (c - o, span),
            "close_pos": (c - l, span),
            "rsi_7": (gain[0], total[0]),
            "rsi_14": (gain[1], total[1]),
            "rsi_21": (gain[2], total[2]),
            "macd": (macd, c),
            "macd_signal": (state[_SIGNAL], c),
            "macd_hist": (macd - state[_SIGNAL], c),
            "bb_upper": (sma20 + band, c),
            "bb_mid": (sma20, c),
            "bb_lower": (lower, c),
            "bb_pctb": (c - lower, width * (sd20 >= _FLAT * c)),
            "bb_width": (width, sma20),
            "stoch_k": (k, one),
            "stoch_d": ((self._recursions[_K2] + self._recursions[_K1] + k) / min(newest, 3), one),
            "natr_14": (atr, c),
            "atr_ratio": (atr, tr50),
            "adx_14": (state[_ADX], one),
            "plus_di_14": (state[_PDM], moving),
            "minus_di_14": (state[_MDM], moving),
            "sma10_rel": (c, sma10),
            "sma50_rel": (c, sma50),
            "ema9_rel": (c, e9),
            "ema21_rel": (c, state[_E21]),
            "ema50_rel": (c, e50),
            "wma20_rel": (c, wma20),
            "volume_ratio": (v, v20),
            "volume_ma_ratio": (v20, v100),
            "obv_20": (sv20, v20),
            "vpt_20": (vr20, v20),
            "hv_20": (hv20, one),
            "hv_50": (hv50, one),
            "trend_strength": (np.abs(spread), moving),
            "trend_direction": (np.sign(spread), one),
            "support_dist": (c + nlow50, c),
            "resistance_dist": (high50 - c, c),
            "roc_10": (c, c10),
            "mom_10_atr": (c - c10, moving),
            "rel_momentum": (c / c12 - 1.0, hv50 * _SQRT_12 * (hv50 >= _FLAT)),
        }
        pairs = [f[name] for name in NAMES]
        above, below = (np.concatenate(parts).reshape(len(NAMES), -1) for parts in zip(*pairs, strict=True))
        return _ratio(above, below, _OTHERWISE) - _LESS_ONE, state

    def _recur(self, last: Floats, previous: Floats, k: Floats) -> Floats:
        """The recursions one candle on: mean += (value - mean) * gain, with gain 1/k for the first values (their plain mean)."""
        values = np.empty((_K1, last.shape[1]))
        change = last[_C] - previous[_C]
        moves = last[: _NL + 1] - previous[: _NL + 1]  # how far the high rose and the low fell
        up = np.maximum(change, 0.0)
        values[:5], values[_U], values[_D], values[_ATR] = last[_C], up, up - change, last[_TR]
        np.multiply(np.maximum(moves, 0.0), moves > moves[::-1], out=values[_PDM : _MDM + 1])
        old, new = self._recursions, np.empty_like(self._recursions)
        changes = max(self.bars, 1)  # the first candle has no change: its zeros are overwritten by the first one
        gain = _GAIN
        if self.bars < _SETTLED:
            seen = np.full_like(_PERIOD, changes)
            seen[[*range(5), _SIGNAL]] = self.bars + 1
            gain = np.where(seen <= _PERIOD, 1.0 / seen, _GAIN)
        _towards(values[:_STACK], old[:_STACK], gain[:_STACK], new[:_STACK])
        np.subtract(new[_E12], new[_E26], out=values[_SIGNAL])
        plus, minus = new[_PDM], new[_MDM]
        values[_ADX] = _ratio(np.abs(plus - minus), plus + minus, 0.0)
        _towards(values[_STACK:], old[_STACK:_K1], gain[_STACK:], new[_STACK:_K1])
        new[_K1], new[_K2] = k, old[_K1]
        return new


def replay(o: ArrayLike, h: ArrayLike, l: ArrayLike, c: ArrayLike, v: ArrayLike) -> NDArray[np.float32]:  # noqa: E741
    """Features of a whole history, arrays [n] or [n, symbols]: `step` in a loop, there is no second implementation."""
    shape = np.shape(np.asarray(c))
    return FeatureState(shape[1] if len(shape) == 2 else None).replay(o, h, l, c, v)


def step_many(states: Sequence[FeatureState], candles: ArrayLike) -> tuple[NDArray[np.float32], list[FeatureState]]:
    """A candle each for symbols that have a state of their own, in one pass: features [n, 49], and the states after it.

    `candles` [5, n]: open, high, low, close, volume. The given states, of one symbol and of KEPT candles or more, stay as they are.
    """
    many = FeatureState(len(states))
    many._end = many.bars = KEPT
    for place, state in enumerate(states):
        many._tape[:, :KEPT, place] = state._tape[:, state._end - KEPT : state._end, 0]
        many._recursions[:, place] = state._recursions[:, 0]
    rows = many.step(*np.asarray(candles, dtype=np.float64))
    after = []
    for place, state in enumerate(states):
        one = FeatureState()
        one._tape[:, :KEPT] = many._tape[:, 1 : KEPT + 1, place, None]
        one._recursions[:] = many._recursions[:, place, None]
        one._end, one.bars = KEPT, state.bars + 1
        after.append(one)
    return rows, after


def _derive(candles: Floats, c0: Floats) -> None:
    """Fills the columns of the tape that follow from its candles [8, ...] and the closes before."""
    h, nl, c, v, r = candles[_H], candles[_NL], candles[_C], candles[_V], candles[_R]
    r[...] = _log(c / c0)
    np.add(np.maximum(h, c0), np.maximum(nl, -c0), out=candles[_TR])
    np.multiply(np.sign(c - c0), v, out=candles[_SV])
    np.multiply(v, r, out=candles[_VR])


def _towards(value: Floats, old: Floats, gain: Floats, new: Floats) -> None:
    np.subtract(value, old, out=new)
    new *= gain
    new += old


def _sums(window: Floats) -> Floats:
    """Over time, the axis before the last."""
    return np.asarray(np.add.reduce(window, axis=-2))


def _deviation(window: Floats, mean: Floats) -> Floats:
    """Population standard deviation of a window [..., time, width] around its mean [..., width]."""
    apart = window - mean[..., None, :]
    return np.asarray(np.sqrt(np.add.reduce(apart * apart, axis=-2) / apart.shape[-2]))


def _ratio(above: Floats, below: Floats, otherwise: float | Floats) -> Floats:
    """above / below, `otherwise` where below is zero (it is never negative)."""
    if below.all():
        return above / below
    found = np.empty_like(above)
    found[:] = otherwise
    return np.divide(above, below, out=found, where=below > 0.0)


def _log(values: Floats) -> Floats:
    return np.fromiter(map(math.log, values.ravel().tolist()), np.float64, values.size).reshape(values.shape)
