"""The universe as the client reads it from an exchange over real sockets: what is listed, and what becomes of a symbol."""

from __future__ import annotations

from pathlib import Path

from infra.settings import Settings
from infra.venue.binance.client import BinanceUsdm
from infra.venue.local.scripted import walk
from infra.venue.local.staged import staged
from schemas.market import OutsideReason
from schemas.policy import Policy, Universe
from streams.universe import Watch, instruments_of

P = 960_000
BTC, ETH = instruments_of(("BTCUSDT", "ETHUSDT"))


async def test_a_symbol_in_settlement_leaves_the_universe_alone(tmp_path: Path) -> None:
    script = [*walk("BTCUSDT", [P] * 3), *walk("ETHUSDT", [P] * 3)]
    policy = Policy(universe=Universe(min_volume_24h=0, min_depth=1))
    async with staged(script, tmp_path, ("BTCUSDT", "ETHUSDT")) as here, BinanceUsdm(Settings(venue_url=here.http)) as venue:
        await here.go_to(2)
        watch = Watch(venue, lambda: (1, policy))
        assert await watch.symbols(("BTCUSDT", "OLDUSDT", "ETHUSDT")) == ("BTCUSDT", "ETHUSDT")
        chosen = await watch.look((BTC, ETH))
        assert set(chosen.members) == {BTC, ETH}
        await here.order_control("POST", "symbol", {"symbol": "ETHUSDT", "status": "SETTLING"})
        chosen = await watch.look((BTC, ETH))
        assert chosen.members == (BTC,)
        assert chosen.outside[ETH].reason is OutsideReason.NOT_TRADING
        assert "SETTLING" in chosen.outside[ETH].detail
