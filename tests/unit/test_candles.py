"""Histories of trades and ticks, and the candles that come of them."""

from __future__ import annotations

import msgspec
import pytest

from processors import candles
from processors.candles import MINUTE_MS, Closed, Fold

T0 = 1_722_470_400_000  # a 5-minute boundary


def minute(k: float) -> int:
    return T0 + int(k * MINUTE_MS)


def seeded() -> Fold:
    return candles.seed(Fold(), T0, 100.0, next_id=7)


def one(fold: Fold, trade_id: int, t: int, p: float, q: float = 1.0, m: int = 0) -> Fold:
    return candles.trades(fold, trade_id, [t], [p], [q], [m])


def test_a_tick_closes_the_minute_and_not_the_trade_behind_it() -> None:
    fold = candles.trades(seeded(), 7, [minute(0.1), minute(0.5)], [101.0, 99.0], [1.0, 2.0], [0, 1])
    fold = one(fold, 9, minute(1.2), 98.0)
    fold, closed = candles.close(fold, minute(0.9))
    assert closed == []
    fold, closed = candles.close(fold, minute(1))
    assert closed == [Closed("1m", T0, minute(1), 101.0, 101.0, 99.0, 99.0, 3.0, 299.0, 1.0, 2, 7, 8, False, False, 0)]
    assert candles.close(fold, minute(1)) == (fold, [])


def test_a_quiet_minute_gives_a_flat_candle_at_the_close_before() -> None:
    fold, closed = candles.close(seeded(), minute(2))
    assert [(c.open_at, c.close_at, c.o, c.h, c.l, c.c, c.v, c.trades, c.flat) for c in closed] == [
        (T0, minute(1), 100.0, 100.0, 100.0, 100.0, 0.0, 0, True),
        (minute(1), minute(2), 100.0, 100.0, 100.0, 100.0, 0.0, 0, True),
    ]
    assert (closed[0].first_id, closed[0].last_id) == (7, 6)
    fold, closed = candles.close(one(fold, 7, minute(2.5), 105.0), minute(4))
    assert [(c.c, c.flat) for c in closed] == [(105.0, False), (105.0, True)]


def test_five_minutes_are_made_of_the_same_trades_as_their_minutes() -> None:
    fold = seeded()
    for k in range(4):  # the fifth minute is quiet
        fold = candles.trades(fold, 7 + 2 * k, [minute(k), minute(k + 0.5)], [100.0 + k, 90.0 - k], [0.1, 0.2], [0, 1])
    fold, closed = candles.close(fold, minute(5))
    assert [(c.interval, c.close_at) for c in closed] == [("1m", minute(k)) for k in range(1, 6)] + [("5m", minute(5))]
    five = closed[-1]
    assert (five.o, five.h, five.l, five.c, five.trades, five.first_id, five.last_id) == (100.0, 103.0, 87.0, 87.0, 8, 7, 14)
    assert five.v == (((0.1 + 0.2) + (0.1 + 0.2)) + (0.1 + 0.2)) + (0.1 + 0.2)
    assert sum(c.trades for c in closed[:-1]) == five.trades


def test_four_hours_close_every_interval_once_the_shorter_first() -> None:
    fold = seeded()
    for k in range(240):
        fold = one(fold, 7 + k, minute(k), 100.0 + k)
    fold, closed = candles.close(fold, minute(240))
    assert [c.interval for c in closed[-5:]] == ["1m", "5m", "15m", "1h", "4h"]
    assert [sum(c.interval == name for c in closed) for name in candles.INTERVALS] == [240, 48, 16, 4, 1]
    long = closed[-1]
    assert (long.open_at, long.o, long.h, long.l, long.c, long.v, long.trades) == (T0, 100.0, 339.0, 100.0, 339.0, 240.0, 240)
    assert (long.first_id, long.last_id, long.flat) == (7, 246, False)
    assert candles.close(fold, minute(240)) == (fold, [])


def test_a_longer_candle_passes_over_its_quiet_parts_and_is_flat_when_all_are() -> None:
    _, closed = candles.close(one(seeded(), 7, minute(7), 105.0), minute(30))
    told = {(c.interval, c.open_at): (c.o, c.c, c.trades, c.flat) for c in closed}
    assert told["15m", T0] == (105.0, 105.0, 1, False)  # its first five minutes stood at 100
    assert told["15m", minute(15)] == (105.0, 105.0, 0, True)


def past(open_at: int, price: float, next_id: int) -> candles.Bucket:
    return candles.Bucket(open_at, price, price + 1, price - 1, price, 2.0, 2.0 * price, 1.0, 3, 0, next_id - 1, True)


def test_a_seed_inside_an_hour_goes_on_with_the_candles_that_the_history_has_of_it() -> None:
    """55 minutes of the hour, and 3:55 of the four hours, were before the log."""
    at, begin = minute(235), minute(0)
    history = [past(begin + n * 5 * MINUTE_MS, 100.0 + n, 7) for n in range(-3, 47)]
    fold = candles.seed(Fold(), at, 146.0, 7, history)
    _, closed = candles.close(one(fold, 7, minute(236), 500.0), minute(240))
    told = {c.interval: (c.open_at, c.o, c.h, c.l, c.c, c.v, c.trades, c.first_id, c.last_id, c.backfilled) for c in closed}
    assert told["5m"] == (minute(235), 500.0, 500.0, 500.0, 500.0, 1.0, 1, 7, 7, False)
    assert told["15m"] == (minute(225), 145.0, 500.0, 144.0, 500.0, 5.0, 7, 0, 7, True)
    assert told["1h"] == (minute(180), 136.0, 500.0, 135.0, 500.0, 23.0, 34, 0, 7, True)
    assert told["4h"] == (T0, 100.0, 500.0, 99.0, 500.0, 95.0, 142, 0, 7, True)


def test_the_unfinished_candle_is_what_its_minutes_have_brought_so_far() -> None:
    assert candles.unfinished(seeded(), "5m") is None
    fold = one(one(seeded(), 7, minute(0.5), 101.0), 8, minute(1.2), 99.0)
    fold, _ = candles.close(fold, minute(1))
    fold = one(fold, 9, minute(5.1), 900.0)  # of the next one, whose time has come when a tick says so
    bucket = candles.unfinished(fold, "5m")
    assert bucket is not None
    assert (bucket.open_at, bucket.o, bucket.h, bucket.l, bucket.c, bucket.v, bucket.last_id) == (
        T0,
        101.0,
        101.0,
        99.0,
        99.0,
        2.0,
        8,
    )
    fold, closed = candles.close(fold, minute(5))
    assert (closed[-1].o, closed[-1].c, closed[-1].v) == (bucket.o, bucket.c, bucket.v)
    after = candles.unfinished(fold, "5m")
    assert after is not None
    assert (after.open_at, after.c) == (minute(5), 900.0)


def test_a_repeated_frame_changes_nothing_and_an_overlap_only_what_is_new() -> None:
    fold = candles.trades(seeded(), 7, [minute(0.1)] * 3, [1.0, 2.0, 3.0], [1.0] * 3, [0] * 3)
    assert candles.trades(fold, 7, [minute(0.1)] * 3, [9.0] * 3, [9.0] * 3, [0] * 3) is fold
    longer = candles.trades(fold, 8, [minute(0.1)] * 3, [2.0, 3.0, 4.0], [1.0] * 3, [0] * 3)
    assert longer == one(fold, 10, minute(0.1), 4.0)
    assert longer.last_id == 10


def test_a_late_trade_is_counted_and_left_out_of_every_interval() -> None:
    fold, _ = candles.close(one(seeded(), 7, minute(0.5), 100.0), minute(1))
    fold = one(one(fold, 8, minute(0.9), 500.0), 9, minute(1.1), 101.0)
    fold, closed = candles.close(fold, minute(2))
    assert [(c.h, c.trades, c.late) for c in closed] == [(101.0, 1, 1)]
    fold, closed = candles.close(fold, minute(5))
    assert [c.late for c in closed] == [0, 0, 0, 1]
    assert (closed[-1].interval, closed[-1].h, closed[-1].trades) == ("5m", 101.0, 2)


def test_a_trade_behind_a_newer_one_still_finds_its_open_minute() -> None:
    fold = candles.trades(seeded(), 7, [minute(1.1), minute(0.9), minute(1.2)], [1.0, 2.0, 3.0], [1.0] * 3, [0] * 3)
    _, closed = candles.close(fold, minute(2))
    assert [(c.o, c.c, c.trades, c.first_id, c.last_id) for c in closed] == [(2.0, 2.0, 1, 8, 8), (1.0, 3.0, 2, 7, 9)]


def test_ids_that_never_came_are_counted() -> None:
    fold = one(one(seeded(), 7, minute(0.1), 1.0), 12, minute(0.2), 1.0)
    assert (fold.missed, fold.last_id) == (4, 12)


def test_a_backfilled_trade_marks_its_candles() -> None:
    fold = candles.trades(seeded(), 7, [minute(0.1)], [1.0], [1.0], [0], backfilled=True)
    fold, closed = candles.close(one(fold, 8, minute(1.1), 1.0), minute(5))
    assert [c.backfilled for c in closed] == [True, False, False, False, False, True]


def test_a_seed_begins_anew_and_a_repeated_seed_changes_nothing() -> None:
    fold = one(seeded(), 7, minute(0.5), 100.0)
    assert candles.seed(fold, T0, 100.0, next_id=7) is fold
    later = candles.seed(fold, minute(10), 120.0, next_id=90)
    assert (later.last_id, later.closed_at, later.open) == (89, minute(10), ())
    _, closed = candles.close(later, minute(11))
    assert [(c.c, c.flat) for c in closed] == [(120.0, True)]


def test_without_a_seed_candles_begin_with_the_first_trade() -> None:
    fold = Fold()
    assert candles.close(fold, minute(3)) == (fold, [])
    fold = one(fold, 400, minute(3.5), 50.0)
    assert fold.missed == 0
    _, closed = candles.close(fold, minute(5))
    assert [(c.interval, c.open_at, c.flat) for c in closed] == [
        ("1m", minute(3), False),
        ("1m", minute(4), True),
        ("5m", T0, False),
    ]


def test_the_state_survives_bytes_and_says_its_version_first() -> None:
    fold = candles.trades(seeded(), 7, [minute(0.1), minute(1.5)], [101.0, 99.0], [1.0, 2.0], [0, 1])
    raw = msgspec.json.encode(fold)
    assert raw.startswith(b'{"version":2')
    assert msgspec.json.decode(raw, type=Fold) == fold


def test_a_tick_from_far_ahead_is_refused_and_closes_nothing() -> None:
    fold = one(seeded(), 7, minute(0.1), 101.0)
    with pytest.raises(ValueError, match="minutes past the last close"):
        candles.close(fold, T0 + candles.HORIZON_MS + MINUTE_MS)
    _, closed = candles.close(fold, T0 + candles.HORIZON_MS)
    assert closed[0].trades == 1


@pytest.mark.parametrize(
    ("t", "p", "q"),
    [
        ([minute(1)], [0.0], [1.0]),
        ([minute(1)], [-1.0], [1.0]),
        ([minute(1)], [1e307], [1.0]),
        ([minute(1)], [100.0], [1e307]),
        ([minute(1)], [float("nan")], [1.0]),
        ([minute(1)], [100.0], [-1.0]),
        ([-1], [100.0], [1.0]),
        ([minute(1), minute(2)], [100.0], [1.0]),
        ([minute(1)], [], []),
    ],
)
def test_a_frame_that_no_market_made_is_refused(t: list[int], p: list[float], q: list[float]) -> None:
    """Folded, it would spoil every later sum, logarithm or state."""
    with pytest.raises(ValueError, match="absurd"):
        candles.trades(seeded(), 7, t, p, q, [0] * len(p))


def test_a_frame_that_leaps_over_all_ids_is_refused() -> None:
    """Every real trade after it would count as seen."""
    with pytest.raises(ValueError, match="leaps"):
        one(seeded(), 10**15, minute(1), 100.0)


def test_a_recording_begins_at_any_id() -> None:
    """Where no trade was known before, the history says 1."""
    fold = one(candles.seed(Fold(), T0, 100.0, next_id=1), 5_300_000_000, minute(0.5), 101.0)
    assert fold.last_id == 5_300_000_000
