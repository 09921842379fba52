"""The real local exchange on a flat market of many made-up instruments, so that many cases stand side by side without touching.

python -m streams.bench.matrix.exchange PORT CONTROL_PORT DIRECTORY [SYMBOLS SPEED [EVERY_MS]]
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from infra.venue.binance.filters import instrument_of
from infra.venue.local.auth import Keys
from infra.venue.local.market.base import (
    CANDLE_MS,
    SYMBOLS,
    Candle5m,
    Label,
    Mark,
    MarketEvent,
    MarkOrigin,
    Quote,
    Symbol,
    Trade,
    next_funding,
)
from infra.venue.local.runtime import Exchange
from schemas.ids import partition_of

START_T = 1_767_225_600_000
PRICE = Decimal(100)
EVERY_MS = 3000
EACH = 66
"""Instruments in even partitions, and as many in odd ones: the two execution workers hold one kind each."""


def symbols() -> tuple[list[str], list[str]]:
    """(names in even partitions, names in odd ones)."""
    found: tuple[list[str], list[str]] = ([], [])
    n = 0
    while min(map(len, found)) < EACH:
        name = f"Q{n:03d}USDT"
        kind = found[partition_of(instrument_of(name)) % 2]
        if len(kind) < EACH:
            kind.append(name)
        n += 1
    return found


class FlatMarket:
    """Every instrument stands at PRICE; every `every_ms` a mark and a trade of each. `names`: other ones than the matrix needs."""

    label: Label = "ticks"
    mark_origin: MarkOrigin = "generated"
    history_is_generated = True
    start_t = START_T

    def __init__(self, names: Sequence[str] = (), every_ms: int = EVERY_MS, past: int = 1000) -> None:
        self._every_ms, self._past = every_ms, past
        even, odd = symbols()
        like = SYMBOLS["SOLUSDT"]
        self.symbols: tuple[Symbol, ...] = tuple(
            replace(like, name=name, base=name.removesuffix("USDT"), base_price=PRICE) for name in sorted(names or even + odd)
        )
        self._price = int(PRICE / like.tick)

    def history(self) -> Iterator[Candle5m]:
        for i in range(self._past, 0, -1):
            for symbol in self.symbols:
                p = self._price
                yield Candle5m(symbol.name, self.start_t - i * CANDLE_MS, p, p + 1, p - 1, p, 1_000)

    def events(self, resume_t: int | None = None) -> Iterator[MarketEvent]:
        t = self.start_t if resume_t is None else resume_t + 1  # by phase: quotes and trades, half a period later the marks
        while True:
            for symbol in self.symbols:
                yield Quote(symbol.name, t, self._price, 10_000_000, self._price + 1, 10_000_000)
                yield Trade(symbol.name, t, self._price, 5, True)
            for symbol in self.symbols:
                at = t + self._every_ms // 2
                yield Mark(symbol.name, at, PRICE, PRICE, Decimal("0.0001"), next_funding(at))
            t += self._every_ms


async def serve(
    port: int, control_port: int, directory: Path, names: Sequence[str] = (), speed: float = 1.0, every_ms: float = 0
) -> None:
    """At a speed the market moves once a second of the wall (or every `every_ms`), and has only as much of a past as it needs."""
    market = FlatMarket(names, int(every_ms or speed * 1000), past=60) if speed != 1 else FlatMarket(names)
    exchange = Exchange(
        market,
        speed=speed,
        keys=Keys("local-key", "local-secret"),
        balance=Decimal(1_000_000),
        directory=directory,
        identity={"market": "flat"},
        limits=False,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, exchange.stopping.set)
    await exchange.serve(port, control_port)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    some = sys.argv[4:]
    names = some[0].split(",") if some else []
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), names, *map(float, some[1:])))
