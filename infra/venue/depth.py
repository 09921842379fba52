"""A book built from one snapshot and the depth events after it, as the exchange prescribes: no gap is passed over.

The first event must reach back to the snapshot (U <= lastUpdateId <= u), each later one must follow its predecessor (pu = u).
Prices and quantities are Decimal; a level of quantity 0 is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any


class Gap(Exception):
    """An event is missing: only a new snapshot helps."""


class DepthBook:
    def __init__(self, snapshot: Mapping[str, Any]) -> None:
        """`snapshot`: the answer of GET depth."""
        self.update_id = int(snapshot["lastUpdateId"])
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self._joined = False
        _put(self.bids, snapshot["bids"])
        _put(self.asks, snapshot["asks"])

    def apply(self, event: Mapping[str, Any]) -> bool:
        """Take in a depthUpdate; False for one that the snapshot holds already. Raises Gap."""
        first, last = int(event["U"]), int(event["u"])
        if not self._joined:
            if last < self.update_id:
                return False
            if first > self.update_id:
                raise Gap(f"the first event begins at {first}, behind the snapshot's {self.update_id}")
        elif int(event["pu"]) != self.update_id:
            raise Gap(f"an event follows {event['pu']}, the book is at {self.update_id}")
        self._joined, self.update_id = True, last
        _put(self.bids, event["b"])
        _put(self.asks, event["a"])
        return True

    def best(self) -> tuple[Decimal, Decimal]:
        """Best bid and ask; infinite where a side is empty."""
        return max(self.bids, default=Decimal("-Infinity")), min(self.asks, default=Decimal("Infinity"))

    @property
    def is_crossed(self) -> bool:
        bid, ask = self.best()
        return bid >= ask


def _put(side: dict[Decimal, Decimal], levels: Iterable[Iterable[str]]) -> None:
    for price, quantity in levels:
        if amount := Decimal(quantity):
            side[Decimal(price)] = amount
        else:
            side.pop(Decimal(price), None)
