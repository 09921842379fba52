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
    assert five.v == ((((((0.1 + 0.2) + 0.1) + 0.2) + 0.1) + 0.2) + 0.1) + 0.2
    assert sum(c.trades for c in closed[:-1]) == five.trades


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
    assert (later.last_id, later.closed_at, later.open) == (89, minute(10), ((), ()))
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
    assert raw.startswith(b'{"version":1')
    assert msgspec.json.decode(raw, type=Fold) == fold


def test_a_tick_from_far_ahead_is_refused_and_closes_nothing() -> None:
    fold = one(seeded(), 7, minute(0.1), 101.0)
    with pytest.raises(ValueError, match="minutes past the last close"):
        candles.close(fold, T0 + candles.HORIZON_MS + MINUTE_MS)
    _, closed = candles.close(fold, T0 + candles.HORIZON_MS)
    assert closed[0].trades == 1
