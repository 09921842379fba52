"""Average true range of closed candles, by Wilder: begun as the mean of the first fourteen, then each new one weighs a
fourteenth."""

from __future__ import annotations

from typing import Final

import msgspec

BARS: Final = 14


class Atr(msgspec.Struct, frozen=True, array_like=True):
    """`value` in price, over `bars` true ranges; `close`: of the last candle, 0 before the first."""

    value: float = 0.0
    close: float = 0.0
    bars: int = 0

    def after(self, high: float, low: float, close: float) -> Atr:
        """One more closed candle. The first one has no close before it: its range is high less low."""
        true_range = high - low
        if self.close > 0.0:
            true_range = max(true_range, abs(high - self.close), abs(low - self.close))
        bars = min(self.bars + 1, BARS)
        return Atr(self.value + (true_range - self.value) / bars, close, bars)

    def share_of(self, price: float) -> float | None:
        """A share of the price; None until fourteen candles are known, and of a market that does not move at all."""
        return self.value / price if self.bars >= BARS and self.value > 0.0 else None
