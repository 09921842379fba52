"""Market sources: what drives the local exchange, chosen by one word of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from infra.errors import UserError
from infra.venue.local.market.base import MarketSource
from infra.venue.local.market.candles import CandleMarket
from infra.venue.local.market.synthetic import SyntheticMarket
from infra.venue.local.market.ticks import TickMarket, find


def open_source(spec: str, *, seed: int, symbols: Sequence[str] | None = None, history: int = 1100) -> MarketSource:
    """`synthetic`, `ticks:PATH` (a directory or comma-separated captures) or `candles:PATH` (Parquet or CSV).

    `history` is the number of past candles a symbol. Raises UserError for a spec or a file that cannot be used.
    """
    if seed < 0:
        raise UserError("the market cannot start", f"seed {seed} is negative", "give a seed of 0 or more")
    kind, _, path = spec.partition(":")
    if kind == "synthetic" and not path:
        return SyntheticMarket(seed, symbols, history=history)
    if kind == "candles" and path:
        return CandleMarket(Path(path).expanduser(), seed=seed, symbols=symbols, history=history)
    if kind == "ticks" and path:
        return TickMarket(find(path), seed=seed, symbols=symbols, history=history)
    raise UserError(
        f"the market '{spec}' is not known",
        "a market is synthetic, ticks:PATH or candles:PATH",
        "choose one of these, for example --market synthetic",
    )
