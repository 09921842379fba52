"""What protects a position, seen from the exchange alone: one answer for the guardian and for whoever waits until all is protected.

A stop counts when it is at market and can only reduce, lies between the mark and the liquidation, and is no wider than it may be:
our own as far as a plan and the slippage of its entry may have put it, a foreign one up to our own level. A stop-limit may not
fill, and a trailing stop says not where it is: neither counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from processors.filters import Filters, stop_price
from schemas.ids import Purpose, purpose_of
from schemas.policy import Policy
from schemas.units import OrderSide, Side

STOP_TYPES = ("STOP_MARKET",)
OURS = (Purpose.STOP, Purpose.GUARDIAN)


@dataclass(frozen=True, slots=True)
class Held:
    """A position as the exchange states it. `liquidation` 0 = none. `at`: venue time of its last change."""

    instrument: str
    side: Side
    quantity: Decimal
    entry: Decimal
    mark: Decimal
    liquidation: Decimal
    at: int

    @property
    def notional(self) -> Decimal:
        return self.quantity * self.mark


@dataclass(frozen=True, slots=True)
class Resting:
    """A live order of either book that can only reduce (conditional, or reduce-only). `price`: its trigger, else its limit."""

    instrument: str
    client_id: str
    algo: bool
    type: str
    side: OrderSide
    price: Decimal
    quantity: Decimal
    close_position: bool


class Planned(NamedTuple):
    """What the log says of a position's plan, as far as it is known: nothing here needs it."""

    side: Side
    entry: Decimal
    stop: Decimal


class Bounds(NamedTuple):
    """`level`: where a stop of ours goes, and the widest that a foreign one may be. `widest`: the same for our own. None: nowhere,
    `why` says it."""

    level: Decimal | None
    widest: Decimal | None
    why: str = ""


def bounds(position: Held, policy: Policy, filters: Filters | None = None, plan: Planned | None = None) -> Bounds:
    """By the plan where one is known and is of this position, else by the policy. Without filters levels are not rounded."""
    if position.entry <= 0:
        return Bounds(None, None, "the entry price is not known")
    sign, slippage = position.side.sign, policy.execution.max_slippage
    level = position.entry * (1 - sign * min(policy.exits.widest_stop, policy.guardian.distance))
    widest = position.entry * (1 - sign * (policy.exits.widest_stop + slippage))
    if plan is not None and plan.side is position.side and abs(plan.entry / position.entry - 1) <= slippage:
        level, widest = plan.stop, wider(plan.stop, widest, position.side)
    if position.liquidation > 0:
        nearest = position.liquidation * (1 + sign * policy.risk.liquidation_buffer)
        level = nearest if is_wider(level, nearest, position.side) else level
    if filters is not None:
        level = stop_price(level, position.side, filters)
    if level <= 0:
        return Bounds(None, widest, "the stop level would lie below zero")
    if (position.mark - level) * sign <= 0:
        return Bounds(None, widest, f"the mark {position.mark} has passed the stop level {level}")
    return Bounds(level, widest)


def covered(position: Held, orders: Iterable[Resting], limits: Bounds) -> bool:
    """Whether live stops take the whole position: one closePosition stop, or quantities that add up (a swap under way)."""
    stops = [order for order in orders if protects(position, order, limits)]
    return any(order.close_position for order in stops) or sum((o.quantity for o in stops), Decimal(0)) >= position.quantity


def protects(position: Held, order: Resting, limits: Bounds) -> bool:
    if order.instrument != position.instrument or not order.algo or order.type not in STOP_TYPES:
        return False
    if order.side is not position.side.closes_with or not right_side(position, order.price):
        return False
    limit = limits.widest if purpose_of(order.client_id) in OURS else limits.level
    return limit is not None and not is_wider(order.price, limit, position.side)


def right_side(position: Held, price: Decimal) -> bool:
    """Between the mark and the liquidation price."""
    if position.side is Side.LONG:
        return position.liquidation < price < position.mark
    return price > position.mark and (position.liquidation <= 0 or price < position.liquidation)


def is_wider(price: Decimal, than: Decimal, side: Side) -> bool:
    """Whether a stop at `price` gives the position more room to lose."""
    return (than - price) * side.sign > 0


def wider(a: Decimal, b: Decimal, side: Side) -> Decimal:
    return min(a, b) if side is Side.LONG else max(a, b)


def bare(
    positions: Sequence[Held],
    orders: Sequence[Resting],
    policy: Policy,
    filters: Mapping[str, Filters] | None = None,
) -> list[str]:
    """Instruments that live stops do not cover."""
    known = filters or {}
    return sorted(
        held.instrument for held in positions if not covered(held, orders, bounds(held, policy, known.get(held.instrument)))
    )
