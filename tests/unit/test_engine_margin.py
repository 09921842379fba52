"""Money under pressure on the exchange's engine: liquidation, funding, isolated wallets, hedged accounts."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import pairwise
from pathlib import Path

import pytest

from infra.venue.local.account import START_BALANCE
from infra.venue.local.brackets import Bracket, brackets_of
from infra.venue.local.commands import (
    Command,
    MoveMargin,
    PlaceAlgo,
    PlaceOrder,
    SetLeverage,
    SetMarginType,
    SetPositionMode,
)
from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AccountChanged, AlgoChanged, Booked, FundingSettled, Happening, OrderChanged
from infra.venue.local.journal import Journal, restore
from infra.venue.local.margin import liquidation_price, liquidation_price_in
from infra.venue.local.market.base import FUNDING_MS, SYMBOLS, Mark
from infra.venue.local.refusals import Refusal
from infra.venue.local.scripted import at_price

START = 960_000
NOON = FUNDING_MS * 60_000


class Market:
    def __init__(self, balance: D = START_BALANCE, journal: Journal | None = None) -> None:
        self.engine = Engine((SYMBOLS["BTCUSDT"], SYMBOLS["ETHUSDT"]), {"BTCUSDT": START, "ETHUSDT": 330_000}, balance)
        self.journal = journal
        self.t = NOON
        self.price(START)

    def tell(self, what: Command | Mark) -> list[Happening]:
        self.t += 1_000
        happened = self.engine.apply(what, self.t)
        if self.journal is not None:
            self.journal.tell(self.engine, happened, 0.0)
        return happened

    def price(self, ticks: int, symbol: str = "BTCUSDT") -> list[Happening]:
        self.t += 1_000
        return [h for event in at_price(symbol, self.t, ticks, depth=100_000) for h in self.engine.apply(event, self.t)]

    def mark(self, value: str, rate: str = "0.0001", due: int = 0, symbol: str = "BTCUSDT") -> list[Happening]:
        return self.tell(Mark(symbol, self.t + 1_000, D(value), D(value), D(rate), due))

    def trade(self, side: str, qty: str, symbol: str = "BTCUSDT", **more: object) -> list[Happening]:
        return self.tell(PlaceOrder(symbol, side, "MARKET", D(qty), **more))  # type: ignore[arg-type]

    def refusal(self, what: Command) -> int:
        with pytest.raises(Refusal) as caught:
            self.tell(what)
        return caught.value.code

    @property
    def wallet(self) -> D:
        return self.engine.floor.account.wallet


# --- the published examples ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("others_maintenance", "others_profit", "cum", "qty", "entry", "ratio", "expected"),
    [
        ("0", "0", "16300.000", "109.488", "32481.980", "0.025", "18778.73"),  # isolated
        ("356512.508", "-448192.89", "16300.000", "109.488", "32481.980", "0.025", "26316.89"),  # cross
        ("71200.81144", "-56354.57", "135365.00", "3683.979", "1456.84", "0.10", "1153.26"),  # cross
    ],
)
def test_the_published_liquidation_prices_to_the_cent(
    others_maintenance: str, others_profit: str, cum: str, qty: str, entry: str, ratio: str, expected: str
) -> None:
    found = liquidation_price(
        D("1535443.01"), D(others_maintenance), D(others_profit), qty=D(qty), entry=D(entry), cum=D(cum), ratio=D(ratio)
    )
    assert abs(found - D(expected)) < D("0.01")
    assert found.quantize(D("0.01")) == D(expected)


def test_the_bracket_is_the_one_at_that_price() -> None:
    # the examples' own brackets: (floor, ratio), cum by continuity
    rows = [("0", "0.004"), ("50000", "0.005"), ("250000", "0.01"), ("1000000", "0.025"), ("10000000", "0.05"), ("20000000", "0.1")]
    brackets = [Bracket(1, 125, D(0), D(50_000), D("0.004"), D(0))]
    for number, (low, high) in enumerate(pairwise([*rows, ("50000000", "0.125")]), start=1):
        if number > 1:
            cum = brackets[-1].cum + D(low[0]) * (D(low[1]) - brackets[-1].ratio)
            brackets.append(Bracket(number, 1, D(low[0]), D(high[0]), D(low[1]), cum))
    found = liquidation_price_in(tuple(brackets), D("1535443.01"), D(0), D(0), D("109.488"), D("32481.980"))
    assert found.quantize(D("0.01")) == D("18778.73")


# --- liquidation ---------------------------------------------------------------------------------------------------------------


def test_an_account_that_cannot_keep_its_position_loses_it_and_no_more_than_it_has() -> None:
    market = Market()
    market.trade("BUY", "1.9")
    market.tell(PlaceAlgo("BTCUSDT", "SELL", "STOP_MARKET", D("80000"), "MARK_PRICE", close_position=True))
    position = market.engine.floor.position("BTCUSDT")
    at = liquidation_price_in(brackets_of("BTC"), market.wallet, D(0), D(0), position.qty, position.entry)
    assert market.mark(f"{at + D('0.5'):.1f}") == []
    happened = market.mark(f"{at - D('0.5'):.1f}")
    orders = [h for h in happened if isinstance(h, OrderChanged)]
    assert [(h.execution, h.order.status) for h in orders] == [("CALCULATED", "NEW"), ("CALCULATED", "FILLED")]
    assert orders[0].order.client_id.startswith("autoclose-")
    assert position.steps == 0
    assert 0 <= market.wallet < 1
    assert [h.algo.status for h in happened if isinstance(h, AlgoChanged)] == ["EXPIRED"]


def test_after_a_gap_the_insurance_fund_pays_what_is_missing() -> None:
    market = Market()
    market.trade("SELL", "1.9")
    market.mark("120000.0")
    assert market.wallet >= 0
    assert market.engine.floor.position("BTCUSDT").steps == 0
    floor = market.engine.floor
    fills = floor.fills["BTCUSDT"]
    booked = sum((b.amount for b in floor.booked), D(0))
    assert market.wallet == START_BALANCE + sum(f.realised for f in fills) - sum(f.fee for f in fills) + booked


def test_cross_positions_go_together_and_a_hedge_in_another_symbol_holds_them_up() -> None:
    market = Market()
    market.trade("BUY", "1.0")
    market.trade("SELL", "30", "ETHUSDT")
    market.mark("90000.0")
    assert market.engine.floor.account.exposed  # 6,000 lost of 10,000
    market.mark("3000.00", symbol="ETHUSDT")
    market.mark("85000.0")  # 11,000 lost and 9,000 won
    assert len(market.engine.floor.account.exposed) == 2
    market.mark("76000.0")
    assert market.engine.floor.account.exposed == {}
    assert 0 <= market.wallet < 1


def test_nobody_is_liquidated_within_the_band_that_a_judgement_gives() -> None:
    """The band is a shortcut: marks in small steps must end where one judgement of every mark would."""
    market = Market()
    market.trade("BUY", "1.9")
    position = market.engine.floor.position("BTCUSDT")
    at = liquidation_price_in(brackets_of("BTC"), market.wallet, D(0), D(0), position.qty, position.entry)
    price = D("95990.0")
    while position.steps:
        price -= D("10.0")
        market.mark(f"{price}")
    assert at - 10 <= price <= at


# --- funding -------------------------------------------------------------------------------------------------------------------


def test_funding_is_paid_at_its_time_at_the_mark_with_the_last_rate() -> None:
    market = Market()
    market.trade("BUY", "0.010")
    wallet, due = market.wallet, NOON + 60_000
    assert market.mark("96000.0", "0.0003", due) == []
    market.t = due - 1_000
    happened = market.mark("97000.0", "-0.0007", due + FUNDING_MS)
    settled, booked, changed = happened
    assert isinstance(settled, FundingSettled)
    assert (settled.rate, settled.mark, settled.t) == (D("0.0003"), D("97000.0"), due)
    assert isinstance(booked, Booked)
    assert booked.amount == D("-0.291")
    assert isinstance(changed, AccountChanged)
    assert (changed.reason, changed.change) == ("FUNDING_FEE", D("-0.291"))
    assert market.wallet == wallet - D("0.291")
    assert market.mark("97000.0", "-0.0007", due + FUNDING_MS) == []  # once
    market.t = due + FUNDING_MS + 5_000
    market.trade("SELL", "0.020")  # a short receives nothing at a negative rate: it pays
    happened = market.mark("97000.0", "0", due + 2 * FUNDING_MS)
    assert market.wallet < wallet
    assert [h.amount for h in happened if isinstance(h, Booked)] == [D("-0.679")]


def test_funding_without_a_position_is_only_told() -> None:
    market = Market()
    market.mark("96000.0", "0.0003", NOON + 10_000)
    market.t = NOON + 20_000
    assert [type(h) for h in market.mark("96000.0", "0", NOON + FUNDING_MS)] == [FundingSettled]
    assert market.wallet == START_BALANCE


# --- isolated ------------------------------------------------------------------------------------------------------------------


def test_an_isolated_position_stands_and_falls_with_its_own_margin() -> None:
    market = Market()
    market.tell(SetMarginType("BTCUSDT", "ISOLATED"))
    market.tell(SetLeverage("BTCUSDT", 10))
    market.trade("BUY", "0.100")
    account = market.engine.floor.account
    position = market.engine.floor.position("BTCUSDT")
    assert position.bound == D("960.001")
    assert account.cross_wallet == market.wallet - D("960.001")
    assert market.refusal(SetLeverage("BTCUSDT", 5)) == -4161
    happened = market.tell(MoveMargin("BTCUSDT", D(40)))
    assert isinstance(happened[-1], AccountChanged)
    assert (happened[-1].reason, position.bound) == ("MARGIN_TRANSFER", D("1000.001"))
    assert market.refusal(MoveMargin("BTCUSDT", D(-500))) == -4051
    assert market.refusal(MoveMargin("ETHUSDT", D(5))) == -4054
    market.trade("SELL", "0.050")
    assert position.bound == D("500.0005")
    before = account.cross_wallet
    market.mark("86100.0")
    assert position.steps == 0
    assert position.bound == 0
    assert account.cross_wallet == market.wallet >= before
    assert market.wallet < before + 1


# --- hedged --------------------------------------------------------------------------------------------------------------------


def test_a_hedged_account_holds_both_sides() -> None:
    market = Market()
    assert market.refusal(PlaceOrder("BTCUSDT", "BUY", "MARKET", D("0.010"), position_side="LONG")) == -4061
    market.tell(SetPositionMode(True))
    assert market.refusal(SetPositionMode(True)) == -4059
    assert market.refusal(PlaceOrder("BTCUSDT", "BUY", "MARKET", D("0.010"))) == -4061
    floor = market.engine.floor
    market.trade("BUY", "0.020", position_side="LONG")
    market.trade("SELL", "0.010", position_side="SHORT")
    assert (floor.position("BTCUSDT", "LONG").steps, floor.position("BTCUSDT", "SHORT").steps) == (20, -10)
    assert market.refusal(SetPositionMode(False)) == -4068
    assert market.refusal(PlaceOrder("BTCUSDT", "SELL", "MARKET", D("0.010"), reduce_only=True, position_side="LONG")) == -1106
    market.tell(PlaceAlgo("BTCUSDT", "SELL", "STOP_MARKET", D("95000"), "MARK_PRICE", close_position=True, position_side="LONG"))
    short = PlaceAlgo("BTCUSDT", "BUY", "STOP_MARKET", D("97000"), "MARK_PRICE", close_position=True, position_side="SHORT")
    market.tell(short)
    assert market.refusal(short) == -4130
    wrong = PlaceAlgo("BTCUSDT", "BUY", "STOP_MARKET", D("97000"), "MARK_PRICE", close_position=True, position_side="LONG")
    assert market.refusal(wrong) == -4061
    market.mark("94999.0")
    assert (floor.position("BTCUSDT", "LONG").steps, floor.position("BTCUSDT", "SHORT").steps) == (0, -10)
    assert [a.position_side for a in floor.live_algos()] == ["SHORT"]
    market.trade("BUY", "5", position_side="SHORT")  # never more than there is
    assert floor.account.exposed == {}


def test_a_restart_knows_legs_margins_and_funding(tmp_path: Path) -> None:
    market = Market(journal=Journal(tmp_path / "journal.jsonl"))
    market.tell(SetPositionMode(True))
    market.tell(SetMarginType("BTCUSDT", "ISOLATED"))
    market.trade("BUY", "0.020", position_side="LONG")
    market.trade("SELL", "0.010", position_side="SHORT")
    market.tell(MoveMargin("BTCUSDT", D(40), "LONG"))
    market.mark("96000.0", "0.0003", NOON + 60_000)
    market.t = NOON + 60_000
    market.mark("96500.0", "0.0003", NOON + FUNDING_MS)
    market.trade("SELL", "0.005", position_side="LONG")
    floor = market.engine.floor
    again = Engine((SYMBOLS["BTCUSDT"], SYMBOLS["ETHUSDT"]), {"BTCUSDT": START, "ETHUSDT": 330_000}, START_BALANCE)
    restore(again, Journal(tmp_path / "journal.jsonl").records)
    account = again.floor.account
    assert (account.wallet, account.positions, account.dual) == (floor.account.wallet, floor.account.positions, True)
    assert again.floor.booked == floor.booked
    assert again.floor.fundings == floor.fundings
    assert again.floor.fills == floor.fills
