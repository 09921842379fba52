"""Histories of the last net: what the exchange shows, and what the guardian then does."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from processors.filters import Filters
from processors.guardian import CONFIRM_MS, NO_PLANS, ORPHAN_MS, CancelOrphan, Close, Finding, PlaceStop, Seen, inspect
from processors.protection import Held, Planned, Resting, bare
from schemas.ids import Purpose, client_id, purpose_of
from schemas.policy import Policy
from schemas.units import OrderSide, Side

BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
D = Decimal
POLICY = Policy()
GRACE_MS = POLICY.exits.grace_s * 1000
FILTERS = dict.fromkeys((BTC, ETH), Filters(D("0.10"), D("0.001"), D("0.001"), D(120), D(100)))


def long(mark: str = "100000", **changes: object) -> Held:
    values = {"quantity": D("0.5"), "entry": D(100_000), "liquidation": D(0), "at": 7} | changes
    return Held(BTC, Side.LONG, mark=D(mark), **values)  # type: ignore[arg-type]


def short(mark: str = "100000") -> Held:
    return Held(BTC, Side.SHORT, D("0.5"), D(100_000), D(mark), D(0), 7)


def stop(price: str, quantity: str | None = None, side: OrderSide = OrderSide.SELL, name: str = BTC) -> Resting:
    ours = client_id(Purpose.STOP, name, price)
    return Resting(name, ours, True, "STOP_MARKET", side, D(price), D(quantity or 0), quantity is None)


def profit(price: str, quantity: str = "0.5", name: str = BTC) -> Resting:
    ours = client_id(Purpose.TAKE_PROFIT, name, price)
    return Resting(name, ours, False, "LIMIT", OrderSide.SELL, D(price), D(quantity), False)


def foreign(price: str, kind: str = "STOP_MARKET", quantity: str | None = None) -> Resting:
    return Resting(BTC, "web_abc", True, kind, OrderSide.SELL, D(price), D(quantity or 0), quantity is None)


def look(
    now_ms: float,
    held: list[Held],
    orders: list[Resting],
    seen: Seen | None = None,
    scope: tuple[str, ...] = (BTC, ETH),
    plans: Mapping[str, Planned] = NO_PLANS,
) -> Finding:
    return inspect(scope, held, orders, now_ms, seen or Seen(), POLICY, FILTERS, plans)


def test_a_position_without_a_stop_gets_one_when_the_grace_is_over() -> None:
    first = look(0, [long()], [])
    assert first.actions == ()
    assert first.again_ms == GRACE_MS
    [action] = look(GRACE_MS, [long()], [], first.seen).actions
    assert isinstance(action, PlaceStop)
    assert action.level == D("98000.0")
    assert purpose_of(action.client_id) is Purpose.GUARDIAN
    assert action.since_ms == 0


def test_a_short_is_stopped_above() -> None:
    [action] = look(GRACE_MS, [short()], [], look(0, [short()], []).seen).actions
    assert isinstance(action, PlaceStop)
    assert action.level == D("102000.0")


def test_a_covered_position_is_left_alone() -> None:
    seen = look(0, [long()], [stop("97500")]).seen
    assert look(60_000, [long()], [stop("97500")], seen).actions == ()


def test_a_stop_that_vanishes_from_an_old_position_is_back_soon() -> None:
    seen = look(0, [long()], [stop("97500")]).seen
    gone = look(60_000, [long()], [], seen)
    assert gone.actions == ()
    assert gone.again_ms == 60_000 + CONFIRM_MS
    [action] = look(60_000 + CONFIRM_MS, [long()], [], gone.seen).actions
    assert isinstance(action, PlaceStop)


def test_fills_that_keep_coming_do_not_postpone_for_ever() -> None:
    seen, now, actions = Seen(), 0.0, ()
    while not actions and now < 60_000:
        finding = look(now, [long(quantity=D(now + 1))], [], seen)
        actions, seen, now = finding.actions, finding.seen, now + 1000
    assert now <= 3 * GRACE_MS + 1000


@pytest.mark.parametrize(
    "orders",
    [
        [stop("100500")],
        [stop("97500", side=OrderSide.BUY)],
        [stop("97500", "0.4")],
        [profit("104000")],
        [stop("97500", name=ETH)],
        [stop("96499")],
        [foreign("97900")],
        [foreign("98000", "STOP")],
        [foreign("98000", "TRAILING_STOP_MARKET")],
        [foreign("101000", "TAKE_PROFIT_MARKET")],
        [foreign("98000", quantity="0.4")],
    ],
    ids=[
        "wrong side of the mark",
        "wrong direction",
        "too small",
        "a take-profit",
        "another instrument",
        "ours, farther than plan and slippage may have put it",
        "foreign, wider than our own level",
        "a stop-limit",
        "a trailing stop",
        "a conditional take-profit",
        "foreign, too small",
    ],
)
def test_what_does_not_protect_does_not_count(orders: list[Resting]) -> None:
    """Neither for the guardian nor for entries that wait until all is protected."""
    seen = look(0, [long()], orders).seen
    assert any(isinstance(action, PlaceStop) for action in look(GRACE_MS, [long()], orders, seen).actions)
    assert bare([long()], orders, POLICY) == [BTC]


@pytest.mark.parametrize("orders", [[stop("96500")], [foreign("98000")], [foreign("98000", quantity="0.5")]])
def test_what_protects_counts_wherever_it_comes_from(orders: list[Resting]) -> None:
    assert look(GRACE_MS, [long()], orders, look(0, [long()], orders).seen).actions == ()
    assert bare([long()], orders, POLICY) == []


def test_a_plan_that_the_log_has_told_says_where_the_stop_was_and_how_wide_it_may_be() -> None:
    plans = {BTC: Planned(Side.LONG, D(100_000), D(95_000))}
    seen = look(0, [long()], [], plans=plans).seen
    [action] = look(GRACE_MS, [long()], [], seen, plans=plans).actions
    assert isinstance(action, PlaceStop)
    assert action.level == D(95_000)
    assert look(GRACE_MS, [long()], [stop("95000")], seen, plans=plans).actions == ()
    other = {BTC: Planned(Side.LONG, D(80_000), D(76_000))}
    [action] = look(GRACE_MS, [long()], [], look(0, [long()], []).seen, plans=other).actions
    assert isinstance(action, PlaceStop)
    assert action.level == D(98_000), "the plan of a position before this one counts for nothing"


def test_quantity_stops_of_a_running_swap_count_together() -> None:
    orders = [stop("97500", "0.3"), stop("98000", "0.2")]
    seen = look(0, [long()], orders).seen
    assert look(GRACE_MS, [long()], orders, seen).actions == ()


def test_a_stop_beyond_the_liquidation_does_not_protect_and_the_new_one_stands_before_it() -> None:
    held = long(liquidation=D(98_000))
    orders = [stop("97500")]
    [action] = look(GRACE_MS, [held], orders, look(0, [held], orders).seen).actions
    assert isinstance(action, PlaceStop)
    assert action.level > held.liquidation


@pytest.mark.parametrize("held", [long(mark="97400"), long(entry=D(0))], ids=["level passed", "no entry price"])
def test_where_no_stop_can_be_it_is_closed_and_take_profits_go_first(held: Held) -> None:
    ladder = [profit("101500", "0.2"), profit("102500", "0.3")]
    [action] = look(GRACE_MS, [held], ladder, look(0, [held], ladder).seen).actions
    assert isinstance(action, Close)
    assert action.take_profits == tuple(ladder)
    assert action.why


def test_each_attempt_has_an_id_of_its_own_and_the_same_history_gives_the_same() -> None:
    def ids() -> list[str]:
        seen, found = look(0, [long()], []).seen, []
        for n in range(3):
            finding = look(GRACE_MS + 1000 * n, [long()], [], seen)
            seen = finding.seen
            found += [action.client_id for action in finding.actions if isinstance(action, PlaceStop)]
        return found

    assert len(set(ids())) == 3
    assert ids() == ids()


def test_orphans_of_ours_are_cancelled_in_both_books_after_a_while() -> None:
    orders = [stop("97500"), profit("104000")]
    first = look(0, [], orders)
    assert first.actions == ()
    assert first.again_ms == ORPHAN_MS
    later = look(ORPHAN_MS, [], orders, first.seen)
    assert [action.order for action in later.actions if isinstance(action, CancelOrphan)] == orders


def test_an_orphan_whose_position_comes_is_none_and_foreign_orders_and_entries_are_not_touched() -> None:
    first = look(0, [], [stop("97500")])
    assert look(ORPHAN_MS, [long()], [stop("97500")], first.seen).actions == ()
    foreign = Resting(BTC, "web_abc", True, "STOP_MARKET", OrderSide.SELL, D(1), D(0), True)
    entry = Resting(BTC, client_id(Purpose.ENTRY, 1), False, "LIMIT", OrderSide.BUY, D(1), D(1), False)
    seen = look(0, [], [foreign, entry]).seen
    assert look(ORPHAN_MS, [], [foreign, entry], seen).actions == ()


def test_a_look_at_one_instrument_forgets_nothing_of_the_others() -> None:
    seen = look(0, [long()], [stop("1", name=ETH)]).seen
    narrow = look(100, [long()], [], seen, scope=(BTC,))
    assert set(narrow.seen.naked) == {BTC}
    assert {name for name, _ in narrow.seen.orphans.values()} == {ETH}
    flat = look(200, [], [stop("1", name=ETH)], narrow.seen)
    assert not flat.seen.naked
    assert not flat.seen.moved
