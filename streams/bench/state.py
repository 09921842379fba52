"""The state store under disturbance: workers are killed, frozen, thawed, stopped and joined; every count must equal the source.

Two stages that only count (streams/bench/tally.py), one over one input, one over two joined inputs, each of two members and a
third that joins and leaves. Afterwards an independent reader folds the inputs and compares, key by key, the number of records, a
chain over their ids, and each output with the count at which it must have been made.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Producer

from infra import children
from infra.broker.admin import TopicSpec, committed, ensure_topics, offsets
from infra.broker.embedded import EmbeddedKafka
from infra.errors import UserError
from infra.logs import librdkafka
from infra.ports import free_ports
from schemas import hot, ids, topics
from streams.bench.reading import read_all
from streams.bench.tally import STAGES, State, link
from streams.envelope import decode, encode
from streams.lag import group_of
from streams.launcher import python
from streams.nursery import Child, Nursery
from streams.shares import POSITION, Ledger
from streams.store import state_topic, state_topic_spec

KINDS = ("kill", "freeze", "thaw_kill", "term", "join_leave")
SESSION_S = 6.0
SETTLE_S = 90.0


class Group:
    """The members of one stage. `mode`: a name in tally.STAGES."""

    def __init__(self, mode: str, bootstrap: str, logs: Path, nursery: Nursery) -> None:
        self.mode, self.stage = mode, STAGES[mode]
        self._bootstrap, self._logs, self._nursery = bootstrap, logs, nursery
        self._members: dict[int, Child] = {}
        self.happened: list[str] = []
        self.died: list[str] = []
        self.worst_stop_s = 0.0
        self.unclean: list[str] = []

    def start(self, index: int) -> None:
        env = os.environ | {
            "QT_KAFKA_BOOTSTRAP": self._bootstrap,
            "QT_PROBE_PORT": "0",
            "QT_WORKER_INDEX": str(index),
            "QT_RUN_DIR": str(self._logs / "run"),
            "QT_SESSION_TIMEOUT_S": str(SESSION_S),
        }
        self._members[index] = self._nursery.spawn(self.mode, env, self._logs / f"{self.stage.name}-{index}.jsonl")

    def send(self, index: int, number: signal.Signals) -> None:
        os.kill(self._members[index].pid, number)

    def kill(self, index: int) -> None:
        children.kill(self._members[index])

    def term(self, index: int) -> None:
        """SIGTERM must end it with code 0, whatever it is doing."""
        began = time.monotonic()
        by_itself = children.stop(self._members[index], 8.0)
        self.worst_stop_s = max(self.worst_stop_s, time.monotonic() - began)
        code = self._members[index].poll()
        if not by_itself or code != 0:
            self.unclean.append(f"{self.stage.name}-{index} ended with {code}")

    def stop(self) -> None:
        for index in self._members:
            if self._members[index].poll() is None:
                self.term(index)

    def end(self) -> None:
        """Whatever is left, at once."""
        for child in self._members.values():
            children.kill(child)

    def tend(self) -> None:
        """As the launcher does: a member that ended by itself starts again. Only a broker that is away may make it end."""
        for index, member in list(self._members.items()):
            if member.poll() not in (None, 0, -9, -15):
                self.died.append(f"{self.stage.name}-{index} ended with {member.poll()}")
                self.start(index)

    def disturb(self, kind: str, chance: random.Random) -> None:
        victim = chance.randrange(2)
        other = 1 - victim
        self.happened.append(kind)
        if kind == "kill":
            self.kill(victim)
            time.sleep(chance.choice((0.3, 1.0, SESSION_S + 2)))
            self.start(victim)
        elif kind == "freeze":
            self.send(victim, signal.SIGSTOP)
            time.sleep(chance.uniform(SESSION_S - 1, SESSION_S + 4))
            self.send(victim, signal.SIGCONT)
        elif kind == "thaw_kill":
            self.send(victim, signal.SIGSTOP)
            time.sleep(SESSION_S + chance.uniform(1.5, 4))
            self.send(victim, signal.SIGCONT)
            time.sleep(chance.uniform(0.0, 1.0))
            self.kill(other)
            time.sleep(chance.uniform(0.0, 2.0))
            self.start(other)
        elif kind == "term":
            self.term(victim)
            time.sleep(chance.uniform(0.0, 2.0))
            self.start(victim)
        else:
            self.start(2)
            time.sleep(chance.uniform(4.0, 8.0))
            if chance.random() < 0.5:
                self.kill(2)
            else:
                self.term(2)
        time.sleep(chance.uniform(1.0, 4.0))

    def settle(self) -> None:
        """Until all that there is has been applied, by the group's own commits."""
        names = [topic.name for topic in self.stage.inputs]
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            ends = {(t, p): high for t, found in offsets(self._bootstrap, names).items() for p, (_, high) in found.items() if high}
            done = committed(self._bootstrap, group_of(self.stage.name), ends)
            if all(done.get(tp, 0) >= end for tp, end in ends.items()):
                return
            self.tend()
            time.sleep(0.3)
        raise UserError(f"{self.stage.name} did not apply its inputs", f"not within {SETTLE_S:.0f} s", f"read {self._logs}")


class Feeder:
    """Writes frames and candles over many keys at a steady rate, until told to stop."""

    def __init__(self, bootstrap: str, rate: float, keys: int) -> None:
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "linger.ms": 2, "enable.idempotence": True, "logger": librdkafka}
        )
        self._keys = [f"test.stress.K{i:03d}" for i in range(keys)]
        self._rate = rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feeder")
        self.written = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._producer.flush(20)

    def _run(self) -> None:
        began, chance = time.monotonic(), random.Random(7)
        while not self._over.is_set():
            due = int((time.monotonic() - began) * self._rate)
            while self.written < due:
                self._write(self.written, chance.choice(self._keys))
                self.written += 1
            self._producer.poll(0)
            self._over.wait(0.005)

    def _write(self, n: int, key: str) -> None:
        topic, event = (topics.MARKET_CANDLES, _candle(n, key)) if n % 3 == 2 else (topics.MARKET_TRADES, _frame(n, key))
        self._producer.produce(topic.name, encode(event), key.encode(), partition=ids.partition_of(key))


def run(
    disturbances: int = 30, seed: int = 1, rate: float = 300.0, keys: int = 300, pause_s: float = 8.0, broker_kills: int = 1
) -> dict[str, Any]:
    """Half of the disturbances to each stage, at the same time; then the broker's. `equal` says it all; logs are kept when it is
    false. `restarts`: members that ended because the broker was away, which is allowed; else none may."""
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="quantum-state-"))
    port, controller_port = free_ports(2)
    broker = EmbeddedKafka(folder / "kafka", port, controller_port)
    broker.start()
    groups: list[Group] = []
    nursery = Nursery([*python("streams.nursery"), "streams.bench.tally"], folder / "nursery.log")
    try:
        broker.wait_ready()
        used = {t.name: t for stage in STAGES.values() for t in (*stage.inputs, *stage.outputs)}
        used |= {t.name: t for t in (topics.HEALTH_HEARTBEATS, topics.DEAD_LETTERS)}
        own = [TopicSpec(t.name, t.partitions, t.config) for t in used.values()]
        ensure_topics(broker.bootstrap, own + [state_topic_spec(stage.name) for stage in STAGES.values()])
        groups += [Group(mode, broker.bootstrap, folder, nursery) for mode in STAGES]
        for group in groups:
            for index in range(2):
                group.start(index)
        feeder = Feeder(broker.bootstrap, rate, keys)
        feeder.start()
        try:
            time.sleep(pause_s)
            shares = [disturbances - disturbances // 2, disturbances // 2]
            _all_at_once([(_disturb, group, n, seed) for group, n in zip(groups, shares, strict=True)])
            died = [told for group in groups for told in group.died]
            for n in range(broker_kills):
                broker.kill()
                time.sleep(0.5 + 5.0 * n)
                broker.start()
                broker.wait_ready()
                time.sleep(pause_s)
        finally:
            feeder.stop()
        for group in groups:
            group.settle()
        for group in groups:
            group.stop()
        found = _compare(broker.bootstrap, groups)
        found |= {
            "disturbances": sum(len(g.happened) for g in groups),
            "kinds": dict(Counter(kind for g in groups for kind in g.happened)),
            "records": feeder.written,
            "broker_kills": broker_kills,
            "restarts": sum(len(g.died) for g in groups),
            "died": died,
            "unclean_stops": [told for g in groups for told in g.unclean],
            "worst_stop_s": round(max(g.worst_stop_s for g in groups), 2),
            "seed": seed,
            "seconds": round(time.monotonic() - began, 1),
        }
        found["equal"] = bool(found["equal"] and not died and not found["unclean_stops"])
    finally:
        for group in groups:
            group.end()
        nursery.stop()
        broker.stop()
    if found["equal"]:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        found["logs"] = str(folder)
    return found


def _all_at_once(calls: list[tuple[Any, ...]]) -> None:
    failures: list[BaseException] = []

    def guarded(call: Any, *given: Any) -> None:
        try:
            call(*given)
        except (OSError, UserError) as e:
            failures.append(e)

    threads = [threading.Thread(target=guarded, args=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _disturb(group: Group, n: int, seed: int) -> None:
    """Every kind once before any comes twice, in seeded order."""
    chance = random.Random(f"{seed}/{group.mode}")
    bag: list[str] = []
    for _ in range(n):
        if not bag:
            bag = chance.sample(KINDS, len(KINDS))
        group.disturb(bag.pop(), chance)
        group.tend()


def _compare(bootstrap: str, groups: list[Group]) -> dict[str, Any]:
    """An independent fold of the inputs against the states on the log and the outputs."""
    frames: dict[str, State] = {}
    candles: dict[str, State] = {}
    ordinal: dict[str, tuple[str, int, int]] = {}
    for record in read_all(bootstrap, topics.MARKET_TRADES.name):
        event = decode(topics.MARKET_TRADES.name, record.value or b"")
        was = frames.get(event.instrument, State())
        now = State(frames=was.frames + 1, chain_frames=link(was.chain_frames, event.first_id))
        frames[event.instrument] = now
        ordinal[event.event_id] = (event.instrument, now.frames, record.timestamp)
    for record in read_all(bootstrap, topics.MARKET_CANDLES.name):
        event = decode(topics.MARKET_CANDLES.name, record.value or b"")
        was = candles.get(event.instrument, State())
        candles[event.instrument] = State(candles=was.candles + 1, chain_candles=link(was.chain_candles, event.first_id))

    wrong_states, lost_outputs, wrong_outputs, doubled, delays = 0, 0, 0, 0, [0]
    outputs = list(read_all(bootstrap, topics.MARKET_FEATURES.name))
    for group in groups:
        joined = topics.MARKET_CANDLES in group.stage.inputs
        held = _states(bootstrap, group.stage.name)
        for key in sorted(frames.keys() | (candles.keys() if joined else set()) | held.keys()):
            want, more = frames.get(key, State()), candles.get(key, State()) if joined else State()
            whole = State(1, want.frames, more.candles, want.chain_frames, more.chain_candles)
            wrong_states += held.get(key, State()) != whole
        seen: set[str] = set()
        for record in outputs:
            if record.headers.get("producer") != group.stage.name.encode():
                continue
            event = decode(topics.MARKET_FEATURES.name, record.value or b"")
            key, count, written = ordinal[event.candle_id]
            wrong_outputs += (event.instrument, event.bars) != (key, count)
            doubled += event.candle_id in seen
            if event.candle_id not in seen:
                delays.append(record.timestamp - written)
            seen.add(event.candle_id)
        lost_outputs += len(ordinal.keys() - seen)
    return {
        "equal": not (wrong_states or lost_outputs or wrong_outputs),
        "keys": len(frames),
        "wrong_states": wrong_states,
        "lost_outputs": lost_outputs,
        "wrong_outputs": wrong_outputs,
        "repeated_outputs": doubled,
        "worst_delay_s": round(max(delays) / 1000, 1),
    }


def _states(bootstrap: str, stage: str) -> dict[str, State]:
    ledgers: dict[int, Ledger] = {}
    for record in read_all(bootstrap, state_topic(stage)):
        ledgers.setdefault(record.partition, Ledger()).add(record.key or b"", record.value, record.headers, record.offset)
    return {
        key: msgspec.json.decode(bytes(stored.state), type=State)
        for ledger in ledgers.values()
        for key, stored in ledger.keys()
        if key.encode() != POSITION
    }


def _frame(n: int, key: str) -> hot.TradeFrame:
    return hot.TradeFrame(f"f{n}", "market.trade-frame", n, key, n, [n], [1.0], [1.0], [0], "synthetic")


def _candle(n: int, key: str) -> hot.Candle:
    return hot.Candle(
        f"c{n}", "market.candle", n, key, "1m", n, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1, n, n, False, False, "synthetic"
    )
