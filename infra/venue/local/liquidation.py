"""The end of an account or of an isolated position: when the margin balance falls to the maintenance margin.

All cross positions go at once, each at the price at which its share of the balance is used up (the bankruptcy price), by
an order `autoclose-...` that is CALCULATED, not matched. The fee takes what is left; what is missing the insurance fund
pays. The real exchange first tries smaller steps by bracket, and delevers others (ADL): both happen here by hand (`take`).

A judgement gives each symbol a band of marks within which none can follow, so that a mark costs two comparisons.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from infra.venue.local import filters
from infra.venue.local.account import Position, money
from infra.venue.local.commands import AutoClose
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import AccountChanged, Booked
from infra.venue.local.matching import Matching
from infra.venue.local.orders import Order
from infra.venue.local.refusals import refuse

FEE: Final = Decimal("0.0125")
STEEPEST: Final = Decimal("1.5")  # a quote unit of loss takes this much: itself, and maintenance of at most half
Band = tuple[Decimal, Decimal]


class Liquidation:
    def __init__(self, floor: Floor, matching: Matching) -> None:
        self.floor = floor
        self.matching = matching
        self._bands: dict[str, Band] = {}
        self._version = -1

    def on_mark(self, symbol: str, mark: Decimal) -> None:
        if self._version == self.floor.account.version:
            band = self._bands.get(symbol)
            if band is None or band[0] < mark < band[1]:
                return
        self._judge(symbol)

    def take(self, ask: AutoClose) -> None:
        """A part of a position at the mark, without asking its owner. What rests stays, as far as it still reduces."""
        floor = self.floor
        symbol = floor.symbol(ask.symbol)
        position = floor.position(ask.symbol, ask.position_side)
        qty = min(filters.steps(symbol, ask.qty, market=True), abs(position.steps))
        if not qty:
            raise refuse(-2022)
        price = int(floor.marks[ask.symbol] / symbol.tick)
        order = self._order(position, qty, price, ask.client_id)
        fee = symbol.tick * symbol.step * price * qty * FEE if ask.client_id.startswith("autoclose") else Decimal(0)
        self.matching.calculate(order, money(fee))

    def _judge(self, symbol: str) -> None:
        floor = self.floor
        held = list(floor.account.open_positions())
        cross = [p for p in held if not p.is_isolated]
        doomed = [p for p in held if p.is_isolated and self._spare([p], p.bound) <= 0]
        if cross and self._spare(cross, floor.account.cross_wallet) <= 0:
            self._liquidate(cross, floor.account.cross_wallet)
        for position in doomed:
            self._liquidate([position], position.bound)
        if floor.account.cross_wallet < 0 and not any(not p.is_isolated for p in floor.account.open_positions()):
            self._cover(floor.account.positions[symbol])  # closed by its owner, too late
        self._mark_bands()

    def _spare(self, positions: list[Position], wallet: Decimal) -> Decimal:
        """How much may be lost before the end."""
        marks = self.floor.marks
        return wallet + sum((p.unrealised(marks[p.symbol.name]) - self.floor.maintenance(p) for p in positions), Decimal(0))

    def _mark_bands(self) -> None:
        account, marks = self.floor.account, self.floor.marks
        self._bands, self._version = {}, account.version
        held = list(account.open_positions())
        cross = [p for p in held if not p.is_isolated]
        share = self._spare(cross, account.cross_wallet) / len(cross) if cross else Decimal(0)
        for position in held:
            spare = self._spare([position], position.bound) if position.is_isolated else share
            room = spare / (STEEPEST * abs(position.qty))
            name = position.symbol.name
            low, high = marks[name] - room, marks[name] + room
            known = self._bands.get(name, (low, high))
            self._bands[name] = max(low, known[0]), min(high, known[1])

    def _liquidate(self, positions: list[Position], wallet: Decimal) -> None:
        floor = self.floor
        for order in floor.open_orders():
            if any(order.symbol == p.symbol.name for p in positions):
                self.matching.cancel(order)
        needs = {p.key: floor.maintenance(p) for p in positions}
        whole = sum(needs.values(), Decimal(0))
        balance = wallet + sum((p.unrealised(floor.marks[p.symbol.name]) for p in positions), Decimal(0))
        shares = {p.key: balance * needs[p.key] / whole if whole else Decimal(0) for p in positions}
        for position in positions:
            self._close(position, shares[position.key], is_last=position is positions[-1])

    def _close(self, position: Position, share: Decimal, *, is_last: bool) -> None:
        """At the price where this part of the balance is gone, on the grid and never beyond it."""
        floor = self.floor
        symbol = position.symbol
        long = position.steps > 0
        mark = floor.marks[symbol.name]
        price = mark - share / position.qty
        ticks = int(price / symbol.tick) + (1 if long and price % symbol.tick else 0)
        order = self._order(position, abs(position.steps), max(1, ticks))
        notional = symbol.tick * symbol.step * order.price * order.qty
        paid = notional - abs(position.cost) if long else abs(position.cost) - notional
        wallet = position.bound if position.is_isolated else floor.account.cross_wallet
        left = max(Decimal(0), wallet + paid) if is_last else Decimal(0)
        self.matching.calculate(order, money(min(notional * FEE, left)))

    def _order(self, position: Position, qty: int, price: int, client_id: str = "") -> Order:
        floor = self.floor
        floor.order_id += 1
        return Order(
            id=floor.order_id,
            client_id=client_id or f"autoclose-{floor.now}{floor.order_id % 1_000_000:06d}",
            symbol=position.symbol.name,
            side="SELL" if position.steps > 0 else "BUY",
            type="LIMIT",
            tif="IOC",
            price=price,
            qty=qty,
            reduce_only=True,
            created_t=floor.now,
            updated_t=floor.now,
            orig_type="LIMIT",
            position_side=position.side,
        )

    def _cover(self, position: Position) -> None:
        """The insurance fund pays what a wallet lacks."""
        floor = self.floor
        name, lacking = position.symbol.name, -floor.account.cross_wallet
        floor.account.book(None, lacking, floor.now)
        floor.note(Booked(name, "INSURANCE_CLEAR", lacking, position.side, floor.now, len(floor.booked) + 1))
        wallet, cross = floor.account.wallet, floor.account.cross_wallet
        floor.out.append(AccountChanged(wallet, position.frozen(), floor.marks[name], floor.now, cross, "INSURANCE_CLEAR", lacking))
