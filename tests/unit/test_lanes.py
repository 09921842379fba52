"""What waits for its insert: no hole, no record twice, bounded."""

from __future__ import annotations

from infra.clickhouse.rows import Record
from streams import lanes
from streams.lanes import Lanes
from streams.ranges import Range


def record(partition: int, offset: int, size: int = 10) -> Record:
    return Record(partition, offset, 0, None, b"x" * size, ())


def filled(found: Lanes, topic: str, partition: int, offsets: range) -> None:
    lane = found.get((topic, partition))
    assert lane is not None
    for offset in offsets:
        assert lane.next == offset
        found.append(lane, record(partition, offset))


def test_one_batch_a_topic_holds_all_its_partitions_in_order() -> None:
    found = Lanes()
    found.open({("a", 0): 5, ("a", 1): 0, ("b", 0): 7, ("c", 0): 0})
    filled(found, "a", 1, range(3))
    filled(found, "a", 0, range(5, 7))
    filled(found, "b", 0, range(7, 8))
    assert found.work.is_set()
    first, second = found.form()
    assert first.batch.topic == "a"
    assert first.batch.ranges == {0: Range(5, 6), 1: Range(0, 2)}
    assert [(one.partition, one.offset) for one in first.records] == [(0, 5), (0, 6), (1, 0), (1, 1), (1, 2)]
    assert second.batch.token == "b:0:7-7"
    assert found.form() == []
    assert not found.work.is_set()


def test_what_does_not_fit_into_a_batch_waits_for_the_next_one() -> None:
    found = Lanes()
    found.open({("a", 0): 0, ("a", 1): 0})
    filled(found, "a", 0, range(lanes.BATCH_ROWS - 1))
    filled(found, "a", 1, range(3))
    (first,) = found.form()
    assert first.batch.ranges == {0: Range(0, lanes.BATCH_ROWS - 2), 1: Range(0, 0)}
    found.written([first])
    assert found.work.is_set()
    (second,) = found.form()
    assert second.batch.ranges == {1: Range(1, 2)}


def test_there_is_no_room_until_something_is_written() -> None:
    found = Lanes()
    found.open({("a", 0): 0})
    lane = found.get(("a", 0))
    assert lane is not None
    found.append(lane, record(0, 0, lanes.WAITING_BYTES))
    assert not found.room.is_set()
    found.written(found.form())
    assert found.room.is_set()
    assert found.bytes == 0


def test_partitions_that_go_take_what_waits_with_them() -> None:
    found = Lanes()
    found.open({("a", 0): 0})
    filled(found, "a", 0, range(3))
    found.forget()
    assert found.get(("a", 0)) is None
    assert (found.form(), found.waiting, found.bytes) == ([], 0, 0)
