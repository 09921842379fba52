"""The state that matching and triggers share: symbols, money, quotes, marks, both order books, and the counters
behind every id.

Ids come from counters, never from chance, so that the same commands and the same market give the same history.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final, NamedTuple

from infra.venue.local.account import START_BALANCE, Account, Position
from infra.venue.local.books import Book
from infra.venue.local.brackets import maintenance_margin
from infra.venue.local.happenings import Booked, Fill, FundingSettled, Happening
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Algo, Order, PositionSide
from infra.venue.local.queue import Resting
from infra.venue.local.refusals import refuse

FIRST_ORDER_ID: Final = 8_000_000_000  # beyond 32 bits, as on the real exchange
FIRST_ALGO_ID: Final = 3_000_000_000


class Amendment(NamedTuple):
    """`before` without its place in the queue, which moves untold."""

    before: Order
    after: Order


def amendment(before: Order, after: Order) -> Amendment:
    return Amendment(replace(before, queue_ahead=0), after.frozen())


class Floor:
    """Everything the engine knows. `out` collects what has happened during one `apply`."""

    def __init__(self, symbols: tuple[Symbol, ...], last_prices: dict[str, int], balance: Decimal = START_BALANCE) -> None:
        self.symbols: dict[str, Symbol] = {s.name: s for s in symbols}
        self.account = Account(self.symbols, balance)
        self.books = {s.name: Book(s, last_prices[s.name]) for s in symbols}
        self.marks: dict[str, Decimal] = {s.name: last_prices[s.name] * s.tick for s in symbols}
        self.orders: dict[int, Order] = {}
        self.algos: dict[int, Algo] = {}
        self.resting: dict[str, Resting[Order]] = {s.name: Resting() for s in symbols}
        self.armed: dict[str, list[Algo]] = {s.name: [] for s in symbols}
        self.fills: dict[str, list[Fill]] = {s.name: [] for s in symbols}
        self.booked: list[Booked] = []
        self.fundings: dict[str, list[FundingSettled]] = {s.name: [] for s in symbols}
        self.amendments: list[Amendment] = []
        self.order_id = FIRST_ORDER_ID
        self.algo_id = FIRST_ALGO_ID
        self.order_named: dict[str, Order] = {}  # the newest of each client id: only it can be open
        self.algo_named: dict[str, Algo] = {}
        self.status: dict[str, str] = dict.fromkeys(self.symbols, "TRADING")
        self.now = 0
        self.out: list[Happening] = []

    def symbol(self, name: str) -> Symbol:
        try:
            return self.symbols[name]
        except KeyError:
            raise refuse(-1121) from None

    def check_open(self, symbol: str, *, reduces: bool) -> None:
        """Refuse where the symbol's status forbids an order."""
        status = self.status[symbol]
        if status == "CLOSE":
            raise refuse(-4141)
        if status != "TRADING" and not reduces:
            raise refuse(-4140)

    def position(self, symbol: str, side: PositionSide = "BOTH") -> Position:
        return self.account.leg(symbol, side)

    def check_side(self, side: PositionSide) -> None:
        """A hedged account names the leg, a one-way account has none."""
        if (side != "BOTH") != self.account.dual:
            raise refuse(-4061)

    def note(self, booked: Booked) -> None:
        self.booked.append(booked)
        self.out.append(booked)

    def keep_order(self, order: Order) -> None:
        self.orders[order.id] = order
        self.order_named[order.client_id] = order

    def keep_algo(self, algo: Algo) -> None:
        self.algos[algo.id] = algo
        self.algo_named[algo.client_id] = algo

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        names = self.resting if symbol is None else (symbol,)
        return [order for name in names for order in self.resting[name]]

    def live_algos(self, symbol: str | None = None) -> list[Algo]:
        names = self.armed if symbol is None else (symbol,)
        return [algo for name in names for algo in self.armed[name]]

    def unrealised(self) -> Decimal:
        return sum((p.unrealised(self.marks[p.symbol.name]) for p in self.account.open_positions()), Decimal(0))

    def cross_unrealised(self) -> Decimal:
        held = self.account.open_positions()
        return sum((p.unrealised(self.marks[p.symbol.name]) for p in held if not p.is_isolated), Decimal(0))

    def position_margin(self, *, cross_only: bool = False) -> Decimal:
        held = [p for p in self.account.open_positions() if not (cross_only and p.is_isolated)]
        return sum((p.initial_margin(self.marks[p.symbol.name]) for p in held), Decimal(0))

    def order_margin(self, symbol: str | None = None) -> Decimal:
        """Margin held for resting orders that may grow a position: per symbol the larger of the two sides, of a hedged
        account both."""
        total = Decimal(0)
        for name in self.resting if symbol is None else (symbol,):
            if self.resting[name]:
                buys, sells = self.resting_notional(name, "BUY"), self.resting_notional(name, "SELL")
                total += (buys + sells if self.account.dual else max(buys, sells)) / self.position(name).leverage
        return total

    def resting_notional(self, symbol: str, side: str) -> Decimal:
        spec = self.symbols[symbol]
        units = sum(o.price * (o.qty - o.filled) for o in self.resting[symbol] if o.side == side and not o.reduce_only)
        return spec.tick * spec.step * units

    def maintenance(self, position: Position) -> Decimal:
        notional = abs(position.notional(self.marks[position.symbol.name]))
        return maintenance_margin(position.symbol.base, notional)

    def available(self) -> Decimal:
        """What new positions may bind as margin."""
        equity = self.account.cross_wallet + self.cross_unrealised()
        free = equity - self.position_margin(cross_only=True) - self.order_margin()
        return max(Decimal(0), free)
