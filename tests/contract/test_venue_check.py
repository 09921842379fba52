"""The acceptance list on the local exchange: passes whole, notices what is broken, and the docs page is the list."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.ports import free_ports
from infra.settings import Settings, load
from infra.venue import by_hand
from infra.venue.binance.client import BinanceUsdm
from infra.venue.binance.filters import instrument_of
from streams import acceptance_spot, doctor
from streams.acceptance import check, page
from streams.venue_check import local_exchange, run

BTC = instrument_of("BTCUSDT")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    port, control_port = free_ports(2)
    found = load(exchange_port=port, exchange_control_port=control_port)
    exchange = local_exchange(found, "BTCUSDT", tmp_path)
    exchange.start()
    try:
        exchange.wait_ready()
        yield found
    finally:
        exchange.stop()


def test_every_item_passes_on_the_local_exchange_and_nothing_of_ours_stays(settings: Settings) -> None:
    items = asyncio.run(check(settings, BTC))
    assert [item for item in items if not item["ok"]] == []
    assert doctor.key(settings).startswith("accepted")

    async def left() -> list[object]:
        async with BinanceUsdm(settings) as venue:
            return [*await venue.positions(), *await venue.open_orders(), *await venue.open_algo_orders()]

    assert asyncio.run(left()) == []


def test_every_item_of_spot_passes_too(settings: Settings) -> None:
    items = asyncio.run(acceptance_spot.check(settings, instrument_of("BTCUSDT", "spot")))
    assert [item for item in items if not item["ok"]] == []


def test_an_item_that_fails_is_named_and_the_others_are_tried(settings: Settings) -> None:
    by_hand.tell(settings.exchange_control_url, "faults", route="DELETE order", kind="refuse-2011", count=1000)
    items = {item["number"]: item for item in asyncio.run(check(settings, BTC))}
    assert not items[9]["ok"]
    assert "-2011" in items[9]["detail"]
    assert items[13]["ok"]


def test_the_testnet_needs_a_key_of_its_own() -> None:
    with pytest.raises(UserError, match="no key"):
        run(load(), "testnet")


def test_the_docs_page_is_the_list() -> None:
    made = (CHECKOUT / "docs" / "venue-acceptance.md").read_text()
    assert made == page(acceptance_spot.ITEMS), "run: quantum venue list --markdown > docs/venue-acceptance.md"
