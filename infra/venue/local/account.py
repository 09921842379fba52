"""The money: one wallet, positions one-way or hedged, cross or isolated, exact to the last of eight decimals.

The cost of a position is kept instead of its average price: closing a part takes the same part of the cost away, so
that wallet = start + realised - fees + booked holds exactly, whatever was rounded on the way. What is bound to an
isolated position is a part of the wallet: the initial margin of what is opened goes there and leaves with what is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final

from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import PositionSide, Side, sign

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
    side: PositionSide = "BOTH"
    bound: Decimal = Decimal(0)  # isolated: the part of the wallet that stands for this position alone

    @property
    def key(self) -> str:
        return self.symbol.name if self.side == "BOTH" else f"{self.symbol.name}/{self.side}"

    @property
    def is_isolated(self) -> bool:
        return self.margin_type == "ISOLATED"

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
    """The wallet and all positions. Money moves by `settle`, `book` and `bind` alone."""

    symbols: dict[str, Symbol]
    start: Decimal = START_BALANCE
    wallet: Decimal = field(init=False)
    positions: dict[str, Position] = field(init=False)  # by symbol, and by symbol/LONG and symbol/SHORT for a hedged account
    dual: bool = False
    updated_t: int = 0
    version: int = 0  # changes with everything that a margin depends on, but for prices
    exposed: dict[str, None] = field(init=False)  # symbols with an open position

    def __post_init__(self) -> None:
        self.wallet = self.start
        legs: tuple[PositionSide, ...] = ("BOTH", "LONG", "SHORT")
        made = [Position(symbol, side=side) for symbol in self.symbols.values() for side in legs]
        self.positions = {position.key: position for position in made}
        self.exposed = {}

    def legs(self, symbol: str) -> tuple[Position, Position, Position]:
        return self.positions[symbol], self.positions[f"{symbol}/LONG"], self.positions[f"{symbol}/SHORT"]

    def leg(self, symbol: str, side: PositionSide) -> Position:
        return self.positions[symbol if side == "BOTH" else f"{symbol}/{side}"]

    def shown(self) -> list[Position]:
        """Every position that this mode has, open or not."""
        return [p for p in self.positions.values() if (p.side != "BOTH") == self.dual]

    def open_positions(self) -> Iterator[Position]:
        return (p for name in self.exposed for p in self.legs(name) if p.steps)

    @property
    def cross_wallet(self) -> Decimal:
        return self.wallet - sum((p.bound for p in self.open_positions()), Decimal(0))

    def configure(self, symbol: str, leverage: int, margin_type: str) -> None:
        self.version += 1
        for position in self.legs(symbol):
            position.leverage, position.margin_type = leverage, margin_type

    def settle(
        self,
        symbol: str,
        side: Side,
        price: int,
        qty: int,
        maker: bool,
        t: int,
        position_side: PositionSide = "BOTH",
        fee: Decimal | None = None,
    ) -> tuple[Decimal, Decimal]:
        """Book one execution; gives (realised, fee), both already in the wallet."""
        position = self.leg(symbol, position_side)
        spec = position.symbol
        unit = spec.tick * spec.step * price  # quote value of one step at this price
        if fee is None:
            fee = money(unit * qty * (MAKER_FEE if maker else TAKER_FEE))
        direction = sign(side)
        closing = min(qty, abs(position.steps)) if position.steps * direction < 0 else 0
        realised = Decimal(0)
        if closing:
            whole = closing == abs(position.steps)
            part = position.cost if whole else money(position.cost * closing / abs(position.steps))
            position.bound -= position.bound if whole else money(position.bound * closing / abs(position.steps))
            realised = money(-direction * unit * closing - part)
            position.cost -= part
            position.steps += direction * closing
            position.fees = position.fees if position.steps else Decimal(0)
        opening = qty - closing
        if opening:
            position.cost += direction * unit * opening
            position.steps += direction * opening
            position.fees += fee * opening / qty
            if position.is_isolated:
                position.bound += money(unit * opening / position.leverage)
        position.realised += realised
        position.updated_t = self.updated_t = t
        self.wallet += realised - fee
        self._touched(symbol)
        return realised, fee

    def book(self, position: Position | None, amount: Decimal, t: int) -> None:
        """Money that comes or goes without an execution; an isolated position pays for itself."""
        self.wallet += amount
        if position is not None and position.is_isolated and position.steps:
            position.bound += amount
        self.updated_t = t
        self.version += 1

    def bind(self, position: Position, amount: Decimal, t: int) -> None:
        """Move margin between the wallet and an isolated position."""
        position.bound += amount
        position.updated_t = self.updated_t = t
        self._touched(position.symbol.name)

    def _touched(self, symbol: str) -> None:
        self.version += 1
        if any(position.steps for position in self.legs(symbol)):
            self.exposed[symbol] = None
        else:
            self.exposed.pop(symbol, None)
