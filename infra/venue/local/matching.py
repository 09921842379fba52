"""Ordinary orders: acceptance, taking, resting, and what the market does to those that rest.

A taker walks the ladder behind the quote (books.py), where what it consumed is missing for a while; what finds no
depth expires (MARKET, IOC) or rests (LIMIT). A market order takes nothing beyond 5 % of the mark. Resting orders are
served by queue.py. Candles and tape stay exactly as the source told them.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

from infra.venue.local import filters
from infra.venue.local.account import TAKER_FEE
from infra.venue.local.brackets import max_notional
from infra.venue.local.commands import AmendOrder, PlaceOrder
from infra.venue.local.floor import Floor, amendment
from infra.venue.local.happenings import AccountChanged, AlgoChanged, Fill, OrderChanged
from infra.venue.local.market.base import Trade
from infra.venue.local.orders import Order, PositionSide, Side, closes, sign
from infra.venue.local.queue import crossed, traded
from infra.venue.local.refusals import missing, not_required, refuse

MAX_OPEN_ORDERS = 200


class Matching:
    """The ordinary book. It changes the floor and appends to its `out`."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.on_end: Callable[[Order], None] | None = None  # told of children of conditional orders

    # --- what clients ask ------------------------------------------------------------------------------------------------

    def place(self, ask: PlaceOrder) -> Order:
        """Check, accept, match. Raises Refusal before anything has changed."""
        floor = self.floor
        symbol = floor.symbol(ask.symbol)
        floor.check_side(ask.position_side)
        if floor.account.dual and ask.reduce_only:
            raise not_required("reduceOnly")
        reduces = ask.reduce_only or closes(ask.side, ask.position_side)
        floor.check_open(ask.symbol, reduces=reduces)
        market = ask.type == "MARKET"
        price = 0
        if not market:
            if ask.price is None:
                raise missing("price")
            price = filters.ticks(symbol, ask.price)
        qty = filters.steps(symbol, ask.qty, market=market)
        if ask.client_id:
            filters.check_client_id(ask.client_id, "newClientOrderId")
            namesake = floor.order_named.get(ask.client_id)
            if namesake is not None and namesake.is_open:
                raise refuse(-4116)
        book = floor.books[ask.symbol]
        mark = floor.marks[ask.symbol]
        if reduces:
            qty = self.reducible(ask.symbol, ask.side, qty, market=market, position_side=ask.position_side)
        else:
            filters.check_notional(symbol, price or int(mark / symbol.tick), qty)
        if not market:
            filters.check_band(symbol, ask.side, price, mark)
        if not reduces:
            self.check_margin(ask.symbol, ask.side, ask.position_side, price, qty)
        if len(floor.resting[ask.symbol]) >= MAX_OPEN_ORDERS:
            raise refuse(-2025)
        if market and not book.crosses(ask.side, filters.take_bound(symbol, ask.side, mark)):
            raise refuse(-4131)
        if ask.tif == "GTX" and book.crosses(ask.side, price):
            raise refuse(-5022)
        if ask.tif == "FOK" and book.reachable(ask.side, price or None) < qty:
            raise refuse(-5021)
        floor.order_id += 1
        order = Order(
            id=floor.order_id,
            client_id=ask.client_id or f"auto_{floor.order_id}",
            symbol=ask.symbol,
            side=ask.side,
            type=ask.type,
            tif="GTC" if market else ask.tif,
            price=price,
            qty=qty,
            reduce_only=reduces,
            created_t=floor.now,
            updated_t=floor.now,
            orig_type=ask.type,
            position_side=ask.position_side,
        )
        self.accept(order)
        return order

    def reducible(self, symbol: str, side: Side, qty: int, *, market: bool, position_side: PositionSide = "BOTH") -> int:
        """How much a reduce-only order may have; refuses one that reduces nothing, or for which resting ones leave nothing."""
        held = self.floor.position(symbol, position_side).steps
        if held * sign(side) >= 0:
            raise refuse(-2022)
        rivals = [o for o in self.floor.resting[symbol] if o.reduce_only and o.side == side and o.position_side == position_side]
        spoken_for = sum(o.left for o in rivals)
        if market:
            qty = min(qty, abs(held))
        if spoken_for + qty > abs(held):
            raise refuse(-4118)
        return qty

    def cancel(self, order: Order) -> None:
        self._end(order, "CANCELED")

    def amend(self, order: Order, ask: AmendOrder) -> None:
        """Another price and quantity; it keeps its place in the queue only if it becomes smaller at its price."""
        floor = self.floor
        symbol, book = floor.symbols[order.symbol], floor.books[order.symbol]
        price, qty = filters.ticks(symbol, ask.price), filters.steps(symbol, ask.qty, market=False)
        if ask.side != order.side or order.type != "LIMIT":
            raise refuse(-2011)
        if (price, qty) == (order.price, order.qty):
            raise refuse(-5027)
        filters.check_band(symbol, order.side, price, floor.marks[order.symbol])
        if order.tif == "GTX" and book.crosses(order.side, price):
            raise refuse(-5022)
        resting = floor.resting[order.symbol]
        place = resting.index(order)
        resting.remove(order)
        try:
            if order.reduce_only:
                self.reducible(
                    order.symbol, order.side, max(0, qty - order.filled), market=False, position_side=order.position_side
                )
            else:
                filters.check_notional(symbol, price, qty)
                self.check_margin(order.symbol, order.side, order.position_side, price, max(0, qty - order.filled))
        finally:
            resting.insert(place, order)
        before = order.frozen()
        if qty <= order.filled:
            self._end(order, "CANCELED")
            return
        stays = price == order.price and qty < order.qty
        order.price, order.qty, order.updated_t, order.amended = price, qty, floor.now, order.amended + 1
        floor.amendments.append(amendment(before, order))
        self._tell(order, "AMENDMENT")
        if not stays:
            resting.remove(order)
            self._take_then_rest(order)

    def accept(self, order: Order) -> None:
        """NEW, then whatever can be had at once, then rest or expire."""
        floor = self.floor
        floor.keep_order(order)
        self._tell(order, "NEW")
        self._take_then_rest(order)

    def _take_then_rest(self, order: Order) -> None:
        floor = self.floor
        book = floor.books[order.symbol]
        limit = order.price or filters.take_bound(book.symbol, order.side, floor.marks[order.symbol])
        if book.crosses(order.side, limit):
            for price, qty in book.take(order.side, order.left, limit, floor.now):
                if order.status == "EXPIRED":
                    break
                self._fill(order, price, qty, maker=False)
        if not order.is_open:
            return
        if order.type == "MARKET" or order.tif in ("IOC", "FOK"):
            self._end(order, "EXPIRED")
            return
        order.queue_ahead = book.queue_at(order.side, order.price)
        floor.resting[order.symbol].append(order)

    # --- what the market does ----------------------------------------------------------------------------------------------

    def on_quote(self, symbol: str) -> None:
        """A quote that crosses a resting order fills it, as far as there is depth."""
        for order, qty in crossed(self.floor.books[symbol], self.floor.resting[symbol], self.floor.now):
            self._fill(order, order.price, qty, maker=True)

    def on_trade(self, trade: Trade) -> None:
        """A trade beyond a resting order's price fills it; one at its price serves the queue first."""
        for order, qty in traded(trade, self.floor.resting[trade.symbol]):
            self._fill(order, order.price, qty, maker=True)

    # --- consequences -----------------------------------------------------------------------------------------------------

    def calculate(self, order: Order, fee: Decimal) -> None:
        """A liquidation: the whole order is executed at its own price, outside of the book."""
        self.floor.keep_order(order)
        self._tell(order, "CALCULATED")
        self._fill(order, order.price, order.qty, maker=False, fee=fee)

    def _fill(self, order: Order, price: int, qty: int, *, maker: bool, fee: Decimal | None = None) -> None:
        floor = self.floor
        position = floor.position(order.symbol, order.position_side)
        before = position.steps
        if order.reduce_only:
            qty = min(qty, abs(before) if before * sign(order.side) < 0 else 0)
            if not qty:
                self._end(order, "EXPIRED")
                return
        execution: Literal["TRADE", "CALCULATED"] = "TRADE" if fee is None else "CALCULATED"
        realised, fee = floor.account.settle(order.symbol, order.side, price, qty, maker, floor.now, order.position_side, fee)
        fills = floor.fills[order.symbol]
        fill = Fill(
            id=len(fills) + 1,
            symbol=order.symbol,
            order_id=order.id,
            client_id=order.client_id,
            side=order.side,
            price=price,
            qty=qty,
            maker=maker,
            fee=fee,
            realised=realised,
            t=floor.now,
            position_side=order.position_side,
        )
        fills.append(fill)
        symbol = floor.symbols[order.symbol]
        order.filled += qty
        order.turnover += symbol.tick * symbol.step * price * qty
        order.status = "FILLED" if order.left == 0 else "PARTIALLY_FILLED"
        order.updated_t = floor.now
        if order.status == "FILLED" and order in floor.resting[order.symbol]:
            floor.resting[order.symbol].remove(order)
        floor.out.append(OrderChanged(order.frozen(), execution, floor.now, fill))
        account = floor.account
        mark = floor.marks[order.symbol]
        floor.out.append(AccountChanged(account.wallet, position.frozen(), mark, floor.now, account.cross_wallet))
        if before and before * position.steps <= 0:
            self._gone(order.symbol, before, order.position_side)
        if order.algo_id and not order.is_open and self.on_end is not None:
            self.on_end(order)

    def _gone(self, symbol: str, before: int, position_side: PositionSide) -> None:
        """A position has ended: what was there only to close it ends with it."""
        floor = self.floor
        closing: Side = "SELL" if before > 0 else "BUY"
        for order in list(floor.resting[symbol]):
            if order.reduce_only and order.side == closing and order.position_side == position_side:
                self._end(order, "EXPIRED")
        for algo in list(floor.armed[symbol]):
            goes = algo.close_position or algo.tif == "GTE_GTC"
            if goes and algo.side == closing and algo.position_side == position_side:
                floor.armed[symbol].remove(algo)
                algo.status, algo.updated_t = "EXPIRED", floor.now
                floor.out.append(AlgoChanged(algo.frozen(), floor.now))

    def _end(self, order: Order, status: str) -> None:
        order.status, order.updated_t = status, self.floor.now
        if order in self.floor.resting[order.symbol]:
            self.floor.resting[order.symbol].remove(order)
        self._tell(order, "CANCELED" if status == "CANCELED" else "EXPIRED")
        if order.algo_id and self.on_end is not None:
            self.on_end(order)

    def _tell(self, order: Order, execution: Literal["NEW", "CANCELED", "EXPIRED", "AMENDMENT", "CALCULATED"]) -> None:
        self.floor.out.append(OrderChanged(order.frozen(), execution, self.floor.now))

    def check_margin(self, name: str, side: Side, position_side: PositionSide, price: int, qty: int) -> None:
        """Margin and leverage bracket for the part of an order that would grow the position."""
        floor = self.floor
        symbol = floor.symbols[name]
        position = floor.position(name, position_side)
        growing = qty
        if position.steps * sign(side) < 0:
            growing = max(0, qty - abs(position.steps))
        if not growing:
            return
        book = floor.books[name]
        at = price or (book.ask if side == "BUY" else book.bid)
        notional = symbol.tick * symbol.step * at * growing
        held = abs(position.notional(floor.marks[name])) if position.steps * sign(side) > 0 else Decimal(0)
        if held + floor.resting_notional(name, side) + notional > max_notional(symbol.base, position.leverage):
            raise refuse(-2027)
        if notional / position.leverage + notional * TAKER_FEE > floor.available():
            raise refuse(-2019)
