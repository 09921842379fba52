"""Conditional (algo) orders: armed until the mark or the last trade reaches the trigger, then an order of their own: at
market, or a limit order (STOP, TAKE_PROFIT), whose end is then theirs. A trailing stop's trigger follows the price.

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
from typing import Final, NamedTuple, cast

from infra.venue.local import filters
from infra.venue.local.commands import PlaceAlgo
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import AlgoChanged
from infra.venue.local.matching import Matching
from infra.venue.local.orders import HIGHEST, LOWEST, Algo, Order, TimeInForce, WorkingType, closes, sign
from infra.venue.local.refusals import Refusal, missing, not_required, refuse

MAX_ALGOS: Final = 200  # open conditional orders of an account
PROTECT: Final = Decimal("0.05")  # priceProtect: mark and last trade may differ by this part
MAX_CALLBACK: Final = Decimal(20)  # percent
LIMITS: Final = ("STOP", "TAKE_PROFIT")
TRAILING: Final = "TRAILING_STOP_MARKET"


class Band(NamedTuple):
    armed: tuple[int, int]  # how many, and the id of the last: together they name the list, which only grows at its end
    low: Decimal
    high: Decimal


class Conditional:
    """The algo book. It changes the floor and places children through the matching."""

    def __init__(self, floor: Floor, matching: Matching, *, children_compete: bool = True) -> None:
        self.floor = floor
        self.matching = matching
        self.children_compete = children_compete
        self._bands: dict[tuple[str, str], Band] = {}
        self._firing = 0  # the algo whose child is being placed
        matching.on_end = self._child_ended
        self.refuses_child: Callable[[str], bool] | None = None  # a planned fault: symbol -> rejected at its trigger

    def place(self, ask: PlaceAlgo) -> Algo:
        floor = self.floor
        symbol = floor.symbol(ask.symbol)
        floor.check_side(ask.position_side)
        hedged = floor.account.dual
        if hedged and ask.reduce_only:
            raise not_required("reduceOnly")
        reduces = ask.reduce_only or ask.close_position or closes(ask.side, ask.position_side)
        floor.check_open(ask.symbol, reduces=reduces)
        trigger_ticks = 0 if ask.type == TRAILING else filters.trigger_ticks(symbol, ask.trigger)
        qty = price = 0
        if ask.type in LIMITS:
            if ask.price is None:
                raise missing("price")
            price = filters.ticks(symbol, ask.price)
        if ask.close_position:
            if ask.type in (*LIMITS, TRAILING):
                raise refuse(-4136)
            if hedged and not closes(ask.side, ask.position_side):
                raise refuse(-4061)
            if ask.qty is not None:
                raise refuse(-4137)
            if ask.reduce_only:
                raise not_required("reduceOnly")
        elif ask.qty is None:
            raise missing("quantity")
        else:
            qty = filters.steps(symbol, ask.qty, market=not price)
            if not reduces:
                at = price or trigger_ticks or floor.books[ask.symbol].last
                filters.check_notional(symbol, at, qty)
        if ask.client_id:
            filters.check_client_id(ask.client_id, "clientAlgoId")
            namesake = floor.algo_named.get(ask.client_id)
            if namesake is not None and namesake.is_live:
                raise refuse(-4116)
        held = floor.position(ask.symbol, ask.position_side).steps
        if ask.tif == "GTE_GTC" and held * sign(ask.side) >= 0:
            raise refuse(-4509)
        if ask.close_position and any(
            a.close_position and (a.side, a.type, a.position_side) == (ask.side, ask.type, ask.position_side)
            for a in floor.armed[ask.symbol]
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
            reduce_only=ask.reduce_only or (hedged and reduces and not ask.close_position),
            created_t=floor.now,
            updated_t=floor.now,
            price_protect=ask.price_protect,
            position_side=ask.position_side,
            price=price,
        )
        if ask.type == TRAILING:
            self._trail(algo, ask)
        elif algo.fires_at(self._price(algo)):
            raise refuse(-2021)
        floor.algo_id = new_id
        floor.keep_algo(algo)
        floor.armed[algo.symbol].append(algo)
        self._tell(algo, "NEW")
        return algo

    def _trail(self, algo: Algo, ask: PlaceAlgo) -> None:
        """Check what a trailing stop needs, and let it follow from now on if nothing is to be waited for."""
        if ask.callback is None:
            raise missing("callbackRate")
        if not Decimal("0.1") <= ask.callback <= MAX_CALLBACK or ask.callback % Decimal("0.1"):
            raise refuse(-1130)
        algo.callback = ask.callback
        price = self._price(algo)
        if ask.activate is not None:
            if ask.activate <= 0:
                raise refuse(-4135)
            if ask.activate <= price if ask.side == "SELL" else ask.activate >= price:
                raise refuse(-2021)
            algo.activate = ask.activate
        algo.follow(price)

    def cancel(self, algo: Algo) -> None:
        self.floor.armed[algo.symbol].remove(algo)
        self._tell(algo, "CANCELED")

    def on_mark(self, symbol: str, mark: Decimal) -> None:
        self._sweep(symbol, "MARK_PRICE", mark)

    def on_trade(self, symbol: str, price: Decimal) -> None:
        self._sweep(symbol, "CONTRACT_PRICE", price)

    # --- what a restart must know ----------------------------------------------------------------------------------------------

    def followed(self) -> dict[int, tuple[Decimal, bool]]:
        """How far each trailing stop has followed the price, and whether it does yet."""
        return {algo.id: (algo.extreme, algo.is_active) for algo in self.floor.live_algos() if algo.callback}

    def follow_again(self, followed: dict[int, tuple[Decimal, bool]], t: int) -> None:
        """As they had followed at `t`; of those that have told of themselves since, the log knows more."""
        for algo in self.floor.live_algos():
            if algo.id in followed and algo.updated_t <= t:
                algo.extreme, algo.is_active = followed[algo.id]
                if algo.is_active:
                    algo.follow(algo.extreme)

    def observe(self, symbol: str, working_type: WorkingType, price: Decimal, t: int) -> None:
        """Follow a price at which nothing fired: what was due then has been done."""
        for algo in self.floor.armed[symbol]:
            if algo.callback and algo.working_type == working_type and t > algo.updated_t:
                algo.follow(price)

    # --- triggers ----------------------------------------------------------------------------------------------------------------

    def _sweep(self, symbol: str, working_type: str, price: Decimal) -> None:
        armed = self.floor.armed[symbol]
        band = self._bands.get((symbol, working_type))
        if band is not None and band.armed == (len(armed), armed[-1].id) and band.low < price < band.high:
            return  # between all triggers: most marks cost no more than this
        self._fire(symbol, working_type, price)
        self._mark_band(symbol, working_type)

    def _mark_band(self, symbol: str, working_type: str) -> None:
        """Remember between which prices nothing fires and nothing follows."""
        armed = self.floor.armed[symbol]
        if not armed:
            self._bands.pop((symbol, working_type), None)
            return
        low, high = LOWEST, HIGHEST
        for algo in armed:
            if algo.working_type == working_type:
                below, above = algo.quiet_between()
                low, high = max(low, below), min(high, above)
        self._bands[symbol, working_type] = Band((len(armed), armed[-1].id), low, high)

    def _fire(self, symbol: str, working_type: str, price: Decimal) -> None:
        for algo in list(self.floor.armed[symbol]):
            if not algo.is_live or algo.working_type != working_type:
                continue
            if algo.callback:
                waited = not algo.is_active
                algo.follow(price)
                if not algo.is_active:
                    continue
                if waited:
                    self._tell(algo, "NEW")  # it follows from here
            if algo.fires_at(price) and not (algo.price_protect and self._is_torn(symbol)):
                self._trigger(algo)

    def _is_torn(self, symbol: str) -> bool:
        mark = self.floor.marks[symbol]
        last = self.floor.books[symbol].last * self.floor.symbols[symbol].tick
        return abs(last - mark) > PROTECT * mark

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
            type="LIMIT" if algo.price else "MARKET",
            tif=cast(TimeInForce, algo.tif if algo.price and algo.tif != "GTE_GTC" else "GTC"),
            price=algo.price,
            qty=qty,
            reduce_only=algo.reduce_only or algo.close_position,
            created_t=floor.now,
            updated_t=floor.now,
            close_position=algo.close_position,
            orig_type=algo.type,
            stop_price=algo.trigger,
            working_type=algo.working_type,
            algo_id=algo.id,
            position_side=algo.position_side,
        )
        algo.order_id = child.id
        self._tell(algo, "TRIGGERED")
        self._firing = algo.id
        self.matching.accept(child)
        self._firing = 0
        if not child.is_open:
            self._child_ended(child)

    def _child_ended(self, child: Order) -> None:
        """The child has been filled, cancelled or has expired: so the conditional order is done."""
        algo = self.floor.algos[child.algo_id]
        if algo.id == self._firing or algo.status != "TRIGGERED":
            return
        algo.actual_qty, algo.actual_turnover = child.filled, child.turnover
        self._tell(algo, "FINISHED")

    def _child_qty(self, algo: Algo) -> int:
        """The size at the trigger: all that is held, or the quantity as far as there is something to reduce."""
        held = self.floor.position(algo.symbol, algo.position_side).steps
        if algo.close_position:
            if held * sign(algo.side) >= 0:
                raise refuse(-2022)
            return abs(held)
        if not algo.reduce_only:
            self.matching.check_margin(algo.symbol, algo.side, algo.position_side, algo.price, algo.qty)
            return algo.qty
        if self.children_compete:
            market, leg = not algo.price, algo.position_side
            return self.matching.reducible(algo.symbol, algo.side, algo.qty, market=market, position_side=leg)
        if held * sign(algo.side) >= 0:
            raise refuse(-2022)
        return min(algo.qty, abs(held))

    def _tell(self, algo: Algo, status: str) -> None:
        algo.status, algo.updated_t = status, self.floor.now
        self.floor.out.append(AlgoChanged(algo.frozen(), self.floor.now))
