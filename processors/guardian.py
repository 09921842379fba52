"""The last net: from what the exchange itself says, which position has no stop, and what is to be done. No plan, no log, no memory
of ours is needed; only how long something has been seen so. A plan that the log has told says where the stop was.

Two rules. A position that no live stop covers (processors/protection.py), for longer than others may need after a fill, gets a
closePosition stop at its plan's level or the policy's distance, or is closed at market when that level has been passed. A
reduce-only or conditional order of ours without a position is cancelled once it has been seen so for a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from processors.filters import Filters
from processors.protection import Bounds, Held, Planned, Resting, bounds, covered
from schemas.ids import Purpose, client_id, purpose_of
from schemas.policy import Policy

ORPHAN_MS = 5_000
CONFIRM_MS = 1_000
"""A position without a stop must be seen so for this long, whatever happened before: others are replacing theirs."""
NO_PLANS: Mapping[str, Planned] = {}
PATIENCE = 3
"""Graces that a position may stay without a stop while fills keep coming."""


@dataclass(frozen=True, slots=True)
class PlaceStop:
    """`level` of a closePosition stop by mark price. `since_ms`: when the position was first seen without one. `limits`: what a
    stop that rests already must keep to count; `swap_id`: of the quantity stop that holds while one that does not is replaced."""

    held: Held
    level: Decimal
    client_id: str
    since_ms: float
    limits: Bounds
    swap_id: str


@dataclass(frozen=True, slots=True)
class Close:
    """Cancel `take_profits`, then sell or buy all of it, reduce-only."""

    held: Held
    client_id: str
    take_profits: tuple[Resting, ...]
    why: str
    since_ms: float


@dataclass(frozen=True, slots=True)
class CancelOrphan:
    order: Resting


Action = PlaceStop | Close | CancelOrphan


@dataclass(frozen=True, slots=True)
class Seen:
    """What has been seen before, by instrument or client id, in the caller's steady clock (ms).

    `moved`: (quantity, entry) of a position and since when it is so. `naked`: since when without a stop. `acted`: how often we
    have acted for the position as it is. `orphans`: client id -> (instrument, since when the order has no position).
    """

    moved: Mapping[str, tuple[Decimal, Decimal, float]] = field(default_factory=dict)
    naked: Mapping[str, float] = field(default_factory=dict)
    acted: Mapping[str, int] = field(default_factory=dict)
    orphans: Mapping[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def by_name(self) -> tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]:
        return self.moved, self.naked, self.acted


@dataclass(frozen=True, slots=True)
class Finding:
    """`again_ms`: when to look again though nothing has happened; None: nothing is waited for."""

    actions: tuple[Action, ...]
    seen: Seen
    again_ms: float | None


def inspect(
    instruments: Iterable[str],
    positions: Sequence[Held],
    orders: Sequence[Resting],
    now_ms: float,
    seen: Seen,
    policy: Policy,
    filters: Mapping[str, Filters],
    plans: Mapping[str, Planned] = NO_PLANS,
) -> Finding:
    """Looks at `instruments` only: positions and orders must be complete for these; what is remembered of others stays."""
    scope = set(instruments)
    held = {position.instrument: position for position in positions if position.instrument in scope}
    moved, naked, acted = (
        {name: was for name, was in memory.items() if name in held or name not in scope} for memory in seen.by_name
    )
    actions: list[Action] = []
    again: list[float] = []
    for name, position in sorted(held.items()):
        if moved.get(name, ())[:2] != (position.quantity, position.entry):
            moved[name] = (position.quantity, position.entry, now_ms)
            acted.pop(name, None)
        mine = [order for order in orders if order.instrument == name]
        limits = bounds(position, policy, filters.get(name), plans.get(name))
        if covered(position, mine, limits):
            naked.pop(name, None)
            continue
        since = naked.setdefault(name, now_ms)
        grace_ms = policy.exits.grace_s * 1000
        ripe_at = max(min(moved[name][2] + grace_ms, since + PATIENCE * grace_ms), since + CONFIRM_MS)
        if now_ms < ripe_at:
            again.append(ripe_at)
            continue
        attempt = acted[name] = acted.get(name, 0) + 1
        if name not in filters:
            limits = Bounds(None, None, "the instrument's ticks are not known")
        actions.append(_protect(position, mine, attempt, since, limits))
    orphans = {client_id: was for client_id, was in seen.orphans.items() if was[0] not in scope}
    for order in orders:
        if order.instrument not in scope or order.instrument in held or not _ours(order):
            continue
        _, since = orphans[order.client_id] = seen.orphans.get(order.client_id, (order.instrument, now_ms))
        if now_ms >= since + ORPHAN_MS:
            actions.append(CancelOrphan(order))
        else:
            again.append(since + ORPHAN_MS)
    return Finding(tuple(actions), Seen(moved, naked, acted, orphans), min(again, default=None))


def _protect(position: Held, orders: Sequence[Resting], attempt: int, since: float, limits: Bounds) -> PlaceStop | Close:
    """A stop where it shall be; a close where no such stop can be."""
    causes = (position.instrument, position.side, position.entry, position.at, attempt)
    if limits.level is not None:
        swap = client_id(
            Purpose.GUARDIAN, "swap", *causes[:-1]
        )  # of the position, not of the attempt: the exchange may hide one that rests
        return PlaceStop(position, limits.level, client_id(Purpose.GUARDIAN, "stop", *causes), since, limits, swap)
    resting = tuple(order for order in orders if not order.algo)
    return Close(position, client_id(Purpose.GUARDIAN, "close", *causes), resting, limits.why, since)


def _ours(order: Resting) -> bool:
    """Whoever placed a foreign order knows why; an entry waits for its position."""
    return purpose_of(order.client_id) not in (Purpose.FOREIGN, Purpose.ENTRY)
