"""What the spot side knows: its books, balances, orders, lists and fills, what an order binds, and how all of it comes back from
the log. Who changes it is market.py.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from infra.venue.local.books import Book
from infra.venue.local.floor import Floor
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Side
from infra.venue.local.queue import Resting
from infra.venue.local.spot import refusals
from infra.venue.local.spot.balances import Balances
from infra.venue.local.spot.orders import OrderList, SpotFill, SpotOrder
from infra.venue.local.spot.symbols import Grid, grid_of

FIRST_ORDER_ID: Final = 12_000_000_000
FIRST_LIST_ID: Final = 1_000_000


class SpotFloor:
    def __init__(self, floor: Floor, balance: Decimal) -> None:
        self.floor = floor
        self.grids: dict[str, Grid] = {name: grid_of(symbol) for name, symbol in floor.symbols.items()}
        self.symbols: dict[str, Symbol] = {name: grid.symbol for name, grid in self.grids.items()}
        self.books = {name: Book(grid.symbol, floor.books[name].last * grid.ticks) for name, grid in self.grids.items()}
        quotes = dict.fromkeys(symbol.quote for symbol in self.symbols.values())
        bases = dict.fromkeys(symbol.base for symbol in self.symbols.values())
        self.balances = Balances((*bases, *quotes), dict.fromkeys(quotes, balance))
        self.orders: dict[int, SpotOrder] = {}
        self.named: dict[str, SpotOrder] = {}  # the newest of each client id
        self.lists: dict[int, OrderList] = {}
        self.lists_named: dict[str, OrderList] = {}
        self.resting: dict[str, Resting[SpotOrder]] = {name: Resting() for name in self.symbols}
        self.waiting: dict[str, list[SpotOrder]] = {name: [] for name in self.symbols}
        self.fills: dict[str, list[SpotFill]] = {name: [] for name in self.symbols}
        self.order_id = FIRST_ORDER_ID
        self.list_id = FIRST_LIST_ID
        self.executions = 0
        self.updated_t = 0

    # --- reads ------------------------------------------------------------------------------------------------------------------

    def symbol(self, name: str) -> Symbol:
        self.floor.symbol(name)
        return self.symbols[name]

    def book(self, name: str) -> Book:
        """The spot book as it is now: the perpetual's quote on our grid, less what our own takers consumed here."""
        book, other, grid = self.books[name], self.floor.books[name], self.grids[name]
        book.bid, book.bid_qty = other.bid * grid.ticks, other.bid_qty * grid.steps
        book.ask, book.ask_qty = other.ask * grid.ticks, other.ask_qty * grid.steps
        book.last, book.quote_t, book.most = other.last * grid.ticks, other.quote_t, other.most
        return book

    def open_orders(self, symbol: str | None = None) -> list[SpotOrder]:
        names = self.symbols if symbol is None else (symbol,)
        return sorted((o for name in names for o in (*self.resting[name], *self.waiting[name])), key=lambda o: o.id)

    def find(self, symbol: str, order_id: int | None, client_id: str | None) -> SpotOrder | None:
        self.symbol(symbol)
        order = self.orders.get(order_id) if order_id is not None else self.named.get(client_id or "")
        return order if order is not None and order.symbol == symbol else None

    def find_list(self, list_id: int | None, client_id: str | None) -> OrderList | None:
        return self.lists.get(list_id) if list_id is not None else self.lists_named.get(client_id or "")

    # --- money of an order -------------------------------------------------------------------------------------------------------

    def pays_with(self, order: SpotOrder) -> str:
        symbol = self.symbols[order.symbol]
        return symbol.quote if order.side == "BUY" else symbol.base

    def need(self, order: SpotOrder) -> Decimal:
        """What an order locks: the quantity, or what it costs at its own price."""
        symbol = self.symbols[order.symbol]
        if order.side == "SELL":
            return order.left * symbol.step
        return (order.price or order.stop) * symbol.tick * order.left * symbol.step

    def cost(self, book: Book, order: SpotOrder) -> Decimal:
        """What a market order would pay now."""
        if order.side == "SELL":
            return order.qty * book.symbol.step
        left, ticks = order.qty, 0
        for price, there in book.levels("BUY"):
            part = min(left, there)
            left, ticks = left - part, ticks + price * part
        return ticks * book.symbol.tick * book.symbol.step

    def affordable(self, book: Book, side: Side, quote_qty: Decimal) -> int:
        """Steps for which so much is paid, or received."""
        unit = book.symbol.tick * book.symbol.step
        left, qty = quote_qty, 0
        for price, there in book.levels(side):
            part = min(there, int(left / (price * unit)))
            qty, left = qty + part, left - part * price * unit
            if part < there:
                break
        if not qty:
            raise refusals.filtered("NOTIONAL")
        return qty

    # --- what survives a restart -------------------------------------------------------------------------------------------------

    def restore_order(self, order: SpotOrder, number: int) -> None:
        """A row of the log; the last one of each order holds."""
        self.orders[order.id] = self.named[order.client_id] = order
        self.order_id, self.executions = max(self.order_id, order.id), number
        self.updated_t = order.updated_t

    def restore_list(self, made: OrderList) -> None:
        self.lists[made.id] = self.lists_named[made.client_id] = made
        self.list_id = max(self.list_id, made.id)

    def restore_fill(self, fill: SpotFill) -> None:
        symbol = self.symbols[fill.symbol]
        self.fills[fill.symbol].append(fill)
        amount = fill.qty * symbol.step
        paid, got = (fill.quote, amount) if fill.side == "BUY" else (amount, fill.quote)
        self.balances.pay(symbol.quote if fill.side == "BUY" else symbol.base, paid)
        self.balances.earn(fill.fee_asset, got - fill.fee)

    def restored(self) -> None:
        """All rows have been read: put the open orders where they belong, and lock for them again."""
        for order in self.orders.values():
            if order.is_open:
                place = self.waiting if order.is_waiting else self.resting
                place[order.symbol].append(order)
                self.balances.lock(self.pays_with(order), order.locked)
