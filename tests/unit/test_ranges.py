"""An announcement says exactly which batch is on its way."""

from __future__ import annotations

import pytest

from streams.ranges import Batch, Range, announced

BATCH = Batch("market.trades", {3: Range(1, 4), 0: Range(5, 9), 11: Range(7, 7)})


def test_what_is_announced_is_read_back_from_each_of_its_partitions() -> None:
    assert BATCH.token == "market.trades:0:5-9,3:1-4,11:7-7"
    for partition, (first, _) in BATCH.ranges.items():
        found = announced("market.trades", partition, first, BATCH.metadata)
        assert found == BATCH
        assert found.token == BATCH.token


def test_a_plain_commit_announces_nothing() -> None:
    assert announced("market.trades", 0, 10, "") is None
    assert announced("market.trades", 0, 10, "\0") is None


@pytest.mark.parametrize("metadata", ["0:5-9x", "0:5", "hello", "0:5-9,3:1-4\ufffd", BATCH.metadata.replace("0:5-9,", "")])
def test_anything_else_is_refused_and_not_passed_over(metadata: str) -> None:
    with pytest.raises(ValueError, match="announce"):
        announced("market.trades", 0, 5, metadata)


def test_an_announcement_of_another_offset_is_refused() -> None:
    with pytest.raises(ValueError, match="does not announce offset 6"):
        announced("market.trades", 0, 6, BATCH.metadata)


def test_the_metadata_fits_into_kafkas_limit_whatever_the_offsets() -> None:
    widest = Batch("x", {partition: Range(2**40, 2**40 + 10_000) for partition in range(12)})
    assert len(widest.metadata) < 4096
