"""How long positions stand without a stop: by the guardian's user stream, event by event, and its looks, which correct that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from infra.venue.port import Book, OrderSeen, PositionSeen
from processors.exposure import ZERO, Ended, Exposure, Word, heard, running
from processors.guardian import CONFIRM_MS
from processors.protection import STOP_TYPES, Held, Resting

Protected = Callable[[Ended, int, str], None]
"""(interval, venue time, client id of the stop): a new position has got its first stop."""


class Measure:
    """`newest`, `worst`: seconds from a fill to the stop's acknowledgement. Times come in (ms of a steady clock)."""

    def __init__(self, protected: Protected) -> None:
        self.newest = 0.0
        self.worst = 0.0
        self._protected = protected
        self._exposure: Exposure = {}
        self._ended = 0.0

    def seconds_notional(self, now_ms: float) -> float:
        """Unprotected seconds times notional, of all positions since the start."""
        return self._ended + running(self._exposure, now_ms)

    def event(self, event: OrderSeen | PositionSeen, now_ms: float) -> None:
        if isinstance(event, PositionSeen):
            for name, quantity in event.quantities:
                self._take(Word(name, quantity=quantity), event.at, "", now_ms)
            return
        order = event.order
        if event.fill is not None:
            self._take(Word(order.instrument, price=event.fill.price), order.at, "", now_ms)
        elif order.book is Book.ALGO and order.type in STOP_TYPES:
            name = order.client_id
            word = Word(order.instrument, live=name) if order.live else Word(order.instrument, gone=name)
            self._take(word, order.at, name, now_ms)

    def look(
        self, scope: set[str], held: Sequence[Held], orders: Sequence[Resting], naked: Mapping[str, float], now_ms: float
    ) -> None:
        """What the exchange shows of `scope`. `naked`: since when an instrument is seen without a stop. What the stream has
        said within the last second may be newer than the look, and stands."""
        by_name = {position.instrument: position for position in held}
        for name in sorted(scope & {*by_name, *self._exposure}):
            position, watch = by_name.get(name), self._exposure.get(name)
            if watch is not None and watch.since is not None and now_ms - watch.since < CONFIRM_MS:
                continue
            if position is None:
                self._take(Word(name, quantity=ZERO, stops=frozenset()), 0, "", now_ms)
                continue
            since = naked.get(name)
            if since is not None and now_ms - since < CONFIRM_MS:
                continue
            resting = (o.client_id for o in orders if o.instrument == name and o.algo and o.type in STOP_TYPES)
            stops = frozenset(resting if since is None else ())
            quantity = position.quantity * position.side.sign
            self._take(Word(name, quantity, position.mark, stops=stops), position.at, "", now_ms)

    def _take(self, word: Word, at: int, client: str, now_ms: float) -> None:
        moved = heard(self._exposure, word, now_ms)
        self._exposure = moved.exposure
        ended = moved.ended
        if ended is None:
            return
        self._ended += ended.seconds * ended.notional
        if ended.protected and ended.first:
            self.newest, self.worst = ended.seconds, max(self.worst, ended.seconds)
            self._protected(ended, at, client)
