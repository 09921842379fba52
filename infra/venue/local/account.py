"""The money: one wallet, one-way positions, exact to the last of eight decimals.

The cost of a position is kept instead of its average price: closing a part takes the same part of the cost away, so
that wallet = start + realised - fees holds exactly, whatever was rounded on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Side, sign

SATOSHI: Final = Decimal("0.00000001")
MAKER_FEE: Final = Decimal("0.0002")
TAKER_FEE: Final = Decimal("0.0005")
START_BALANCE: Final = Decimal(10_000)


def money(value: Decimal) -> Decimal:
    return value.quantize(SATOSHI, ROUND_HALF_EVEN)


@dataclass(slots=True)
class Position:
    """Signed steps (long > 0) and what they cost in quote; flat positions stay, with their settings and their history."""

    symbol: Symbol
    steps: int = 0
    cost: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)  # of the present position, for the break-even price
    realised: Decimal = Decimal(0)  # ever
    leverage: int = 20
    margin_type: str = "CROSSED"
    updated_t: int = 0

    @property
    def qty(self) -> Decimal:
        return self.steps * self.symbol.step

    @property
    def entry(self) -> Decimal:
        return abs(self.cost / self.qty) if self.steps else Decimal(0)

    @property
    def break_even(self) -> Decimal:
        return (self.cost + self.fees) / self.qty if self.steps else Decimal(0)

    def unrealised(self, mark: Decimal) -> Decimal:
        return money(self.qty * mark - self.cost) if self.steps else Decimal(0)

    def notional(self, mark: Decimal) -> Decimal:
        return self.qty * mark

    def initial_margin(self, mark: Decimal) -> Decimal:
        return abs(self.notional(mark)) / self.leverage

    def frozen(self) -> Position:
        return replace(self)


@dataclass(slots=True)
class Account:
    """The wallet and all positions. `settle` is the only way money moves."""

    symbols: dict[str, Symbol]
    start: Decimal = START_BALANCE
    wallet: Decimal = field(init=False)
    positions: dict[str, Position] = field(init=False)
    updated_t: int = 0

    def __post_init__(self) -> None:
        self.wallet = self.start
        self.positions = {name: Position(symbol) for name, symbol in self.symbols.items()}

    def open_positions(self) -> Iterator[Position]:
        return (p for p in self.positions.values() if p.steps)

    def settle(self, symbol: str, side: Side, price: int, qty: int, maker: bool, t: int) -> tuple[Decimal, Decimal]:
        """Book one execution; gives (realised, fee), both already in the wallet."""
        position = self.positions[symbol]
        spec = position.symbol
        unit = spec.tick * spec.step * price  # quote value of one step at this price
        fee = money(unit * qty * (MAKER_FEE if maker else TAKER_FEE))
        direction = sign(side)
        closing = min(qty, abs(position.steps)) if position.steps * direction < 0 else 0
        realised = Decimal(0)
        if closing:
            part = money(position.cost * closing / abs(position.steps)) if closing < abs(position.steps) else position.cost
            realised = money(-direction * unit * closing - part)
            position.cost -= part
            position.steps += direction * closing
            position.fees = position.fees if position.steps else Decimal(0)
        opening = qty - closing
        if opening:
            position.cost += direction * unit * opening
            position.steps += direction * opening
            position.fees += fee * opening / qty
        position.realised += realised
        position.updated_t = self.updated_t = t
        self.wallet += realised - fee
        return realised, fee
