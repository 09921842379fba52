"""Moving what protects a position. Where two may rest side by side the new one comes first, and nothing is ever bare. Where they
may not (spot), the old one is cancelled, then the new one placed; the time between is told, and whoever watches the market then
must close when the level is passed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from infra.venue.port import Meaning, OutcomeKind, Protection, Protector, VenueError


class Moved(NamedTuple):
    """What rests now. `bare_s`: how long nothing rested; 0 where the two rested side by side. `refused`: why the old level rests
    again instead of the wanted one; WOULD_TRIGGER means that the market has passed the wanted level: close."""

    protection: Protection
    bare_s: float
    refused: VenueError | None = None


class Bare(Exception):
    """The old protection is gone, and neither the wanted one nor the old level rests: close at market. `why`: of the wanted one."""

    def __init__(self, wanted: Protection, bare_s: float, why: VenueError) -> None:
        super().__init__(f"{wanted.instrument} rests without protection: {why}")
        self.wanted = wanted
        self.bare_s = bare_s
        self.why = why


async def move(venue: Protector, old: Protection, wanted: Protection, clock: Callable[[], float] = time.monotonic) -> Moved:
    """Raises Bare; VenueError: the old one rests on, or (NO_SUCH_ORDER) it is gone by itself. Then re-read the position: side by
    side the new one rests for what may be left of it."""
    if venue.side_by_side:
        await _place(venue, wanted)
        await venue.unprotect(old.instrument, old.client_id)
        return Moved(wanted, 0.0)
    await venue.unprotect(old.instrument, old.client_id)
    began = clock()
    try:
        await _place(venue, wanted)
        return Moved(wanted, clock() - began)
    except VenueError as refused:
        why = refused
    try:  # the old level is better than none
        back = replace(old, client_id=wanted.client_id)
        await _place(venue, back)
    except VenueError:
        raise Bare(wanted, clock() - began, why) from why
    return Moved(back, clock() - began, why)


async def _place(venue: Protector, wanted: Protection) -> None:
    """An unknown outcome is asked for, never sent again."""
    try:
        await venue.protect(wanted)
    except VenueError as e:
        if e.outcome.kind is not OutcomeKind.UNKNOWN and e.outcome.meaning is not Meaning.DUPLICATE_ID:
            raise
        if wanted.client_id not in [resting.client_id for resting in await venue.protections(wanted.instrument)]:
            raise
