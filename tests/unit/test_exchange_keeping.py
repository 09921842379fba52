"""The exchange's memory: what it has told is what it knows after any end."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.venue.local.account import START_BALANCE
from infra.venue.local.commands import CancelOrder, PlaceAlgo, PlaceOrder, SetLeverage
from infra.venue.local.hub import Hub
from infra.venue.local.journal import Journal, restore
from infra.venue.local.keeping import Keeper
from infra.venue.local.scripted import START_T, ScriptedMarket, walk
from infra.venue.local.venue import Venue

IDENTITY = {"market": "scripted", "seed": 1}
PRICES = [960_000 + (i * 37) % 90 - 45 for i in range(400)]


RISING = [960_000 + i for i in range(250)] + [960_240 - i for i in range(150)]


def open_venue(directory: Path, prices: list[int] = PRICES) -> tuple[Venue, Keeper]:
    keeper = Keeper(directory, IDENTITY)
    venue = Venue(ScriptedMarket(walk("BTCUSDT", prices)), Journal(keeper.journal_path), Hub(), START_BALANCE, keeper)
    if keeper.kept is not None:
        restore(venue.engine, venue.journal.records)
        venue.catch_up(max(keeper.told_t, venue.engine.floor.now))
    return venue, keeper


def trade(venue: Venue) -> None:
    venue.execute(SetLeverage("BTCUSDT", 7))
    venue.execute(PlaceOrder("BTCUSDT", "BUY", "MARKET", D("0.020"), client_id="e-1"))
    venue.execute(PlaceAlgo("BTCUSDT", "SELL", "STOP_MARKET", D("95000.0"), "MARK_PRICE", close_position=True, client_id="s-1"))
    venue.execute(PlaceOrder("BTCUSDT", "SELL", "LIMIT", D("0.005"), D("97000.0"), reduce_only=True, client_id="t-1"))
    venue.execute(PlaceOrder("BTCUSDT", "SELL", "LIMIT", D("0.005"), D("97100.0"), reduce_only=True, client_id="t-2"))
    venue.execute(CancelOrder("BTCUSDT", client_id="t-2"))
    venue.execute(PlaceOrder("BTCUSDT", "SELL", "MARKET", D("0.003"), reduce_only=True, client_id="x-1"))


def tape(venue: Venue) -> list[tuple[int, int, int, int, bool]]:
    """Every trade since the market began: whoever was away may ask for it."""
    tape = venue.tapes["BTCUSDT"]
    assert tape.first_id == 1
    return list(tape.rows(range(len(tape))))


def account(venue: Venue) -> tuple[object, ...]:
    floor = venue.engine.floor
    orders = {number: order.frozen() for number, order in floor.orders.items()}
    algos = {number: algo.frozen() for number, algo in floor.algos.items()}
    resting = [o.id for o in floor.open_orders()]
    live = [a.id for a in floor.live_algos()]
    return floor.account, orders, algos, resting, live, floor.fills, floor.order_id, floor.algo_id


def test_a_restart_knows_the_account_the_books_and_the_candles(tmp_path: Path) -> None:
    venue, keeper = open_venue(tmp_path)
    venue.step(START_T + 150_000)
    trade(venue)
    venue.step(START_T + 200_000)
    venue.keep()
    known = account(venue), [c.row() for c in venue.candles["BTCUSDT"].range("1m", None, None, 100)], tape(venue)
    keeper.close()
    venue.journal.close()

    again, keeper = open_venue(tmp_path)
    assert (
        account(again),
        [c.row() for c in again.candles["BTCUSDT"].range("1m", None, None, 100)],
        tape(again),
    ) == known
    assert again.market_t == START_T + 200_000
    keeper.close()


def test_a_kill_loses_nothing_that_was_told(tmp_path: Path) -> None:
    venue, keeper = open_venue(tmp_path)
    venue.keep()  # the last whole saving: at the very start
    venue.step(START_T + 150_000)
    trade(venue)
    venue.step(START_T + 250_500)
    keeper.tell_time(venue.market_t)
    known = account(venue), tape(venue), [c.row() for c in venue.candles["BTCUSDT"].range("5m", None, None, 3)]
    keeper.close()  # what a kill does to the lock; nothing is saved

    again, keeper = open_venue(tmp_path)
    assert (account(again), tape(again)) == known[:2]
    assert [c.row() for c in again.candles["BTCUSDT"].range("5m", None, None, 3)] == known[2]
    assert again.market_t == START_T + 250_500
    again.step(START_T + 399_000)
    venue.keeper = None
    venue.step(START_T + 399_000)
    assert [c.row() for c in again.candles["BTCUSDT"].range("1m", None, None, 8)] == [
        c.row() for c in venue.candles["BTCUSDT"].range("1m", None, None, 8)
    ]
    keeper.close()


def test_a_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"seq": 1, "wall": 1.0, "t": 1, "k": "market", "what": "start"}\n{"seq": 2, "wa', encoding="utf-8")
    journal = Journal(path)
    assert [r["seq"] for r in journal.records] == [1]
    journal.write("market", 2, 2.0, {"what": "stop"})
    journal.close()
    assert [r["seq"] for r in Journal(path).records] == [1, 2]


def test_another_market_and_another_exchange_are_refused(tmp_path: Path) -> None:
    venue, keeper = open_venue(tmp_path)
    venue.keep()
    with pytest.raises(UserError, match="another exchange is using it"):
        Keeper(tmp_path, IDENTITY)
    keeper.close()
    with pytest.raises(UserError, match="seed is 1 there and 2 here"):
        Keeper(tmp_path, {**IDENTITY, "seed": 2})
    fresh = Keeper(tmp_path, {**IDENTITY, "seed": 2}, fresh=True)
    assert fresh.kept is None
    fresh.close()


def test_a_killed_exchange_knows_how_far_a_trailing_stop_went_and_who_stood_before_an_order(tmp_path: Path) -> None:
    def trail(venue: Venue, client_id: str, **more: D) -> None:
        ask = PlaceAlgo(
            "BTCUSDT", "SELL", "TRAILING_STOP_MARKET", D(0), "MARK_PRICE", D("0.010"), reduce_only=True, client_id=client_id
        )
        venue.execute(replace(ask, callback=D(1), **more))

    venue, keeper = open_venue(tmp_path, RISING)
    venue.step(START_T + 100_000)
    venue.execute(PlaceOrder("BTCUSDT", "BUY", "MARKET", D("0.020"), client_id="e-1"))
    trail(venue, "old")
    trail(venue, "later", activate=D("96020.0"))
    below = venue.engine.floor.books["BTCUSDT"].bid * D("0.1")
    venue.execute(PlaceOrder("BTCUSDT", "BUY", "LIMIT", D("0.010"), below, client_id="b-1"))
    venue.step(START_T + 150_000)
    venue.keep()
    trail(venue, "new")
    venue.step(START_T + 300_000)
    keeper.tell_time(venue.market_t)  # told, but not put down: the end comes at once
    floor = venue.engine.floor
    known = {a.client_id: (a.extreme, a.trigger, a.is_active) for a in floor.live_algos()}
    assert {name: active for name, (_, _, active) in known.items()} == {"old": True, "later": True, "new": True}
    ahead = [o.queue_ahead for o in floor.open_orders()]
    keeper.close()
    venue.journal.close()

    again, keeper = open_venue(tmp_path, RISING)
    assert {a.client_id: (a.extreme, a.trigger, a.is_active) for a in again.engine.floor.live_algos()} == known
    assert [o.queue_ahead for o in again.engine.floor.open_orders()] == ahead != [0]
    keeper.close()
