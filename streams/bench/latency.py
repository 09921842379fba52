"""`quantum bench latency`: from a mark to the exit decision that it caused, from a tick to the candle that it closed and to the
decision on it (by way of the barrier on market.features that the tick caused).

The whole embedded stack runs on free ports, its market at the speed of the real one; a position in every symbol is opened by
another hand at the start, adopted, and judged at every mark. One consumer outside it reads the topics and pairs cause and
effect by the `inputs` header (topic/partition/offset); plans of a partition that hold are one decision. Start of a pair: the
record time that the gateway gave the mark or tick when it published it. End: the decision or candle read from its topic. Hops:
publish -> effect made (by record times), effect made -> effect read. Record times are whole milliseconds, so a single figure is
right to about 1 ms.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition

from infra.broker.admin import offsets
from infra.errors import UserError
from infra.paths import CHECKOUT
from infra.settings import Settings, load
from infra.venue import by_hand
from processors.filters import ceil_to
from schemas import topics
from streams.cli import any_ports
from streams.filters import read_filters
from streams.launcher import Stack

CAUSES = (topics.MARKET_MARKS.name, topics.MARKET_TRADES.name)
BETWEEN = topics.MARKET_FEATURES.name
"""As old as the tick that caused it."""
EFFECTS = {
    topics.TRADE_EXIT_DECISIONS.name: topics.MARKET_MARKS.name,
    topics.MARKET_CANDLES.name: topics.MARKET_TRADES.name,
    BETWEEN: topics.MARKET_TRADES.name,
    topics.SIGNAL_DECISIONS.name: BETWEEN,
}
LIMIT_S = 420.0


@dataclass
class Pairs:
    """Delays in ms of one effect topic: whole, and its two hops."""

    whole: list[float] = field(default_factory=list)
    made: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)


def run(n: int = 1000, speed: float = 1.0, policy: Path | None = None) -> dict[str, Any]:
    """Starts the stack, measures `n` pairs of mark and position at least, stops it. Raises UserError when they do not come."""
    with tempfile.TemporaryDirectory(prefix="quantum-bench-") as run_dir:
        chosen = policy or CHECKOUT / "docs" / "policies" / "many-positions.json"
        settings = load(run_dir=Path(run_dir), policy_file=chosen, speed=speed, **any_ports())
        with Stack(settings, fresh=True) as stack:
            stack.start()
            _open_positions(settings)
            found = _measure(stack, n)
    return found


def _open_positions(settings: Settings) -> None:
    """The smallest of which a share can be taken, in every symbol."""
    with urllib.request.urlopen(f"{settings.exchange_url}/fapi/v1/premiumIndex", timeout=10) as answer:
        marks = {row["symbol"]: Decimal(row["markPrice"]) for row in json.load(answer)}
    for instrument, filters in read_filters(settings, open_only=True).items():
        symbol = instrument.rsplit(".", 1)[1]
        quantity = ceil_to(max(4 * filters.min_notional / marks[symbol], 4 * filters.min_quantity), filters.step)
        by_hand.tell(settings.exchange_control_url, "trade", symbol=symbol, side="BUY", quantity=str(quantity))


def _measure(stack: Stack, n: int) -> dict[str, Any]:
    pairs = {name: Pairs() for name in EFFECTS}
    over = threading.Event()
    reader = threading.Thread(target=_read, args=(stack.settings.bootstrap, pairs, over), daemon=True)
    reader.start()
    began = time.monotonic()
    decisions, candles = pairs[topics.TRADE_EXIT_DECISIONS.name], pairs[topics.MARKET_CANDLES.name]
    signals = pairs[topics.SIGNAL_DECISIONS.name]
    stack.watch(lambda: len(decisions.whole) >= n or time.monotonic() - began > LIMIT_S)
    over.set()
    reader.join(10)
    if len(decisions.whole) < n:
        raise UserError(
            f"only {len(decisions.whole)} pairs of mark and position came within {LIMIT_S:.0f} s",
            "too few positions were open",
            "ask for fewer with -n, or look at the workers' logs",
        )
    return {
        "p50_ms": _at(decisions.whole, 0.50),
        "p99_ms": _at(decisions.whole, 0.99),
        "n": len(decisions.whole),
        "candle_p50_ms": _at(candles.whole, 0.50),
        "candle_p99_ms": _at(candles.whole, 0.99),
        "candle_n": len(candles.whole),
        "signal_p50_ms": _at(signals.whole, 0.50),
        "signal_p99_ms": _at(signals.whole, 0.99),
        "signal_n": len(signals.whole),
        "hops": {
            "mark_to_decision_made_p50_ms": _at(decisions.made, 0.50),
            "mark_to_decision_made_p99_ms": _at(decisions.made, 0.99),
            "decision_made_to_read_p50_ms": _at(decisions.read, 0.50),
            "decision_made_to_read_p99_ms": _at(decisions.read, 0.99),
            "tick_to_candle_made_p50_ms": _at(candles.made, 0.50),
            "tick_to_candle_made_p99_ms": _at(candles.made, 0.99),
            "candle_made_to_read_p50_ms": _at(candles.read, 0.50),
            "candle_made_to_read_p99_ms": _at(candles.read, 0.99),
            "tick_to_signal_made_p50_ms": _at(signals.made, 0.50),
            "tick_to_signal_made_p99_ms": _at(signals.made, 0.99),
        },
        "speed": stack.settings.speed,
        "restarts": stack.restarts,
        "seconds": round(time.monotonic() - began, 1),
    }


def _at(values: list[float], share: float) -> float | None:
    if not values:
        return None
    if share == 0.5:
        return round(median(values), 2)
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 2)


def _read(bootstrap: str, pairs: dict[str, Pairs], over: threading.Event) -> None:
    """Pairs causes and effects by offset; an effect that is read before its cause waits for it."""
    names = [*CAUSES, *EFFECTS]
    ends = offsets(bootstrap, names)
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False, "fetch.wait.max.ms": 100}
    )
    consumer.assign([TopicPartition(name, p, high) for name in names for p, (_, high) in ends[name].items()])
    published: dict[str, float] = {}
    waiting: dict[str, list[tuple[str, str, float, float]]] = {}

    def add(effect: str, where: str, began: float, made: float, read: float) -> None:
        _add(pairs[effect], began, made, read)
        if effect == BETWEEN:
            known(where, began)

    def known(where: str, began: float) -> None:
        published[where] = began
        for effect, its_place, made, read in waiting.pop(where, ()):
            add(effect, its_place, began, made, read)

    while not over.is_set():
        message = consumer.poll(0.1)
        if message is None or message.error() is not None:
            continue
        now = time.time() * 1000
        name, made = str(message.topic()), float(message.timestamp()[1])
        where = f"{name}/{message.partition()}/{message.offset()}"
        if name in CAUSES:
            known(where, made)
            continue
        for cause in _inputs(message):
            if not cause.startswith(EFFECTS[name]):
                continue
            if cause in published:
                add(name, where, published[cause], made, now)
            else:
                waiting.setdefault(cause, []).append((name, where, made, now))
    consumer.close()


def _inputs(message: Message) -> Iterable[str]:
    """`topic/partition/offset` of what caused this record."""
    inputs = dict(message.headers() or ()).get("inputs")
    return inputs.decode().split(",") if isinstance(inputs, bytes) else ()


def _add(pairs: Pairs, published: float, made: float, read: float) -> None:
    pairs.whole.append(read - published)
    pairs.made.append(made - published)
    pairs.read.append(read - made)
