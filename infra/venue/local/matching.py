"""Ordinary orders: acceptance, taking, resting, and what the market does to those that rest.

A taker walks the ladder behind the quote; what finds no depth expires (MARKET, IOC) or rests (LIMIT). A resting
order is filled whole when the price goes through it, and otherwise by trades at its price after those who stood
there before it (the conservative queue). Our fills leave no mark on the market: it is given, candles and tape stay
exactly as the source told them.
"""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local import filters
from infra.venue.local.account import TAKER_FEE
from infra.venue.local.brackets import max_notional
from infra.venue.local.commands import PlaceOrder
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import AccountChanged, AlgoChanged, Fill, OrderChanged
from infra.venue.local.market.base import Trade
from infra.venue.local.orders import Order, Side, sign
from infra.venue.local.refusals import missing, refuse

MAX_OPEN_ORDERS = 200


class Matching:
    """The ordinary book. It changes the floor and appends to its `out`."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor

    # --- what clients ask ------------------------------------------------------------------------------------------------

    def place(self, ask: PlaceOrder) -> Order:
        """Check, accept, match. Raises Refusal before anything has changed."""
        floor = self.floor
        symbol = floor.symbol(ask.symbol)
        floor.check_open(ask.symbol, reduces=ask.reduce_only)
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
        if ask.reduce_only:
            qty = self.reducible(ask.symbol, ask.side, qty, market=market)
        else:
            filters.check_notional(symbol, price or int(mark / symbol.tick), qty)
        if not market:
            filters.check_band(symbol, ask.side, price, mark)
        self._check_margin(ask, price, qty)
        if len(floor.resting[ask.symbol]) >= MAX_OPEN_ORDERS:
            raise refuse(-2025)
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
            reduce_only=ask.reduce_only,
            created_t=floor.now,
            updated_t=floor.now,
            orig_type=ask.type,
        )
        self.accept(order)
        return order

    def reducible(self, symbol: str, side: Side, qty: int, *, market: bool) -> int:
        """How much a reduce-only order may have; refuses one that reduces nothing, or for which resting ones leave nothing."""
        held = self.floor.position(symbol).steps
        if held * sign(side) >= 0:
            raise refuse(-2022)
        spoken_for = sum(o.left for o in self.floor.resting[symbol] if o.reduce_only and o.side == side)
        if market:
            qty = min(qty, abs(held))
        if spoken_for + qty > abs(held):
            raise refuse(-4118)
        return qty

    def cancel(self, order: Order) -> None:
        self._end(order, "CANCELED")

    def accept(self, order: Order) -> None:
        """NEW, then whatever can be had at once, then rest or expire."""
        floor = self.floor
        floor.keep_order(order)
        self._tell(order, "NEW")
        book = floor.books[order.symbol]
        limit = order.price or None
        if limit is None or book.crosses(order.side, limit):
            for price, qty in book.take(order.side, order.qty, limit):
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
        book = self.floor.books[symbol]
        for order in self._by_price(symbol):
            if order.is_open and book.crosses(order.side, order.price):
                for _, qty in book.take(order.side, order.left, order.price):
                    if order.is_open:
                        self._fill(order, order.price, qty, maker=True)

    def on_trade(self, trade: Trade) -> None:
        """A trade beyond a resting order's price fills it; one at its price serves the queue first."""
        seller_took = trade.buyer_is_maker
        for order in self._by_price(trade.symbol):
            if not order.is_open:
                continue
            better = order.price - trade.price if order.side == "BUY" else trade.price - order.price
            if better > 0:
                self._fill(order, order.price, order.left, maker=True)
            elif better == 0 and seller_took == (order.side == "BUY"):
                served = min(order.queue_ahead, trade.qty)
                order.queue_ahead -= served
                if trade.qty > served:
                    self._fill(order, order.price, min(order.left, trade.qty - served), maker=True)

    def _by_price(self, symbol: str) -> list[Order]:
        return sorted(self.floor.resting[symbol], key=lambda o: (-o.price if o.side == "BUY" else o.price, o.id))

    # --- consequences -----------------------------------------------------------------------------------------------------

    def _fill(self, order: Order, price: int, qty: int, *, maker: bool) -> None:
        floor = self.floor
        position = floor.position(order.symbol)
        before = position.steps
        if order.reduce_only:
            qty = min(qty, abs(before) if before * sign(order.side) < 0 else 0)
            if not qty:
                self._end(order, "EXPIRED")
                return
        realised, fee = floor.account.settle(order.symbol, order.side, price, qty, maker, floor.now)
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
        )
        fills.append(fill)
        symbol = floor.symbols[order.symbol]
        order.filled += qty
        order.turnover += symbol.tick * symbol.step * price * qty
        order.status = "FILLED" if order.left == 0 else "PARTIALLY_FILLED"
        order.updated_t = floor.now
        if order.status == "FILLED" and order in floor.resting[order.symbol]:
            floor.resting[order.symbol].remove(order)
        floor.out.append(OrderChanged(order.frozen(), "TRADE", floor.now, fill))
        floor.out.append(AccountChanged(floor.account.wallet, position.frozen(), floor.marks[order.symbol], floor.now))
        if before and before * position.steps <= 0:
            self._gone(order.symbol, before)

    def _gone(self, symbol: str, before: int) -> None:
        """A position has ended: what was there only to close it ends with it."""
        floor = self.floor
        closing: Side = "SELL" if before > 0 else "BUY"
        for order in list(floor.resting[symbol]):
            if order.reduce_only and order.side == closing:
                self._end(order, "EXPIRED")
        for algo in list(floor.armed[symbol]):
            if algo.close_position and algo.side == closing:
                floor.armed[symbol].remove(algo)
                algo.status, algo.updated_t = "EXPIRED", floor.now
                floor.out.append(AlgoChanged(algo.frozen(), floor.now))

    def _end(self, order: Order, status: str) -> None:
        order.status, order.updated_t = status, self.floor.now
        if order in self.floor.resting[order.symbol]:
            self.floor.resting[order.symbol].remove(order)
        self._tell(order, "CANCELED" if status == "CANCELED" else "EXPIRED")

    def _tell(self, order: Order, execution: str) -> None:
        assert execution in ("NEW", "CANCELED", "EXPIRED")
        self.floor.out.append(OrderChanged(order.frozen(), execution, self.floor.now))  # type: ignore[arg-type]

    def _check_margin(self, ask: PlaceOrder, price: int, qty: int) -> None:
        """Margin and leverage bracket for the part of the order that would grow the position."""
        if ask.reduce_only:
            return
        floor = self.floor
        symbol = floor.symbols[ask.symbol]
        position = floor.position(ask.symbol)
        growing = qty
        if position.steps * sign(ask.side) < 0:
            growing = max(0, qty - abs(position.steps))
        if not growing:
            return
        book = floor.books[ask.symbol]
        at = price or (book.ask if ask.side == "BUY" else book.bid)
        notional = symbol.tick * symbol.step * at * growing
        held = abs(position.notional(floor.marks[ask.symbol])) if position.steps * sign(ask.side) > 0 else Decimal(0)
        same_side = floor.resting_notional(ask.symbol, ask.side)
        if held + same_side + notional > max_notional(symbol.base, position.leverage):
            raise refuse(-2027)
        if notional / position.leverage + notional * TAKER_FEE > floor.available():
            raise refuse(-2019)
