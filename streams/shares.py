"""State in memory: what a member holds of each state partition while it is its own, and what goes to the log of it.

A record of `state.<stage>`, key = the key, or `__pos` for the partition's position:

    {"v":1,"epoch":3,"seq":17,"applied":{"trade.fills":1207},"state":{"version":1,...}}
    {"v":1,"epoch":3,"seq":17,"next":{"trade.fills":1208},"market_at":1764158400000}
    a tombstone has no value; the same meta stands in its header `meta`

`applied`: the last offset of each input that is in the value; `next`: the first that is in none; `market_at`: the
market time that they have come to (streams/market_clock.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

FORMAT = 1
POSITION = b"__pos"
MANY = 10_000


class Stored(msgspec.Struct, omit_defaults=True):
    """The value of a record."""

    v: int
    epoch: int
    seq: int
    applied: dict[str, int] = {}
    state: msgspec.Raw = msgspec.Raw(b"null")
    next: dict[str, int] = {}
    market_at: int = 0


class StateRecord(NamedTuple):
    """A record on its way to the state topic."""

    partition: int
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]


class ValueRecord:
    """The same of one key, encoded when it is written and not when it is taken: of very many that would hold the event loop."""

    __slots__ = ("_meta", "_state", "key", "partition")

    def __init__(self, partition: int, key: str, held: Held, epoch: int, seq: int) -> None:
        self.partition, self.key = partition, key.encode()
        self._meta = Stored(FORMAT, epoch, seq, applied=dict(held.applied))
        self._state = held.state  # frozen

    @property
    def value(self) -> bytes | None:
        if self._state is None:
            return None
        return msgspec.json.encode(msgspec.structs.replace(self._meta, state=msgspec.Raw(msgspec.json.encode(self._state))))

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        return [("meta", msgspec.json.encode(self._meta))] if self._state is None else []


class Held:
    """One key. `fresh`: this era has written it (or is about to), so that what changes nothing need not be written again."""

    __slots__ = ("applied", "fresh", "state")

    def __init__(self, state: Any | None, applied: dict[str, int], fresh: bool = False) -> None:
        self.state = state
        self.applied = applied
        self.fresh = fresh


class Share:
    """One state partition. `next`: first offset of each input (of this partition) that is not applied yet. `market_at`: the
    latest market time that is applied."""

    def __init__(self, partition: int, next_: dict[str, int], market_at: int = 0) -> None:
        self.partition = partition
        self.next = next_
        self.market_at = market_at
        self.held: dict[str, Held] = {}
        self.dirty: dict[str, Held] = {}
        self.written: dict[str, int] = dict(next_)
        self._known: dict[str, None] | None = None

    @property
    def known(self) -> Collection[str]:
        """Keys that have a state, sorted, and quick to be looked up."""
        if self._known is None:
            self._known = dict.fromkeys(sorted(key for key, held in self.held.items() if held.state is not None))
        return self._known

    def state(self, key: str) -> Any | None:
        held = self.held.get(key)
        return held.state if held else None

    def replayed(self, key: str, topic: str, offset: int) -> bool:
        """Whether the record is in this key's state already. That, too, is a touch: our position will pass this record, so the
        value that has it must outrank an older era's late one that may not."""
        held = self.held.get(key)
        if held is None or offset > held.applied.get(topic, -1):
            return False
        if not held.fresh:
            held.fresh = True
            self.dirty[key] = held
        return True

    def put(self, key: str, state: Any | None, topic: str, offset: int) -> None:
        held = self.held.get(key)
        if held is None:
            held = self.held[key] = Held(None, {})
        if (held.state is None) is not (state is None):
            self._known = None
        if held.state is not state or not held.fresh:
            held.fresh = True
            self.dirty[key] = held
        held.state = state
        held.applied[topic] = offset

    def touch(self) -> None:
        """Everything is written again: a late record of a zombie must not stay the last of its key until compaction."""
        self.dirty.update(self.held)

    @property
    def moved(self) -> bool:
        return self.next != self.written

    def states(self) -> dict[str, Any]:
        return {key: self.held[key].state for key in self.known}


class Snapshot(NamedTuple):
    """What one flush writes: taken between two events, so that values and positions belong together."""

    values: list[ValueRecord]
    positions: list[StateRecord]
    next: dict[tuple[str, int], int]
    forgotten: list[tuple[Share, str, Held]]

    def done(self) -> None:
        """All is written: no replay can reach forgotten keys. They are kept for the era all the same, so that what happens to
        a key without state is not written again and again; only where there are very many they go."""
        for share, key, held in self.forgotten:
            if len(share.held) > MANY and held.state is None and key not in share.dirty and share.held.get(key) is held:
                del share.held[key]


def snapshot(shares: Mapping[int, Share], epoch: int, seq: int) -> Snapshot:
    """Empties what is dirty. `next` names every input partition that moved."""
    found = Snapshot([], [], {}, [])
    for share in shares.values():
        for key, held in share.dirty.items():
            found.values.append(ValueRecord(share.partition, key, held, epoch, seq))
            if held.state is None:
                found.forgotten.append((share, key, held))
        share.dirty = {}
        if share.moved:
            found.positions.append(position(share.partition, share.next, epoch, seq, share.market_at))
            for topic, offset in share.next.items():
                if share.written.get(topic) != offset:
                    found.next[topic, share.partition] = offset
            share.written = dict(share.next)
    return found


def position(partition: int, next_: Mapping[str, int], epoch: int, seq: int, market_at: int = 0) -> StateRecord:
    value = msgspec.json.encode(Stored(FORMAT, epoch, seq, next=dict(next_), market_at=market_at))
    return StateRecord(partition, POSITION, value, [])


class Ledger:
    """What the log says of one partition while it is read: per key the record of the highest (epoch, seq) counts.

    `rivals`: offsets of all records of the highest epoch, so that whoever claims it sees whether it is alone.
    """

    def __init__(self) -> None:
        self.best: dict[bytes, Stored] = {}
        self.stale: set[bytes] = set()
        self.epoch = 0
        self.rivals: list[int] = []

    def add(self, key: bytes, value: bytes | None, headers: Mapping[str, bytes], offset: int) -> None:
        """Raises msgspec.MsgspecError for bytes that are none of ours."""
        meta = value if value is not None else headers.get("meta")
        if meta is None:
            return
        stored = _read(meta)
        if stored.v != FORMAT:
            raise msgspec.ValidationError(f"format {stored.v} is unknown")
        if stored.epoch > self.epoch:
            self.epoch, self.rivals = stored.epoch, []
        if stored.epoch == self.epoch and len(self.rivals) < 3:
            self.rivals.append(offset)
        best = self.best.get(key)
        if best is None or (stored.epoch, stored.seq) >= (best.epoch, best.seq):
            self.best[key] = stored
            self.stale.discard(key)
        else:
            self.stale.add(key)

    def keys(self) -> Iterator[tuple[str, Stored]]:
        for key in sorted(self.best):
            if key != POSITION:
                yield key.decode(), self.best[key]

    @property
    def next(self) -> dict[str, int]:
        found = self.best.get(POSITION)
        return dict(found.next) if found else {}

    @property
    def market_at(self) -> int:
        found = self.best.get(POSITION)
        return found.market_at if found else 0


_read = msgspec.json.Decoder(Stored).decode
