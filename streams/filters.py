"""Trading filters for the stages that size and place: read from the exchange when a worker starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from infra import logs
from infra.errors import UserError
from infra.settings import Settings
from infra.venue import port
from infra.venue.binance.client import BinanceUsdm
from processors.filters import Filters

log = logs.get(__name__)
PATIENCE_S = 30.0
PAUSE_S = 1.0


def read_filters(settings: Settings, *, open_only: bool = False) -> dict[str, Filters]:
    """Filters by instrument; `open_only`: of those that may be entered. Waits for an exchange that is just starting.

    Blocking: for use before the worker's event loop runs. Raises UserError when the exchange does not answer.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            found = asyncio.run(_read(settings))
            break
        except port.VenueError as e:
            if time.monotonic() > until:
                raise UserError(
                    f"{settings.exchange_url} does not tell its filters",
                    f"no answer for {PATIENCE_S:.0f} s: {e}",
                    "look whether the exchange is up (`quantum doctor`)",
                ) from e
            log.warning("waiting for the exchange's filters", error=str(e))
            time.sleep(PAUSE_S)
    return {name: _ours(each) for name, each in sorted(found.items()) if each.trading or not open_only}


async def _read(settings: Settings) -> Mapping[str, port.Filters]:
    async with BinanceUsdm(settings) as venue:
        return await venue.filters()


def _ours(each: port.Filters) -> Filters:
    most = min(each.max_quantity, each.market_max_quantity)
    return Filters(each.tick, each.step, each.min_quantity, most, each.min_notional)
