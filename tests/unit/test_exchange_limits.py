"""What a client may ask of the exchange, and what those get who ask for more."""

from __future__ import annotations

import pytest

from infra.venue.local.connection import Pace
from infra.venue.local.limits import FIRST_BAN_S, ORDERS_1M, ORDERS_10S, PATIENCE, SPOT, WEIGHT_1M, Limits, Throttled
from infra.venue.local.routes import ROUTES

NOON = 1_795_262_400.0  # a full minute


def refused(limits: Limits, now_s: float, weight: int = 1, orders: tuple[int, int] = (0, 0)) -> Throttled:
    with pytest.raises(Throttled) as caught:
        limits.admit(now_s, weight, orders)
    return caught.value


def test_the_minute_ends_and_one_may_ask_again() -> None:
    limits = Limits()
    limits.admit(NOON + 1, WEIGHT_1M)
    no = refused(limits, NOON + 12.5)
    assert (no.status, no.code, no.retry_after_s) == (429, -1003, 48)
    limits.admit(NOON + 60, WEIGHT_1M)


def test_orders_are_counted_in_ten_seconds_and_in_a_minute() -> None:
    limits = Limits()
    for _ in range(ORDERS_10S):
        limits.admit(NOON, 0, (1, 1))
    no = refused(limits, NOON + 3, 0, (1, 1))
    assert (no.status, no.code, no.retry_after_s) == (429, -1015, 7)
    limits.admit(NOON + 3, 1)  # everything else goes on
    for span in range(1, ORDERS_1M // ORDERS_10S):
        for _ in range(ORDERS_10S):
            limits.admit(NOON + 10 * span, 0, (1, 1))
    no = refused(limits, NOON + 45, 0, (1, 1))
    assert (no.code, no.retry_after_s) == (-1015, 15)


def test_who_does_not_wait_is_banned_and_longer_the_next_time() -> None:
    limits = Limits()
    now_s = NOON
    for ban_s in (FIRST_BAN_S, 2 * FIRST_BAN_S):
        limits.admit(now_s, WEIGHT_1M)
        assert [refused(limits, now_s + 1).status for _ in range(PATIENCE)] == [429] * PATIENCE
        no = refused(limits, now_s + 1)
        assert (no.status, no.retry_after_s) == (418, ban_s)
        assert refused(limits, now_s + ban_s - 30, 0).status == 418  # whatever is asked
        now_s += ban_s + 60
        limits.admit(now_s - 59, 1)


def test_limits_may_be_switched_off_and_still_count() -> None:
    limits = Limits(enforced=False)
    limits.admit(NOON, 5 * WEIGHT_1M, (5_000, 5_000))
    assert limits.counts(NOON)["weight_1m"] == 5 * WEIGHT_1M
    assert limits.counts(NOON)["enforced"] is False


@pytest.mark.parametrize(
    ("method", "path", "params", "weight"),
    [
        ("GET", "klines", {"limit": "99"}, 1),
        ("GET", "klines", {"limit": "100"}, 2),
        ("GET", "klines", {}, 5),
        ("GET", "klines", {"limit": "1000"}, 5),
        ("GET", "klines", {"limit": "1500"}, 10),
        ("GET", "depth", {"limit": "20"}, 2),
        ("GET", "depth", {"limit": "100"}, 5),
        ("GET", "depth", {}, 10),
        ("GET", "depth", {"limit": "1000"}, 20),
        ("GET", "openOrders", {"symbol": "BTCUSDT"}, 1),
        ("GET", "openOrders", {}, 40),
        ("GET", "openAlgoOrders", {}, 40),
        ("GET", "premiumIndex", {}, 10),
        ("GET", "ticker/bookTicker", {}, 5),
        ("GET", "income", {}, 30),
        ("GET", "positionSide/dual", {}, 30),
        ("GET", "userTrades", {}, 5),
        ("POST", "order", {}, 0),
        ("GET", "order", {}, 1),
    ],
)
def test_requests_weigh_what_they_weigh_there(method: str, path: str, params: dict[str, str], weight: int) -> None:
    assert ROUTES[method, "/fapi/v1/" + path].weight(params) == weight


def test_ten_messages_a_second_are_heard_and_the_eleventh_is_too_many() -> None:
    pace = Pace()
    assert not any(pace.is_too_fast(5.0 + i / 20) for i in range(10))
    assert pace.is_too_fast(5.9)
    steady = Pace()
    assert not any(steady.is_too_fast(5.0 + i * 0.11) for i in range(100))


def test_spot_counts_apart_and_by_the_day() -> None:
    limits = Limits(rules=SPOT)
    for second in range(2_000):
        limits.admit(NOON + second * 10, 0, (100, 100))
    assert limits.rules.span == ("DAY", "1D")
    with pytest.raises(Throttled, match="200000 orders per 1 DAY"):
        limits.admit(NOON + 20_000, 0, (1, 1))
