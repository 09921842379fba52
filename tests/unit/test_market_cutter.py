"""Frames, ticks and marks: what the gateway may write, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.market import MINUTE_MS, Cutter, Gap, Marks, Trade
from schemas import hot
from schemas.ids import PARTITIONS, partition_of

BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
T0 = 1_767_225_600_000


def cutter(**options: Any) -> Cutter:
    return Cutter("synthetic", {BTC: 1, ETH: 1}, T0, **options)


def trade(trade_id: int, t: int) -> Trade:
    return Trade(trade_id, t, 100.0 + trade_id, 0.5, trade_id % 2 == 0)


def test_a_quiet_market_writes_a_trade_a_frame_after_its_wait() -> None:
    c = cutter()
    assert c.add(BTC, trade(1, T0 + 5), 0.0) == []
    assert c.due(19.0) == []
    [frame] = c.due(20.0)
    assert (frame.first_id, frame.t, frame.p, frame.m, frame.at) == (1, [T0 + 5], [101.0], [0], T0 + 5)
    assert not frame.backfilled
    assert frame.instrument == BTC


def test_a_busy_market_fills_frames_of_a_hundred() -> None:
    c = cutter()
    frames = [frame for i in range(1, 251) for frame in c.add(BTC, trade(i, T0 + i), 0.0)]
    assert [(f.first_id, len(f.t)) for f in frames] == [(1, 100), (101, 100)]
    assert [len(f.t) for f in c.cut_all()] == [50]


def test_a_trade_seen_twice_is_dropped_and_a_gap_is_named() -> None:
    c = cutter()
    c.add(BTC, trade(1, T0 + 1), 0.0)
    assert c.add(BTC, trade(1, T0 + 1), 0.0) == ()
    assert c.duplicates == 1
    assert c.gap(BTC, 2) is None
    assert c.gap(BTC, 5) == Gap(BTC, 2, 4)
    with pytest.raises(ValueError, match="hole"):
        c.add(BTC, trade(5, T0 + 9), 0.0)


def test_backfilled_trades_have_frames_of_their_own() -> None:
    c = cutter()
    c.add(BTC, trade(1, T0 + 1), 0.0)
    [live] = c.add(BTC, trade(2, T0 + 2), 0.0, backfilled=True)
    [again] = c.add(BTC, trade(3, T0 + 3), 0.0)
    assert [live.backfilled, again.backfilled] == [False, True]


def test_a_boundary_cuts_what_is_open_and_ticks_every_partition_behind_it() -> None:
    c = cutter()
    c.add(BTC, trade(1, T0 + 59_000), 0.0)
    c.add(ETH, trade(1, T0 + 59_500), 0.0)
    assert c.passed(T0 + 59_999) == ()
    out = c.passed(T0 + MINUTE_MS)
    frames, ticks = out[:2], out[2:]
    assert {f.instrument for f in frames if isinstance(f, hot.TradeFrame)} == {BTC, ETH}
    assert [t.partition for t in ticks if isinstance(t, hot.Tick)] == list(range(PARTITIONS))
    assert {(t.at, t.boundary) for t in ticks if isinstance(t, hot.Tick)} == {(T0 + MINUTE_MS, True)}


def test_boundaries_that_a_jump_passes_all_come_in_order() -> None:
    out = cutter().passed(T0 + 3 * MINUTE_MS + 1)
    assert [e.at for e in out if isinstance(e, hot.Tick) and e.partition == 0] == [T0 + n * MINUTE_MS for n in (1, 2, 3)]


def test_a_silent_feed_stands_still_and_grows_old() -> None:
    c = cutter()
    c.passed(T0 + 500)
    first = [e for e in c.second(1000) if isinstance(e, hot.Tick) and e.partition == 3]
    second = [e for e in c.second(2000) if isinstance(e, hot.Tick) and e.partition == 3]
    assert [(e.at, e.feed_age_ms, e.boundary) for e in first + second] == [(T0 + 500, 1000, False), (T0 + 500, 2000, False)]
    assert first[0].event_id != second[0].event_id


def test_after_a_restart_ticks_go_on_where_each_partition_stopped() -> None:
    """Killed between the ticks of one boundary: partition 0 has it, the others do not."""
    ticked = dict.fromkeys(range(PARTITIONS), T0 + 30_000) | {0: T0 + MINUTE_MS}
    c = Cutter("synthetic", {BTC: 1}, T0 + 30_000, ticked)
    out = c.passed(T0 + 2 * MINUTE_MS)
    by_partition = {p: [e.at for e in out if isinstance(e, hot.Tick) and e.partition == p] for p in range(PARTITIONS)}
    assert by_partition[0] == [T0 + 2 * MINUTE_MS]
    assert by_partition[7] == [T0 + MINUTE_MS, T0 + 2 * MINUTE_MS]


def test_a_hole_that_stays_is_skipped_openly() -> None:
    c = cutter()
    c.add(BTC, trade(1, T0 + 1), 0.0)
    [before] = c.skip(BTC, 9)
    assert before.first_id == 1
    c.add(BTC, trade(9, T0 + 2), 0.0)
    assert c.cut_all()[0].first_id == 9


@given(
    st.lists(
        st.tuples(
            st.sampled_from([BTC, ETH]),
            st.integers(0, 40_000),
            st.sampled_from(["add", "due", "second", "again"]),
        ),
        max_size=120,
    ),
    st.integers(1, 7),
)
def test_whatever_comes_ids_are_whole_and_ticks_keep_their_promise(steps: list[tuple[str, int, str]], size: int) -> None:
    c = cutter(frame_trades=size)
    at, now, next_id = T0, 0.0, {BTC: 1, ETH: 1}
    log: list[Any] = []
    for name, ahead, what in steps:
        at, now = at + ahead, now + 7
        log += c.passed(at)
        log += c.add(name, trade(next_id[name], at), now)
        next_id[name] += 1
        if what == "due":
            log += c.due(now)
        elif what == "second":
            log += c.second(0)
        elif what == "again":
            log += c.add(name, trade(next_id[name] - 1, at), now)
    log += c.second(0)
    ids: dict[str, list[int]] = {BTC: [], ETH: []}
    ticked: dict[int, int] = {}
    for event in log:
        if isinstance(event, hot.Tick):
            assert event.at >= ticked.get(event.partition, 0)
            ticked[event.partition] = event.at
        else:
            ids[event.instrument] += range(event.first_id, event.first_id + len(event.t))
            assert all(t >= ticked.get(partition_of(event.instrument), 0) for t in event.t)
            assert len({t // MINUTE_MS for t in event.t}) == 1
            assert len(event.t) <= size
    assert ids == {name: list(range(1, next_id[name])) for name in ids}
    assert len({event.event_id for event in log}) == len(log)


def test_what_is_held_beside_what_is_streamed_has_marks_while_it_is_held() -> None:
    marks = Marks("synthetic", [BTC])

    def told(*names: str) -> dict[str, float]:
        marks.beside(names)
        for name in (BTC, *names):
            marks.mark(name, 100.0, 99.0, 0.0001, T0)
            marks.last(name, 100.0)
        return {mark.instrument: mark.mark for record in marks.records(T0) for mark in record.marks}

    assert told().keys() == {BTC}
    assert told(ETH).keys() == told(ETH).keys() == {BTC, ETH}
    assert told().keys() == {BTC}, "an old mark is no mark"
    assert told(ETH).keys() == {BTC, ETH}


def test_marks_carry_the_range_since_the_record_before() -> None:
    marks = Marks("synthetic", [BTC, ETH])
    marks.mark(BTC, 100.0, 99.0, 0.0001, T0)
    assert marks.records(T0) == []
    marks.last(BTC, 100.5)
    for price in (103.0, 98.0, 101.0):
        marks.mark(BTC, price, 99.5, 0.0002, T0)
    marks.quote(BTC, 100.4, 100.6)
    [first] = marks.records(T0)
    [mark] = first.marks
    assert (mark.mark, mark.high, mark.low, mark.last, mark.index) == (101.0, 103.0, 98.0, 100.5, 99.5)
    assert (mark.bid, mark.ask) == (100.4, 100.6)
    assert first.partition == partition_of(BTC)
    [second] = marks.records(T0)
    assert (second.marks[0].high, second.marks[0].low) == (101.0, 101.0)
    assert first.event_id != second.event_id
