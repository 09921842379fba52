"""What the gateway does with what a stream says."""

from __future__ import annotations

from collections import Counter

from infra.settings import load
from infra.venue.binance.client import BinanceUsdm
from infra.venue.port import MarkPrice, PublicTrade, TradeSeen
from processors.market import Cutter
from schemas.units import Source
from streams.market import LEAP_MS, Gateway
from streams.outlet import Outlet

T = 1_700_000_000_000
BTC = "binance.usdm.BTCUSDT"


async def test_a_message_from_the_far_future_moves_no_time_and_has_the_connection_rebuilt() -> None:
    """Each minute on the way is a tick in every partition: one wrong number would write millions, and time never comes back."""
    settings = load(symbols="BTCUSDT")
    async with BinanceUsdm(settings) as venue:
        outlet = Outlet("127.0.0.1:1", "market")
        gateway = Gateway(settings, venue, outlet, Counter())
        gateway._cutter = Cutter(Source.SYNTHETIC, {BTC: 7}, T, {}, frame_ms=20)
        gateway._repaired_to = {BTC: 7}
        await gateway._take([TradeSeen(BTC, T + 5, PublicTrade(7, T + 5, 1.0, 1.0, False))])
        assert (gateway.cutter.watermark, gateway.leaps) == (T + 5, 0)
        for bad in (
            MarkPrice(BTC, T * 1000, 1.0, 1.0, 0.0, 0),
            TradeSeen(BTC, T + LEAP_MS + 6, PublicTrade(8, T, 1.0, 1.0, False)),
        ):
            await gateway._take([bad, TradeSeen(BTC, T + 9, PublicTrade(8, T + 9, 1.0, 1.0, False))])
        assert (gateway.cutter.watermark, gateway.leaps) == (T + 5, 2)
        assert gateway.cutter.next_ids[BTC] == 8, "what came behind it comes again with the next connection"
        assert gateway.stream._doubt is not None
        assert outlet.behind < 20
