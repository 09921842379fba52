"""What streams/driver.py leans on inside Faust and aiokafka: when one of these fails after an upgrade, read the driver again."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from faust.app.base import App
from faust.tables import recovery
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP

from streams.driver import CoPartitioned, OneActive, Positions, Silent, Thread


def test_the_versions_are_those_we_have_read() -> None:
    assert version("faust-streaming").startswith("0.15.")
    assert version("aiokafka").split(".")[:2] in (["0", "12"], ["0", "13"], ["0", "14"])


def order(source: str, *steps: str) -> bool:
    places = [source.find(step) for step in steps]
    return -1 not in places and places == sorted(places)


def test_after_a_rebalance_we_load_then_faust_seeks_then_it_resumes() -> None:
    source = inspect.getsource(Recovery._resume_streams)
    assert order(
        source, "on_rebalance_complete.send()", "consumer_generation_id != generation_id", "perform_seek()", "resume_flow()"
    )
    assert "If there are no tables -- simply resume streams" in inspect.getsource(recovery)


def test_revoked_partitions_are_told_while_the_flow_stands() -> None:
    source = inspect.getsource(App._on_partitions_revoked)
    assert order(source, "stop_flow", "flow_control.clear", "on_partitions_revoked.send")


def test_the_generation_is_known_before_the_assignment_is_told() -> None:
    source = inspect.getsource(driver.ConsumerRebalanceListener.on_partitions_assigned)
    assert order(source, "consumer_generation_id = generation", "_thread.on_partitions_assigned")
    assert "generation_id=self.app.consumer_generation_id" in inspect.getsource(driver.Consumer._to_message)


def test_what_we_override_is_still_called() -> None:
    assert "self._new_consumer_thread()" in inspect.getsource(driver.ThreadDelegateConsumer.__init__)
    assert "perform_seek" in inspect.getsource(Consumer.getmany)
    assert "self._create_worker_consumer" in inspect.getsource(driver.AIOKafkaConsumerThread._create_consumer)
    assert issubclass(Positions, driver.Consumer)
    assert issubclass(Thread, driver.AIOKafkaConsumerThread)


def test_aiokafka_keeps_what_we_set() -> None:
    source = inspect.getsource(driver.aiokafka.AIOKafkaConsumer)
    for name in ("_partition_assignment_strategy", "_fetch_max_wait_ms", "_fetch_min_bytes"):
        assert f"self.{name} = " in source, name
        assert source.count(f"self.{name}") > 1, name


def test_a_refused_commit_is_told_and_a_lost_member_has_no_generation() -> None:
    source = inspect.getsource(GroupCoordinator.commit_offsets)
    for refused in ("UnknownMemberIdError", "IllegalGenerationError", "RebalanceInProgressError", "CommitFailedError"):
        assert refused in source
    assert "self.reset_generation()" in inspect.getsource(GroupCoordinator._do_commit_offsets)


def test_a_static_member_does_not_leave() -> None:
    assert "self._group_instance_id is None" in inspect.getsource(GroupCoordinator._maybe_leave_group)


def test_the_silent_monitor_overrides_what_costs() -> None:
    for name in ("on_message_in", "on_stream_event_in", "on_stream_event_out", "track_tp_end_offset"):
        assert name in vars(Silent), name


def cluster(**topics: int) -> SimpleNamespace:
    return SimpleNamespace(partitions_for_topic=lambda name: set(range(topics[name])))


def members(names: str, *topics: str) -> dict[str, ConsumerProtocolMemberMetadata]:
    return {name: ConsumerProtocolMemberMetadata(0, list(topics), b"") for name in names}


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 12, 13])
def test_a_partition_number_belongs_to_one_member_over_all_topics(n: int) -> None:
    names = "abcdefghijklm"[:n]
    found = CoPartitioned.assign(cluster(fills=12, marks=12, commands=1), members(names, "fills", "marks", "commands"))
    owners: dict[int, set[str]] = {}
    seen = 0
    for name, share in found.items():
        for _, partitions in share.assignment:
            for partition in partitions:
                owners.setdefault(partition, set()).add(name)
                seen += 1
    assert seen == 25
    assert all(len(owner) == 1 for owner in owners.values())
    counts = [sum(next(iter(o)) == name for o in owners.values()) for name in names]
    assert max(counts) - min(counts) <= 1


def test_one_active_member_has_all_and_the_others_stand_by() -> None:
    found = OneActive.assign(cluster(fills=12, commands=1), members("ba", "fills", "commands"))
    assert dict(found["a"].assignment) == {"fills": list(range(12)), "commands": [0]}
    assert found["b"].assignment == []


def test_a_topic_that_the_metadata_lacks_is_assigned_by_the_registrys_word() -> None:
    blind = SimpleNamespace(partitions_for_topic=lambda name: None)
    found = CoPartitioned.assign(blind, members("a", "trade.fills", "control.commands"))
    assert dict(found["a"].assignment) == {"trade.fills": list(range(12)), "control.commands": [0]}


def test_topics_and_partitions_take_turns_record_by_record_and_none_is_lost() -> None:
    fetched: Any = {TP("a", 0): ["a1", "a2", "a3"], TP("b", 0): ["b1"], TP("c", 0): ["c1", "c2"]}
    assert [record for _, record in DefaultSchedulingStrategy().iterate(fetched)] == ["a1", "b1", "c1", "a2", "c2", "a3"]
    assert "self.scheduler.iterate(" in inspect.getsource(Positions.getmany)


def test_our_way_of_handing_on_stops_where_fausts_does() -> None:
    source = inspect.getsource(Consumer.getmany)
    assert order(
        source,
        "_wait_next_records(timeout)",
        "records is None or self.should_stop",
        "if self.flow_active:",
        "if not self.flow_active:",
        "new_generation_id != generation_id",
        "self._buffered_partitions",
        "perform_seek",
    )
