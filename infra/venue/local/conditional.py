"""Conditional (algo) orders: armed until the mark or the last trade reaches the trigger, then a market order of
their own.

NEW -> TRIGGERING -> TRIGGERED (names the child order) -> FINISHED; or CANCELED, EXPIRED, REJECTED. Nothing but form
and side is checked when one is placed; whether it can close or may open anything is decided at its trigger, as on
the real exchange: protection can be refused at that moment.
`children_compete`: whether resting reduce-only orders leave nothing for a triggered reduce-only quantity order
(-4118, then REJECTED). The exchange refuses such orders when they are sent; that it does so at a trigger is not
documented, and the cautious reading is the default.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from infra.venue.local import filters
from infra.venue.local.commands import PlaceAlgo
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import AlgoChanged
from infra.venue.local.matching import Matching
from infra.venue.local.orders import Algo, Order, sign
from infra.venue.local.refusals import Refusal, missing, not_required, refuse

MAX_ALGOS = 200  # open conditional orders of an account


class Conditional:
    """The algo book. It changes the floor and places children through the matching."""

    def __init__(self, floor: Floor, matching: Matching, *, children_compete: bool = True) -> None:
        self.floor = floor
        self.matching = matching
        self.children_compete = children_compete
        self.refuses_child: Callable[[str], bool] | None = None  # a planned fault: symbol -> rejected at its trigger

    def place(self, ask: PlaceAlgo) -> Algo:
        floor = self.floor
        symbol = floor.symbol(ask.symbol)
        floor.check_open(ask.symbol, reduces=ask.reduce_only or ask.close_position)
        trigger_ticks = filters.trigger_ticks(symbol, ask.trigger)
        qty = 0
        if ask.close_position:
            if ask.qty is not None:
                raise refuse(-4137)
            if ask.reduce_only:
                raise not_required("reduceOnly")
        elif ask.qty is None:
            raise missing("quantity")
        else:
            qty = filters.steps(symbol, ask.qty, market=True)
            if not ask.reduce_only:
                filters.check_notional(symbol, trigger_ticks, qty)
        if ask.client_id:
            filters.check_client_id(ask.client_id, "clientAlgoId")
            namesake = floor.algo_named.get(ask.client_id)
            if namesake is not None and namesake.is_live:
                raise refuse(-4116)
        held = floor.position(ask.symbol).steps
        if ask.tif == "GTE_GTC" and held * sign(ask.side) >= 0:
            raise refuse(-4509)
        if ask.close_position and any(
            a.close_position and a.side == ask.side and a.type == ask.type for a in floor.armed[ask.symbol]
        ):
            raise refuse(-4130)
        if sum(len(armed) for armed in floor.armed.values()) >= MAX_ALGOS:
            raise refuse(-4045)
        new_id = floor.algo_id + 1
        algo = Algo(
            id=new_id,
            client_id=ask.client_id or f"auto_{new_id}",
            symbol=ask.symbol,
            side=ask.side,
            type=ask.type,
            tif=ask.tif,
            trigger=trigger_ticks * symbol.tick,
            trigger_ticks=trigger_ticks,
            working_type=ask.working_type,
            qty=qty,
            close_position=ask.close_position,
            reduce_only=ask.reduce_only,
            created_t=floor.now,
            updated_t=floor.now,
            price_protect=ask.price_protect,
        )
        if algo.fires_at(self._price(algo)):
            raise refuse(-2021)
        floor.algo_id = new_id
        floor.keep_algo(algo)
        floor.armed[algo.symbol].append(algo)
        self._tell(algo, "NEW")
        return algo

    def cancel(self, algo: Algo) -> None:
        self.floor.armed[algo.symbol].remove(algo)
        self._tell(algo, "CANCELED")

    def on_mark(self, symbol: str, mark: Decimal) -> None:
        self._sweep(symbol, "MARK_PRICE", mark)

    def on_trade(self, symbol: str, price: Decimal) -> None:
        self._sweep(symbol, "CONTRACT_PRICE", price)

    def _sweep(self, symbol: str, working_type: str, price: Decimal) -> None:
        for algo in list(self.floor.armed[symbol]):
            if algo.is_live and algo.working_type == working_type and algo.fires_at(price):
                self._trigger(algo)

    def _price(self, algo: Algo) -> Decimal:
        if algo.working_type == "MARK_PRICE":
            return self.floor.marks[algo.symbol]
        return self.floor.books[algo.symbol].last * self.floor.symbols[algo.symbol].tick

    def _trigger(self, algo: Algo) -> None:
        floor = self.floor
        floor.armed[algo.symbol].remove(algo)
        algo.trigger_t = floor.now
        self._tell(algo, "TRIGGERING")
        if self.refuses_child is not None and self.refuses_child(algo.symbol):
            algo.reason = "Margin is insufficient."
            self._tell(algo, "REJECTED")
            return
        try:
            qty = self._child_qty(algo)
        except Refusal as no:
            algo.reason = "ReduceOnly reject" if no.code in (-2022, -4118) else no.message
            self._tell(algo, "EXPIRED" if algo.close_position else "REJECTED")
            return
        floor.order_id += 1
        child = Order(
            id=floor.order_id,
            client_id=algo.client_id,
            symbol=algo.symbol,
            side=algo.side,
            type="MARKET",
            tif="GTC",
            price=0,
            qty=qty,
            reduce_only=algo.reduce_only or algo.close_position,
            created_t=floor.now,
            updated_t=floor.now,
            close_position=algo.close_position,
            orig_type=algo.type,
            stop_price=algo.trigger,
            working_type=algo.working_type,
            algo_id=algo.id,
        )
        algo.order_id = child.id
        self._tell(algo, "TRIGGERED")
        self.matching.accept(child)
        algo.actual_qty, algo.actual_turnover = child.filled, child.turnover
        self._tell(algo, "FINISHED")

    def _child_qty(self, algo: Algo) -> int:
        """The size at the trigger: all that is held, or the quantity as far as there is something to reduce."""
        held = self.floor.position(algo.symbol).steps
        if algo.close_position:
            if held * sign(algo.side) >= 0:
                raise refuse(-2022)
            return abs(held)
        if not algo.reduce_only:
            return algo.qty
        if self.children_compete:
            return self.matching.reducible(algo.symbol, algo.side, algo.qty, market=True)
        if held * sign(algo.side) >= 0:
            raise refuse(-2022)
        return min(algo.qty, abs(held))

    def _tell(self, algo: Algo, status: str) -> None:
        algo.status, algo.updated_t = status, self.floor.now
        self.floor.out.append(AlgoChanged(algo.frozen(), self.floor.now))
