"""`quantum venue check`: the acceptance list (streams/acceptance.py) on a local exchange of its own, or on the testnet."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Any

from infra.errors import UserError
from infra.ports import free_ports
from infra.settings import Settings, load
from infra.venue.binance.filters import MARKET, SPOT, instrument_of
from infra.venue.port import VenueError
from streams import acceptance, acceptance_spot
from streams.launcher import Process, python

TESTNET = {
    "venue_url": "https://demo-fapi.binance.com",
    "venue_stream_url": "wss://fstream.binancefuture.com",
    "spot_rest_url": "https://testnet.binance.vision",
    "spot_socket_url": "wss://ws-api.testnet.binance.vision",
}
LOCAL_KEY = "local-key"
LISTS = {MARKET: acceptance.check, SPOT: acceptance_spot.check}


def run(settings: Settings, target: str, symbol: str = "BTCUSDT", market: str = MARKET) -> dict[str, Any]:
    """{"target", "market", "ok", "passed", "of", "items"}. Raises UserError: an unknown target or market, no keys, no answer."""
    if market not in LISTS:
        raise UserError(f"no market {market!r}", "there is none of that name", f"one of: {', '.join(LISTS)}")
    match target:
        case "local":
            items = _on_local(symbol, market)
        case "testnet":
            if settings.api_key.get_secret_value() == LOCAL_KEY:
                raise UserError(
                    "the testnet cannot be checked",
                    "there is no key for it",
                    "make one on the testnet's site and set QT_API_KEY and QT_API_SECRET",
                )
            items = _try(settings.model_copy(update=TESTNET), symbol, market)
        case _:
            raise UserError(f"no target {target!r}", "there is none of that name", "one of: local, testnet")
    passed = sum(item["ok"] for item in items)
    return {"target": target, "market": market, "ok": passed == len(items), "passed": passed, "of": len(items), "items": items}


def _on_local(symbol: str, market: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="quantum-venue-") as directory:
        port, control_port = free_ports(2)
        settings = load(exchange_port=port, exchange_control_port=control_port, venue_url="", venue_stream_url="")
        exchange = local_exchange(settings, symbol, Path(directory))
        exchange.start()
        try:
            exchange.wait_ready()
            return _try(settings, symbol, market)
        finally:
            exchange.stop()


def local_exchange(settings: Settings, symbol: str, directory: Path) -> Process:
    """One of one symbol, at the pace of the clock."""
    ports = ("--port", str(settings.exchange_port), "--control-port", str(settings.exchange_control_port))
    argv = [*python("infra.venue.local"), *ports, "--data-dir", str(directory), "--speed", "1", "--symbols", symbol]
    env = os.environ | {
        "QT_LOCAL_API_KEY": settings.api_key.get_secret_value(),
        "QT_LOCAL_API_SECRET": settings.api_secret.get_secret_value(),
    }
    return Process("exchange", argv, env, directory / "exchange.jsonl", f"{settings.exchange_url}/fapi/v1/time")


def _try(settings: Settings, symbol: str, market: str) -> list[dict[str, Any]]:
    try:
        return asyncio.run(LISTS[market](settings, instrument_of(symbol, market)))
    except VenueError as e:
        raise UserError(f"{settings.exchange_url} cannot be checked", str(e), "look whether it can be reached from here") from e
