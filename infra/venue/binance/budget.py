"""The rate budget: request weight counts per address, so each process is sure of a share; a part of it is for protection alone.

    lane PROTECT   stops, closes, reduce-only orders, cancels: never held back by us
    lane TRADE     reading that decisions wait for: 85 % of the share, or while the whole address is below 85 %
    lane CALM      history, refills: 50 % of the share, or while the whole address is below 75 %

Of the account's order count in 10 s closes and missing stops may use all, tightening 60 %, entries 80 %. What is not free is waited
for, except by an entry, which is refused: it would be sent at another price than it was decided at.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

ORDERS_A_10S: Final = 300
SPOT_ORDERS_A_10S: Final = 100
SPOT_WEIGHT: Final = 6000
ENTRIES_UP_TO: Final = 0.80
"""Of the account's orders in 10 s, beyond which only orders that reduce are sent."""
TIGHTENING_UP_TO: Final = 0.60
"""Beyond which a stop that only tightens waits: the net rests, and closes may need the rest."""
MINUTE_S: Final = 60.0

SHARES: Final[Mapping[str, float]] = {"market": 0.25, "account": 0.25, "execution": 0.25, "guardian": 0.20, "people": 0.05}
"""Who asks the venue at all; together the whole."""


class Lane(StrEnum):
    PROTECT = "PROTECT"
    TRADE = "TRADE"
    CALM = "CALM"


OF_SHARE: Final = {Lane.TRADE: 0.85, Lane.CALM: 0.5}
OF_ADDRESS: Final = {Lane.TRADE: 0.85, Lane.CALM: 0.75}

_BY_SYMBOL: Final = {"openOrders": (1, 40), "openAlgoOrders": (1, 40), "premiumIndex": (1, 10), "ticker/24hr": (1, 40)}
_WEIGHTS: Final = {
    "aggTrades": 20,
    "account": 5,
    "positionRisk": 5,
    "userTrades": 5,
    "allOrders": 5,
    "allAlgoOrders": 5,
    "depth": 5,
}
_ORDERS: Final = ("order", "algoOrder")


_SPOT_BY_SYMBOL: Final = {"openOrders": (6, 80), "ticker/bookTicker": (2, 4)}
_SPOT_WEIGHTS: Final = {
    "account": 20,
    "myTrades": 20,
    "allOrders": 20,
    "exchangeInfo": 20,
    "allOrderList": 20,
    "openOrderList": 6,
}


def spot_weight_of(method: str, path: str, params: Mapping[str, Any]) -> int:
    """The same on spot, whose account of weight is another one."""
    if path in _SPOT_BY_SYMBOL:
        one, all_ = _SPOT_BY_SYMBOL[path]
        return one if "symbol" in params else all_
    if method == "get" and path in ("order", "orderList"):
        return 4
    return _SPOT_WEIGHTS.get(path, 1)


def weight_of(method: str, path: str, params: Mapping[str, Any]) -> int:
    """Of one request; paths without version. Placing an order weighs nothing and counts as one."""
    if method == "post" and path in _ORDERS:
        return 0
    if path in _BY_SYMBOL:
        one, all_ = _BY_SYMBOL[path]
        return one if "symbol" in params else all_
    if path == "klines":
        limit = int(params.get("limit", 500))
        return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
    return _WEIGHTS.get(path, 1)


class Budget:
    """Of one process. `limit`: weight a minute of the address; `orders`: of the account in 10 s. `clock` in seconds, steady."""

    def __init__(
        self, share: float, limit: int, clock: Callable[[], float] = time.monotonic, *, orders: int = ORDERS_A_10S
    ) -> None:
        self._share, self._limit, self._most_orders = share * limit, limit, orders
        self.waited_s = 0.0
        self.refused = 0
        self._clock = clock
        self._asked: deque[tuple[float, int]] = deque()
        self._used = 0
        self._address: tuple[float, int] = (-MINUTE_S, 0)
        self._orders: tuple[float, int] = (-MINUTE_S, 0)

    @property
    def used(self) -> int:
        """Asked by this process in the last minute."""
        now = self._clock()
        while self._asked and self._asked[0][0] <= now - MINUTE_S:
            self._used -= self._asked.popleft()[1]
        return self._used

    def told(self, address_weight: int | None, orders_10s: int | None) -> None:
        """What the venue's answer says of the whole address, and of the account's orders."""
        now = self._clock()
        if address_weight is not None:
            self._address = (now, address_weight)
        if orders_10s is not None:
            self._orders = (now, orders_10s)

    def free(self, lane: Lane, weight: int) -> bool:
        if lane is Lane.PROTECT:
            return True
        at, address = self._address
        if self._clock() - at < MINUTE_S and address + weight <= OF_ADDRESS[lane] * self._limit:
            return True  # nobody is short of it
        return not self.used or self.used + weight <= OF_SHARE[lane] * self._share

    def entry_fits(self) -> bool:
        """Whether the account's order count leaves room for one that does not reduce."""
        fits = self._orders_below(ENTRIES_UP_TO)
        self.refused += not fits
        return fits

    def tightening_fits(self) -> bool:
        """Whether a stop may be moved now for a gain."""
        return self._orders_below(TIGHTENING_UP_TO)

    async def wait_to_tighten(self, pause_s: float = 0.25) -> None:
        while not self.tightening_fits():
            self.waited_s += pause_s
            await asyncio.sleep(pause_s)

    def _orders_below(self, share: float) -> bool:
        at, count = self._orders
        return count < share * self._most_orders or self._clock() - at >= 10.0

    def spend(self, weight: int) -> None:
        if weight:
            self._asked.append((self._clock(), weight))
            self._used += weight

    async def wait(self, lane: Lane, weight: int, pause_s: float = 0.25) -> None:
        """Until it is free; then it counts."""
        while not self.free(lane, weight):
            self.waited_s += pause_s
            await asyncio.sleep(pause_s)
        self.spend(weight)
