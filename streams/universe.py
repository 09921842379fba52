"""The universe as the market worker keeps it: which symbols are streamed, and, told on `market.universe`, which may be entered.

The exchange is asked every minute what it lists (41 of weight), and every five what rests near the middle of the books of those
that are fit in all else (5 each). What cannot be asked leaves everything as it was told last: one symbol's fate is its own, and an
exchange that does not answer is the feed's to report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from infra import logs
from infra.errors import UserError
from infra.venue.binance.filters import instrument_of
from infra.venue.port import MarketVenue, VenueError
from processors import universe
from processors.universe import Chosen, Listing
from schemas import ids
from schemas.market import Outside, OutsideReason, UniverseSeen
from schemas.policy import Policy

log = logs.get(__name__)
ASK_S = 60.0
DEPTH_S = 300.0
POLICY_S = 1.0
"""A new policy is looked for so often."""


class Watch:
    """`policy`: (version, policy) as it stands. One asks at a time."""

    def __init__(self, venue: MarketVenue, policy: Callable[[], tuple[int, Policy]]) -> None:
        self._venue, self._policy = venue, policy
        self._depths: dict[str, tuple[float, Decimal]] = {}
        self._said: tuple[Any, ...] | None = None
        self.chosen = Chosen((), {})

    async def symbols(self, named: Sequence[str]) -> tuple[str, ...]:
        """What is to be streamed: those that are listed. Raises VenueError, and UserError when none is."""
        listed = [ids.symbol_of(each.instrument) for each in await self._venue.listings()]
        if gone := [name for name in named if name not in listed]:
            log.error("not listed, so not streamed: what is open in them can only be closed", symbols=gone)
        if len(gone) == len(named):
            raise UserError("there is nothing to stream", "the exchange lists none of QT_SYMBOLS", "name symbols that it lists")
        return tuple(name for name in named if name not in gone)

    async def look(self, known: Sequence[str]) -> Chosen:
        """Asks the exchange. Raises VenueError."""
        policy = self._policy()[1].universe
        listings = [
            Listing(*each, depth=self._depth(each.instrument)) for each in await self._venue.listings() if each.instrument in known
        ]
        first = universe.choose(listings, policy, known)
        for name, refused in first.outside.items():
            if refused.reason is OutsideReason.DEPTH_UNKNOWN:
                self._depths[name] = time.monotonic(), universe.depth(*await self._venue.levels(name))
        self.chosen = universe.choose([each._replace(depth=self._depth(each.instrument)) for each in listings], policy, known)
        return self.chosen

    def news(self, at: int) -> UniverseSeen | None:
        """What was chosen last, if it is not what was said last. `at`: market time."""
        version = self._policy()[0]
        said = (self.chosen.members, tuple((name, refused.reason) for name, refused in self.chosen.outside.items()), version)
        if said == self._said:
            return None
        self._said = said
        return UniverseSeen(
            event_id=ids.event_id("market.universe", at, *map(str, said)),
            at=at,
            members=list(self.chosen.members),
            outside=[
                Outside(instrument=name, reason=each.reason, detail=each.detail) for name, each in self.chosen.outside.items()
            ],
            policy_version=version,
        )

    async def run(self, known: Sequence[str], market_ms: Callable[[], int], send: Callable[[Sequence[Any]], Any]) -> None:
        """Until cancelled: asks, and tells what is new."""
        while True:
            version = self._policy()[0]
            try:
                await self.look(known)
                if (news := self.news(market_ms())) is not None:
                    send([news])
                    log.info(
                        "the universe", members=len(news.members), outside={each.instrument: each.reason for each in news.outside}
                    )
            except VenueError as e:
                log.warning("the exchange does not say what it lists: the universe stays as it was", why=str(e))
            for _ in range(int(ASK_S / POLICY_S)):
                await asyncio.sleep(POLICY_S)
                if self._policy()[0] != version:
                    break

    def _depth(self, instrument: str) -> Decimal | None:
        """None: not known, or too old."""
        at, depth = self._depths.get(instrument, (-DEPTH_S, Decimal(0)))
        return depth if time.monotonic() - at < DEPTH_S else None


def instruments_of(symbols: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(instrument_of, symbols))
