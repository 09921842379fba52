"""Events and their bytes: every event of the registry goes out and comes back, tied to its cause."""

from __future__ import annotations

import pytest

from schemas import hot, topics
from schemas.ids import partition_of
from schemas.operations import Heartbeat
from streams.envelope import Cause, Undecodable, cause_of, decode, encode, seal

TICK = hot.Tick("t1", "market.tick", 1_000, 7, True, 3)
FRAME = hot.TradeFrame("f1", "market.trade-frame", 1_000, "binance.usdm.BTCUSDT", 1, [1_000], [1.0], [2.0], [0], "synthetic")


def test_hot_events_go_by_struct_and_come_back_so() -> None:
    for event in (TICK, FRAME):
        assert decode("market.trades", encode(event)) == event


def test_a_message_with_spaces_is_read_too() -> None:
    spaced = encode(TICK).replace(b'":', b'": ').replace(b',"', b', "')
    assert decode("market.trades", spaced) == TICK


def test_cold_events_come_back_as_their_models() -> None:
    beat = Heartbeat(
        event_id="h1",
        at=1,
        worker="w",
        member="w-0",
        pid=1,
        started_at=1,
        ready=True,
        status="",
        processed=1,
        recovered_gaps=0,
        dead_letters=0,
        rss_mb=1.0,
    )
    assert decode("health.heartbeats", encode(beat)) == beat
    assert seal(beat, "w")[:2] == ("health.heartbeats", b"w-0")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"null",
        b'{"type":"no.such"}',
        b'{"type":5}',
        encode(TICK)[:-5],
        encode(FRAME).replace(b"1.0", b'"x"'),
    ],
)
def test_bytes_that_are_no_event_are_told_apart(value: bytes) -> None:
    with pytest.raises(Undecodable):
        decode("market.trades", value)


def test_a_tick_goes_to_its_own_partition_and_a_frame_to_its_instruments() -> None:
    assert seal(TICK, "market")[1::2][:2] == (None, 7)
    out = seal(FRAME, "market")
    assert (out.topic, out.key, out.partition) == ("market.trades", b"binance.usdm.BTCUSDT", partition_of("binance.usdm.BTCUSDT"))


def test_headers_tie_an_event_to_its_cause() -> None:
    cause = cause_of("f1", "market.trades", 3, 1207, [("trace_id", b"root"), ("event_id", b"f1")], 1_722_470_400_120)
    assert cause == Cause("f1", "root", "market.trades/3/1207", 1_722_470_400_120)
    headers = dict(seal(TICK, "features", cause).headers)
    assert headers["schema"] == b"market.tick/1"
    assert (headers["trace_id"], headers["causation_id"], headers["producer"]) == (b"root", b"f1", b"features")
    assert (headers["inputs"], headers["caused_at"]) == (b"market.trades/3/1207", b"1722470400120")
    version, trace, span, flags = headers["traceparent"].decode().split("-")
    assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")


def test_an_event_without_a_cause_begins_a_trace() -> None:
    assert dict(seal(TICK, "market").headers)["trace_id"] == b"t1"
    assert cause_of("f1", "t", 0, 0, None).trace_id == "f1"


def test_every_type_of_the_registry_has_a_reader_and_a_schema() -> None:
    from streams import envelope

    for topic in topics.ALL:
        for event in topic.events:
            assert event.type_name() in envelope._READERS[topic.name]
            assert envelope._SCHEMA[event.type_name()]


@pytest.mark.parametrize("at", [-1, 4_102_444_800_000, 10**18])
def test_a_time_that_is_none_is_refused(at: int) -> None:
    """States keep the latest time that they have seen: one from a far future would end every entry for good."""
    with pytest.raises(Undecodable, match="no time of this century"):
        decode("market.trades", encode(hot.Tick("t", "market.tick", at, 7, True, 3)))


def test_a_trace_that_is_no_trace_is_not_handed_on_whole() -> None:
    """A megabyte in a header would make every record that it causes too large for the broker."""
    cause = cause_of("e", "market.trades", 0, 1, [("trace_id", b"x" * 1_000_000)])
    assert len(cause.trace_id) == 200
