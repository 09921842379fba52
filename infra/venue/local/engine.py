"""The exchange without a wire: `apply(command or market event, now)` changes the state and says what has happened.

Single writer, no clock, no I/O, no randomness: the same sequence gives the same history. A refused command raises
`Refusal` and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local import commands
from infra.venue.local.account import START_BALANCE
from infra.venue.local.brackets import max_leverage, max_notional
from infra.venue.local.commands import Command
from infra.venue.local.conditional import Conditional
from infra.venue.local.floor import Floor
from infra.venue.local.funding import Funding
from infra.venue.local.happenings import AccountChanged, Booked, ConfigChanged, Happening, ModeChanged, StatusChanged
from infra.venue.local.liquidation import Liquidation
from infra.venue.local.market.base import Depth, Mark, MarketEvent, Quote, Symbol, Trade
from infra.venue.local.matching import Matching
from infra.venue.local.orders import Algo, Order
from infra.venue.local.refusals import missing, refuse
from infra.venue.local.spot.market import Spot
from infra.venue.local.spot.orders import SpotCommand


class Engine:
    """One account on the perpetuals and one on spot, over the same prices. Reads go to `floor`, `spot` and the `find_*` methods;
    writes go through `apply` alone.
    """

    def __init__(
        self,
        symbols: tuple[Symbol, ...],
        last_prices: dict[str, int],
        balance: Decimal = START_BALANCE,
        *,
        children_compete: bool = True,
    ) -> None:
        self.floor = Floor(symbols, last_prices, balance)
        self.matching = Matching(self.floor)
        self.conditional = Conditional(self.floor, self.matching, children_compete=children_compete)
        self.funding = Funding(self.floor)
        self.liquidation = Liquidation(self.floor, self.matching)
        self.spot = Spot(self.floor, balance)

    def apply(self, what: Command | SpotCommand | MarketEvent, now: int) -> list[Happening]:
        """What follows from a command or from one market event at market time `now` (milliseconds, never going back)."""
        floor = self.floor
        floor.now = now
        if isinstance(what, Quote):
            floor.books[what.symbol].quote(what)
            if floor.resting[what.symbol]:
                self.matching.on_quote(what.symbol)
            if self.spot.resting[what.symbol]:
                self.spot.on_quote(what.symbol)
        elif isinstance(what, Trade):
            book = floor.books[what.symbol]
            book.last = what.price
            if floor.resting[what.symbol]:
                self.matching.on_trade(what)
            if floor.armed[what.symbol]:
                self.conditional.on_trade(what.symbol, what.price * book.symbol.tick)
            if self.spot.resting[what.symbol] or self.spot.waiting[what.symbol]:
                self.spot.on_trade(what)
        elif isinstance(what, Mark):
            floor.marks[what.symbol] = what.mark
            self.funding.on_mark(what)
            if floor.armed[what.symbol]:
                self.conditional.on_mark(what.symbol, what.mark)  # a stop lies before the end: the price passes it first
            self.liquidation.on_mark(what.symbol, what.mark)
        elif isinstance(what, Depth):
            floor.books[what.symbol].depth(what)
        elif isinstance(what, SpotCommand):
            self.spot.command(what)
        else:
            self._command(what)
        if not floor.out:
            return []
        happened, floor.out = floor.out, []
        return happened

    def observe(self, event: MarketEvent) -> None:
        """Know of a market event without matching anything: what was due then has been done."""
        if isinstance(event, Quote):
            self.floor.books[event.symbol].quote(event)
        elif isinstance(event, Trade):
            book = self.floor.books[event.symbol]
            book.last = event.price
            self.conditional.observe(event.symbol, "CONTRACT_PRICE", event.price * book.symbol.tick, event.t)
        elif isinstance(event, Depth):
            self.floor.books[event.symbol].depth(event)
        else:
            self.floor.marks[event.symbol] = event.mark
            self.funding.observe(event)
            self.conditional.observe(event.symbol, "MARK_PRICE", event.mark, event.t)

    def _command(self, ask: Command) -> None:
        match ask:
            case commands.PlaceOrder():
                self.matching.place(ask)
            case commands.PlaceAlgo():
                self.conditional.place(ask)
            case commands.CancelOrder():
                order = self.find_order(ask.symbol, ask.order_id, ask.client_id)
                if order is None or not order.is_open:
                    raise refuse(-2011)
                self.matching.cancel(order)
            case commands.AmendOrder():
                order = self.find_order(ask.symbol, ask.order_id, ask.client_id)
                if order is None or not order.is_open:
                    raise refuse(-2013)
                self.matching.amend(order, ask)
            case commands.CancelAllOrders():
                self.floor.symbol(ask.symbol)
                for order in self.floor.open_orders(ask.symbol):
                    self.matching.cancel(order)
            case commands.CancelAlgo():
                algo = self.find_algo(ask.algo_id, ask.client_id)
                if algo is None or not algo.is_live:
                    raise refuse(-2011)
                self.conditional.cancel(algo)
            case commands.CancelAllAlgos():
                self.floor.symbol(ask.symbol)
                for algo in self.floor.live_algos(ask.symbol):
                    self.conditional.cancel(algo)
            case commands.SetLeverage():
                self._set_leverage(ask)
            case commands.SetMarginType():
                self._set_margin_type(ask)
            case commands.SetPositionMode():
                self._set_position_mode(ask)
            case commands.MoveMargin():
                self._move_margin(ask)
            case commands.AutoClose():
                self.liquidation.take(ask)
            case commands.SetSymbolStatus():
                self.floor.symbol(ask.symbol)
                self.floor.status[ask.symbol] = ask.status
                self.floor.out.append(StatusChanged(ask.symbol, ask.status, self.floor.now))

    def _set_leverage(self, ask: commands.SetLeverage) -> None:
        symbol = self.floor.symbol(ask.symbol)
        if not 1 <= ask.leverage <= max_leverage(symbol.base):
            raise refuse(-4028)
        position = self.floor.position(ask.symbol)
        legs = self.floor.account.legs(ask.symbol)
        notional = max(abs(leg.notional(self.floor.marks[ask.symbol])) for leg in legs)
        if notional > max_notional(symbol.base, ask.leverage):
            raise refuse(-2027)
        if ask.leverage < position.leverage and notional and position.is_isolated:
            raise refuse(-4161)
        if ask.leverage < position.leverage and notional / ask.leverage - notional / position.leverage > self.floor.available():
            raise refuse(-2028)
        changed = position.leverage != ask.leverage
        self.floor.account.configure(ask.symbol, ask.leverage, position.margin_type)
        self._configured(ask.symbol, leverage_changed=changed)

    def _set_margin_type(self, ask: commands.SetMarginType) -> None:
        self.floor.symbol(ask.symbol)
        position = self.floor.position(ask.symbol)
        if position.margin_type == ask.margin_type:
            raise refuse(-4046)
        if any(leg.steps for leg in self.floor.account.legs(ask.symbol)):
            raise refuse(-4048)
        if self.floor.open_orders(ask.symbol) or self.floor.live_algos(ask.symbol):
            raise refuse(-4047)
        self.floor.account.configure(ask.symbol, position.leverage, ask.margin_type)
        self._configured(ask.symbol, leverage_changed=False)

    def _set_position_mode(self, ask: commands.SetPositionMode) -> None:
        floor = self.floor
        if floor.account.dual == ask.dual:
            raise refuse(-4059)
        if floor.open_orders() or floor.live_algos():
            raise refuse(-4067)
        if floor.account.exposed:
            raise refuse(-4068)
        floor.account.dual = ask.dual
        floor.out.append(ModeChanged(ask.dual, floor.now))

    def _move_margin(self, ask: commands.MoveMargin) -> None:
        floor = self.floor
        floor.symbol(ask.symbol)
        floor.check_side(ask.position_side)
        position = floor.position(ask.symbol, ask.position_side)
        mark = floor.marks[ask.symbol]
        if not position.steps or not position.is_isolated:
            raise refuse(-4054)
        if ask.amount > floor.available():
            raise refuse(-2019)
        free = position.bound + min(Decimal(0), position.unrealised(mark)) - position.initial_margin(mark)
        if ask.amount < 0 and -ask.amount > free:
            raise refuse(-4051)
        floor.account.bind(position, ask.amount, floor.now)
        floor.note(Booked(ask.symbol, "MARGIN", ask.amount, position.side, floor.now, len(floor.booked) + 1))
        wallet, cross = floor.account.wallet, floor.account.cross_wallet
        floor.out.append(AccountChanged(wallet, position.frozen(), mark, floor.now, cross, "MARGIN_TRANSFER"))

    def _configured(self, symbol: str, *, leverage_changed: bool) -> None:
        position = self.floor.position(symbol)
        self.floor.out.append(ConfigChanged(symbol, position.leverage, position.margin_type, self.floor.now, leverage_changed))

    def find_order(self, symbol: str, order_id: int | None, client_id: str | None) -> Order | None:
        """By id, or the newest with this client id (an id may be used again once its order is closed)."""
        if order_id is None and not client_id:
            raise missing("orderId")
        self.floor.symbol(symbol)
        orders, named = self.floor.orders, self.floor.order_named
        order = orders.get(order_id) if order_id is not None else named.get(client_id or "")
        return order if order is not None and order.symbol == symbol else None

    def find_algo(self, algo_id: int | None, client_id: str | None) -> Algo | None:
        if algo_id is None and not client_id:
            raise missing("algoId")
        if algo_id is not None:
            return self.floor.algos.get(algo_id)
        return self.floor.algo_named.get(client_id or "")
