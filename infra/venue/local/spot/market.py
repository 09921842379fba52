"""The spot side of the engine: orders, their triggers, order lists and balances, over the perpetuals' prices.

It shares with the perpetuals the books' ladder and its healing, the queue's rules, the clock, the symbols' status and the list
of what has happened (floor.py); positions, margin and funding it does not know. Commissions are taken from what is received:
who buys gets less than the quantity, and cannot sell all of it again.

A list of two (OCO) locks once: the first of its orders to trade, or to come onto the book, takes the lock over and makes the
other one expire.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal

from infra.venue.local.account import money
from infra.venue.local.market.base import Trade
from infra.venue.local.queue import crossed, traded
from infra.venue.local.spot import checks, filters, refusals
from infra.venue.local.spot.floor import SpotFloor
from infra.venue.local.spot.orders import (
    ALONE,
    CONDITIONAL,
    PRICED,
    BalancesChanged,
    CancelAllSpot,
    CancelSpot,
    CancelSpotList,
    ListChanged,
    OrderList,
    PlaceOco,
    PlaceSpot,
    SpotChanged,
    SpotCommand,
    SpotFill,
    SpotOrder,
)

FEE: Final = Decimal("0.001")  # maker and taker


class Spot(SpotFloor):
    """Reads go to the floor's fields and `find*`; writes through `command`, `on_quote` and `on_trade`."""

    # --- what clients ask -------------------------------------------------------------------------------------------------------

    def command(self, ask: SpotCommand) -> None:
        match ask:
            case PlaceSpot():
                self._place(ask)
            case PlaceOco():
                self._place_list(ask)
            case CancelSpot():
                order = self.find(ask.symbol, ask.order_id, ask.client_id)
                if order is None or not order.is_open:
                    raise refusals.cancel_rejected()
                self._cancel(order, ask.cancel_id)
            case CancelSpotList():
                self.symbol(ask.symbol)
                found = self.find_list(ask.list_id, ask.client_id)
                if found is None or found.is_done or found.symbol != ask.symbol:
                    raise refusals.cancel_rejected(refusals.UNKNOWN_LIST)
                self._cancel(next(o for o in map(self.orders.__getitem__, found.orders) if o.is_open), ask.cancel_id)
            case CancelAllSpot():
                self.symbol(ask.symbol)
                if not self.open_orders(ask.symbol):
                    raise refusals.cancel_rejected()
                for order in self.open_orders(ask.symbol):
                    if order.is_open:
                        self._cancel(order, "")

    def _cancel(self, order: SpotOrder, cancel_id: str) -> None:
        """An order of a list takes the whole list with it."""
        ends = [o for o in (order, self._sibling(order)) if o is not None and o.is_open]
        for one in ends:
            one.cancel_id = cancel_id or f"cancel_{one.id}"
            self._end(one, "CANCELED")
        self._tell_balances(order.symbol)
        self._close_list(order)

    def _place(self, ask: PlaceSpot) -> None:
        symbol, leg = checks.opened(self, ask.symbol), ask.leg
        market = leg.type == "MARKET"
        book = self.book(ask.symbol)
        if market and ask.qty is None:
            assert ask.quote_qty is not None  # the door asks for one of the two
            qty = self.affordable(book, ask.side, ask.quote_qty)
        else:
            assert ask.qty is not None
            qty = filters.steps(symbol, ask.qty, market=market)
        order = checks.made(self, ask.symbol, ask.side, leg, qty, ask.quote_qty or Decimal(0))
        filters.check_notional(symbol, order.price or order.stop or book.last, qty)
        checks.room(self, order, 1)
        if order.type in CONDITIONAL and order.fires_at(book.last):
            raise refusals.rejected(refusals.TRIGGERS)
        if order.type == "LIMIT_MAKER" and book.crosses(order.side, order.price):
            raise refusals.rejected(refusals.TAKES)
        self.balances.need(self.pays_with(order), self.cost(book, order) if market else self.need(order))
        self._keep(order)
        if not market:
            self._lock(order, self.need(order))
        self._start(order)

    def _place_list(self, ask: PlaceOco) -> None:
        """Two orders of one quantity; the stop is the first of them."""
        first, second = checks.pair(self, ask)
        need = max(self.need(first), self.need(second))
        self.balances.need(self.pays_with(first), need)
        self.list_id += 1
        for order in (first, second):
            order.list_id = self.list_id
            self._keep(order)
        made = OrderList(self.list_id, ask.client_id or f"list_{self.list_id}", ask.symbol, (first.id, second.id), self.floor.now)
        self._keep_list(made)
        self._lock(first, need)
        for order in (first, second):
            self._start(order)

    # --- money ------------------------------------------------------------------------------------------------------------------

    def _lock(self, order: SpotOrder, amount: Decimal) -> None:
        self.balances.lock(self.pays_with(order), amount)
        order.locked += amount

    def _unlock(self, order: SpotOrder, amount: Decimal) -> None:
        amount = min(amount, order.locked)
        self.balances.unlock(self.pays_with(order), amount)
        order.locked -= amount

    # --- the life of an order ---------------------------------------------------------------------------------------------------

    def _keep(self, order: SpotOrder) -> None:
        self.order_id += 1
        order.id = self.order_id
        order.client_id = order.client_id or f"auto_{order.id}"
        self.orders[order.id] = self.named[order.client_id] = order

    def _keep_list(self, made: OrderList) -> None:
        self.lists[made.id] = self.lists_named[made.client_id] = made
        first, second = (self.orders[number].client_id for number in made.orders)
        self.floor.out.append(ListChanged(made, (first, second), self.floor.now))

    def _start(self, order: SpotOrder) -> None:
        if order.type in CONDITIONAL:
            self.waiting[order.symbol].append(order)
            self._tell(order, "NEW")
            self._tell_balances(order.symbol)
            return
        order.working_t = self.floor.now
        self._tell(order, "NEW")
        self._take_then_rest(order)
        self._tell_balances(order.symbol)

    def _trigger(self, order: SpotOrder) -> None:
        """A stop comes onto the book: what waited with it in a list goes."""
        self.waiting[order.symbol].remove(order)
        order.working_t = order.updated_t = self.floor.now
        self._outlive(order)
        self._tell(order, "NEW")
        if not order.price:
            self._unlock(order, order.locked)  # it pays what the book asks
        self._take_then_rest(order)
        self._tell_balances(order.symbol)

    def _take_then_rest(self, order: SpotOrder) -> None:
        book, limit = self.book(order.symbol), order.price or None
        if order.tif == "FOK" and book.reachable(order.side, limit) < order.left:
            self._expire(order, "UNFILLED_FOK_ORDER_EXPIRED")
            return
        if limit is None or book.crosses(order.side, limit):
            for price, qty in book.take(order.side, order.left, limit, self.floor.now):
                self._fill(order, price, qty, maker=False)
        if not order.is_open:
            return
        if order.type not in PRICED:
            self._expire(order, "INSUFFICIENT_LIQUIDITY")
        elif order.tif == "IOC":
            self._expire(order, "UNFILLED_IOC_QUANTITY_EXPIRED")
        else:
            order.queue_ahead = book.queue_at(order.side, order.price)
            self.resting[order.symbol].append(order)

    def on_quote(self, name: str) -> None:
        for order, qty in crossed(self.book(name), self.resting[name], self.floor.now):
            self._fill(order, order.price, qty, maker=True)
            self._tell_balances(name)

    def on_trade(self, trade: Trade) -> None:
        name = trade.symbol
        if self.resting[name]:
            for order, qty in traded(self.grids[name].trade(trade), self.resting[name]):
                self._fill(order, order.price, qty, maker=True)
                self._tell_balances(name)
        if self.waiting[name]:
            last = trade.price * self.grids[name].ticks
            for order in list(self.waiting[name]):
                if order.is_waiting and order.fires_at(last):
                    self._trigger(order)

    def _fill(self, order: SpotOrder, price: int, qty: int, *, maker: bool) -> None:
        symbol, balances = self.symbols[order.symbol], self.balances
        unit = symbol.tick * symbol.step
        buying = order.side == "BUY"
        if order.filled == 0:
            self._outlive(order)
        if order.price:
            self._unlock(order, (order.price * unit if buying else symbol.step) * qty)
        else:
            has = balances.free(self.pays_with(order))
            qty = min(qty, int(has / (price * unit if buying else symbol.step)))
            if not qty:
                return
        quote = price * unit * qty
        balances.pay(self.pays_with(order), quote if buying else qty * symbol.step)
        got, asset = (qty * symbol.step, symbol.base) if buying else (quote, symbol.quote)
        fee = money(got * FEE)
        balances.earn(asset, got - fee)
        fills = self.fills[order.symbol]
        fill = SpotFill(
            len(fills) + 1,
            order.symbol,
            order.id,
            order.list_id,
            order.side,
            price,
            qty,
            quote,
            maker,
            fee,
            asset,
            self.floor.now,
        )
        fills.append(fill)
        order.filled += qty
        order.turnover += quote
        order.status = "FILLED" if not order.left else "PARTIALLY_FILLED"
        if not order.is_open:
            self._leave(order)
        self._tell(order, "TRADE", fill)
        self._close_list(order)

    def _expire(self, order: SpotOrder, why: str) -> None:
        order.expiry = why
        self._end(order, "EXPIRED")
        self._close_list(order)

    def _end(self, order: SpotOrder, status: Literal["CANCELED", "EXPIRED"]) -> None:
        order.status = status
        self._leave(order)
        self._tell(order, status)

    def _leave(self, order: SpotOrder) -> None:
        """Off the book, and nothing is locked for it any more."""
        order.updated_t = self.floor.now
        self._unlock(order, order.locked)
        if order in self.resting[order.symbol]:
            self.resting[order.symbol].remove(order)
        if any(other is order for other in self.waiting[order.symbol]):
            self.waiting[order.symbol].remove(order)

    # --- lists ------------------------------------------------------------------------------------------------------------------

    def _sibling(self, order: SpotOrder) -> SpotOrder | None:
        if order.list_id == ALONE:
            return None
        pair = self.lists[order.list_id].orders
        return self.orders[pair[1] if order.id == pair[0] else pair[0]]

    def _outlive(self, order: SpotOrder) -> None:
        """One of two acts: it takes over what is locked, and the other one expires."""
        other = self._sibling(order)
        if other is None or not other.is_open:
            return
        order.locked, other.locked = order.locked + other.locked, Decimal(0)
        other.expiry = "OCO_TRIGGER"
        self._end(other, "EXPIRED")
        if order.price:
            self._unlock(order, order.locked - self.need(order))

    def _close_list(self, order: SpotOrder) -> None:
        other = self._sibling(order)
        if other is None or other.is_open or order.is_open or self.lists[order.list_id].is_done:
            return
        before = self.lists[order.list_id]
        self._keep_list(OrderList(before.id, before.client_id, before.symbol, before.orders, self.floor.now, is_done=True))

    # --- telling ----------------------------------------------------------------------------------------------------------------

    def _tell(
        self, order: SpotOrder, execution: Literal["NEW", "TRADE", "CANCELED", "EXPIRED"], fill: SpotFill | None = None
    ) -> None:
        self.executions += 1
        order.updated_t = self.updated_t = self.floor.now
        self.floor.out.append(SpotChanged(order.frozen(), execution, self.floor.now, self.executions, fill))

    def _tell_balances(self, name: str) -> None:
        symbol = self.symbols[name]
        self.floor.out.append(BalancesChanged(self.balances.rows((symbol.base, symbol.quote)), self.floor.now))
