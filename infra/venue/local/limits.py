"""How much one may ask: request weight a minute by address, orders in ten seconds and in a longer span by account (a minute
with the perpetuals, a day on spot), and what those who go on asking get.

Windows are those of the real clock (a minute begins at its full second 0), as on the real exchange. What would go over
a limit is refused with 429 and the seconds to wait; who does not wait is banned with 418 for two minutes, and for
twice as long each time after that.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from infra.venue.local.refusals import Refusal

WEIGHT_1M: Final = 2_400
ORDERS_10S: Final = 300
ORDERS_1M: Final = 1_200
DAY_S: Final = 86_400
PATIENCE: Final = 20  # refusals of one minute before a ban
FIRST_BAN_S: Final = 120
LONGEST_BAN_S: Final = 3 * 86_400


class Throttled(Refusal):
    """429 or 418 with the seconds after which one may ask again."""

    def __init__(self, code: int, message: str, status: int, retry_after_s: int) -> None:
        super().__init__(code, message, status)
        self.retry_after_s = retry_after_s


class Window:
    """What was used in the current span of real time."""

    def __init__(self, span_s: int, limit: int) -> None:
        self.span_s = span_s
        self.limit = limit
        self._number = -1
        self._used = 0

    def used(self, now_s: float) -> int:
        number = int(now_s // self.span_s)
        if number != self._number:
            self._number, self._used = number, 0
        return self._used

    def add(self, now_s: float, amount: int) -> int:
        self._used = self.used(now_s) + amount
        return self._used

    def left_s(self, now_s: float) -> int:
        """Whole seconds until the next window."""
        return max(1, math.ceil(self.span_s - now_s % self.span_s))


class Rules(NamedTuple):
    """What one market allows: weight in a minute, orders in ten seconds, orders in the longer span of so many seconds."""

    weight_1m: int
    orders_10s: int
    orders: int
    span_s: int

    @property
    def span(self) -> tuple[str, str]:
        """As a limit's interval and as the end of its header."""
        return ("DAY", "1D") if self.span_s == DAY_S else ("MINUTE", "1M")


USDM: Final = Rules(WEIGHT_1M, ORDERS_10S, ORDERS_1M, 60)
SPOT: Final = Rules(6_000, 100, 200_000, DAY_S)


class Limits:
    """`now_s` is epoch seconds everywhere."""

    def __init__(self, *, enforced: bool = True, rules: Rules = USDM) -> None:
        self.enforced = enforced
        self.rules = rules
        self.weight = Window(60, rules.weight_1m)
        self.orders_10s = Window(10, rules.orders_10s)
        self.orders_long = Window(rules.span_s, rules.orders)
        self.refused = 0
        self._refusals = Window(60, PATIENCE)
        self._bans = 0
        self._banned_until_s = 0.0

    def admit(self, now_s: float, weight: int, orders: tuple[int, int] = (0, 0)) -> None:
        """Count one request, or refuse it; `orders` is what it adds to the counts of 10 s and of the longer span."""
        if self.enforced:
            self._check(now_s, weight, orders)
        self.weight.add(now_s, weight)
        self.orders_10s.add(now_s, orders[0])
        self.orders_long.add(now_s, orders[1])

    def _check(self, now_s: float, weight: int, orders: tuple[int, int]) -> None:
        if now_s < self._banned_until_s:
            raise self._banned(now_s)
        if self.weight.used(now_s) + weight > self.weight.limit:
            self.refused += 1
            if self._refusals.add(now_s, 1) > self._refusals.limit:
                self.ban(now_s, min(FIRST_BAN_S * 2**self._bans, LONGEST_BAN_S))
                raise self._banned(now_s)
            raise Throttled(
                -1003,
                f"Too many requests; current limit of IP(127.0.0.1) is {self.weight.limit} requests per minute. "
                "Please use the websocket for live updates to avoid polling the API.",
                429,
                self.weight.left_s(now_s),
            )
        for window, added, span in (
            (self.orders_10s, orders[0], "10 SECOND"),
            (self.orders_long, orders[1], f"1 {self.rules.span[0]}"),
        ):
            if added and window.used(now_s) + added > window.limit:
                self.refused += 1
                said = f"Too many new orders; current limit is {window.limit} orders per {span}."
                raise Throttled(-1015, said, 429, window.left_s(now_s))

    def ban(self, now_s: float, span_s: float) -> None:
        self._bans += 1
        self._banned_until_s = now_s + span_s

    def _banned(self, now_s: float) -> Throttled:
        until_ms = int(self._banned_until_s * 1000)
        said = f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. Please use the websocket to avoid bans."
        return Throttled(-1003, said, 418, max(1, math.ceil(self._banned_until_s - now_s)))

    def forgive(self) -> None:
        """As if nothing had been asked yet."""
        self.__init__(enforced=self.enforced, rules=self.rules)  # type: ignore[misc]

    def counts(self, now_s: float) -> dict[str, int | bool]:
        return {
            "enforced": self.enforced,
            "weight_1m": self.weight.used(now_s),
            "orders_10s": self.orders_10s.used(now_s),
            "orders_1m": self.orders_long.used(now_s),
            "refused": self.refused,
            "banned": now_s < self._banned_until_s,
        }
