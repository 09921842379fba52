"""Whatever members crash, freeze, wake and write late: who loads last and reads on ends with every event counted once.

The log is a list, members are what streams/store.py does with it, step by step, in any interleaving that hypothesis finds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.shares import Held, Ledger, Share, StateRecord, position, snapshot

TOPICS = ("a", "b")


class State(msgspec.Struct, frozen=True):
    version: int = 1
    seen: tuple[str, ...] = ()


@dataclass
class Log:
    """A state partition; `inputs`: per topic the keys of its events, in order."""

    inputs: dict[str, list[str]]
    records: list[StateRecord] = field(default_factory=list)

    def append(self, record: StateRecord) -> int:
        self.records.append(record)
        return len(self.records) - 1


class Member:
    """One process and its life: read, claim, read again, then take events and flush in steps."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.ledger = Ledger()
        self.read = 0
        self.epoch = 0
        self.seq = 0
        self.claimed_at = -1
        self.share: Share | None = None
        self.unwritten: list[StateRecord] = []
        self.stage = 0

    def step(self, choice: int) -> None:
        if self.share is None:
            (self._read, self._claim, self._check)[self.stage]()
        elif choice == 0 and self.unwritten:
            self.log.append(self.unwritten.pop(0))
        elif choice == 1 and not self.unwritten:
            self.flush()
        else:
            self.take(TOPICS[choice % 2])

    def _read(self) -> None:
        for offset in range(self.read, len(self.log.records)):
            record = self.log.records[offset]
            self.ledger.add(record.key, record.value, dict(record.headers), offset)
        self.read = len(self.log.records)
        self.stage = 1

    def _claim(self) -> None:
        self.epoch = self.ledger.epoch + 1
        self.claimed_at = self.log.append(position(0, self.ledger.next, self.epoch, 0))
        self.stage = 2

    def _check(self) -> None:
        self._read()
        if self.ledger.epoch != self.epoch or self.ledger.rivals != [self.claimed_at]:
            return  # _read has set stage 1: claim again
        share = Share(0, {topic: self.ledger.next.get(topic, 0) for topic in TOPICS})
        for key, stored in self.ledger.keys():
            raw = bytes(stored.state)
            share.held[key] = Held(None if raw == b"null" else msgspec.json.decode(raw, type=State), dict(stored.applied))
        self.share = share

    def take(self, topic: str) -> None:
        share = self.share
        assert share is not None
        offset = share.next[topic]
        if offset >= len(self.log.inputs[topic]):
            return
        key = self.log.inputs[topic][offset]
        if not share.replayed(key, topic, offset):
            before = share.state(key) or State()
            # every third event of a key closes it: the key is forgotten and opens again with the next
            seen = (*before.seen, f"{topic}{offset}")
            share.put(key, None if len(seen) == 3 else State(seen=seen), topic, offset)
        share.next[topic] = offset + 1

    def flush(self) -> None:
        assert self.share is not None
        self.seq += 1
        found = snapshot({0: self.share}, self.epoch, self.seq)
        self.unwritten = [*found.values, *found.positions]

    def finish(self) -> None:
        while self.share is None:
            self.step(0)
        for topic in TOPICS:
            for _ in self.log.inputs[topic]:
                self.take(topic)


def covered(member: Member, log: Log) -> None:
    """Each key holds its events of each topic in order, without hole or repetition, modulo the closings in between."""
    share = member.share
    assert share is not None
    for key in sorted(set(log.inputs["a"]) | set(log.inputs["b"])):
        wanted = {topic: [f"{topic}{i}" for i, k in enumerate(log.inputs[topic]) if k == key] for topic in TOPICS}
        total = sum(map(len, wanted.values()))
        state = share.state(key)
        seen = state.seen if state else ()
        assert len(seen) == total % 3, f"{key}: {seen} of {wanted}"
        for topic in TOPICS:
            mine = [event for event in seen if event[0] == topic]
            assert mine == wanted[topic][len(wanted[topic]) - len(mine) :], f"{key}: {seen} of {wanted}"


keys = st.lists(st.sampled_from("xy"), min_size=6, max_size=14)
acts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=60, max_size=200)


@settings(max_examples=250, deadline=None)
@given(a=keys, b=keys, moves=acts, reborn=st.lists(st.integers(0, 3), max_size=6))
def test_the_last_owner_counts_every_event_once_whoever_wrote_before(
    a: list[str], b: list[str], moves: list[tuple[int, int]], reborn: list[int]
) -> None:
    log = Log({"a": a, "b": b})
    members = [Member(log) for _ in range(4)]
    for number, (who, choice) in enumerate(moves):
        members[who].step(choice)
        if number % 20 == 19 and reborn:
            members[reborn.pop()] = Member(log)
    last = Member(log)
    last.finish()
    covered(last, log)


@settings(max_examples=120, deadline=None)
@given(a=keys, moves=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=100))
def test_no_two_eras_share_an_epoch(a: list[str], moves: list[tuple[int, int]]) -> None:
    log = Log({"a": a, "b": []})
    members = [Member(log) for _ in range(3)]
    for who, choice in moves:
        members[who].step(choice)
    epochs = [member.epoch for member in members if member.share is not None]
    assert len(epochs) == len(set(epochs))


def test_a_closed_key_is_forgotten_only_when_its_end_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    share = Share(0, {"a": 0})
    share.put("x", State(), "a", 0)
    share.put("x", None, "a", 1)
    share.next["a"] = 2
    found = snapshot({0: share}, 1, 1)
    assert found.values[0].value is None
    assert share.replayed("x", "a", 1)
    assert not share.known
    found.done()
    assert "x" in share.held
    monkeypatch.setattr("streams.shares.MANY", 0)
    found.done()
    assert "x" not in share.held


def test_what_changes_nothing_is_written_once_an_era() -> None:
    share = Share(0, {"a": 0})
    state = State()
    share.held["x"] = Held(state, {"a": 0})
    share.put("x", state, "a", 1)
    assert list(share.dirty) == ["x"]
    snapshot({0: share}, 2, 1)
    share.put("x", state, "a", 2)
    assert not share.dirty
    assert share.held["x"].applied == {"a": 2}
