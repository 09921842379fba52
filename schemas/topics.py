"""The topic registry: every topic once, with who writes it and who reads it.

From it come Faust topics, Kafka topic creation, ClickHouse tables, docs/topics.md and the wiring tests. A topic stands here only
when a worker that the launcher starts writes it and another reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from schemas import ids
from schemas.events import Event
from schemas.market import Barrier, Candle, CandleHistory, FeatureHistory, Features, Marks, Peek, Tick, TradeFrame, UniverseSeen
from schemas.models import ModelSwitch, ModelVersion
from schemas.operations import Audit, Command, DeadLetter, GuardianReport, Heartbeat, PolicyVersion
from schemas.regime import MarketRegime, SymbolRegime
from schemas.risk import BreakerState, RiskState, Verdict
from schemas.signals import Decision, Prediction, Proposal, ProposalBarrier, Supervision
from schemas.trading import (
    AccountSnapshot,
    Closed,
    Correction,
    Entry,
    Exit,
    ExitDecision,
    ExitHolds,
    ExitPlan,
    Fill,
    Order,
    OrderUpdate,
    Position,
)


class Key(StrEnum):
    """What a topic is keyed by, which also fixes its partition."""

    INSTRUMENT = "instrument"
    """Partition = murmur2(instrument) of 12."""
    POSITION = "account/instrument/side"
    """Compacted trade state; the partition is still the instrument's."""
    PARTITION = "partition"
    """Null key: the record speaks of its whole partition (ticks, marks)."""
    SEQUENCE = "instrument, in one sequence"
    """One partition: whoever reads it meets all instruments in the order in which they were written."""
    ACCOUNT = "account"
    NAME = "name"
    NONE = "none"


_GLOBAL = {Key.SEQUENCE, Key.ACCOUNT, Key.NAME, Key.NONE}


@dataclass(frozen=True, slots=True)
class Topic:
    """`retain` None = compacted. `order_by`: how its ClickHouse table is sorted. `decision`: that table keeps the raw value too.

    `wall`: `at` of its records is the wall's, not the market's. `unhurried`: nothing is decided on it; its records leave together,
    0.3 s later at most.
    """

    name: str
    events: tuple[type[Event], ...]
    about: str
    key: Key
    retain: timedelta | None
    order_by: tuple[str, ...]
    produced_by: tuple[str, ...]
    consumed_by: tuple[str, ...]
    decision: bool = False
    wall: bool = False
    unhurried: bool = False

    @property
    def partitions(self) -> int:
        return 1 if self.key in _GLOBAL else ids.PARTITIONS

    @property
    def compacted(self) -> bool:
        return self.retain is None

    @property
    def table(self) -> str:
        return self.name.replace(".", "_").replace("-", "_")

    @property
    def config(self) -> dict[str, str]:
        """Kafka's own settings. Compaction waits, so that history has read every record before one is dropped."""
        if self.retain is None:
            return {"cleanup.policy": "compact", "min.compaction.lag.ms": "21600000", "segment.ms": "3600000"}
        return {"cleanup.policy": "delete", "retention.ms": str(int(self.retain.total_seconds() * 1000))}


_DAY = timedelta(days=1)
_HISTORY = ("history",)

MARKET_TRADES = Topic(
    "market.trades",
    (TradeFrame, Tick, CandleHistory),
    "Trades in frames, ticks (watermarks), and past candles to warm up on",
    Key.INSTRUMENT,
    _DAY,
    ("instrument", "at"),
    ("market",),
    ("features", *_HISTORY),
)
MARKET_MARKS = Topic(
    "market.marks",
    (Marks,),
    "Mark prices of a partition once a wall second: the clock of protection",
    Key.PARTITION,
    _DAY,
    ("partition", "at"),
    ("market",),
    ("exits", "execution", *_HISTORY),
)
MARKET_UNIVERSE = Topic(
    "market.universe",
    (UniverseSeen,),
    "Which instruments may be entered, and why others may not: those are reduce-only",
    Key.NONE,
    90 * _DAY,
    ("at",),
    ("market",),
    ("risk", *_HISTORY),
    decision=True,
)
MARKET_CANDLES = Topic(
    "market.candles",
    (Candle,),
    "Closed candles 1m 5m 15m 1h 4h, built from trades",
    Key.INSTRUMENT,
    7 * _DAY,
    ("instrument", "interval", "open_at"),
    ("features",),
    _HISTORY,
    unhurried=True,
)
MARKET_FEATURES = Topic(
    "market.features",
    (Features, FeatureHistory, Barrier),
    "Feature vector of every closed 5-minute candle, past ones for windows, and a barrier behind those of one tick",
    Key.INSTRUMENT,
    7 * _DAY,
    ("instrument", "open_at"),
    ("features",),
    ("signals", *_HISTORY),
)
MARKET_PEEKS = Topic(
    "market.peeks",
    (Peek,),
    "Feature vector of the forming 5-minute candle, four a second at most; predicted on, never decided on",
    Key.INSTRUMENT,
    _DAY,
    ("instrument", "at"),
    ("features",),
    ("signals", *_HISTORY),
    unhurried=True,
)
MARKET_REGIMES = Topic(
    "market.regimes",
    (SymbolRegime, MarketRegime),
    "Regime of every instrument at every close, and of all together with their correlation",
    Key.INSTRUMENT,
    30 * _DAY,
    ("instrument", "at"),
    ("signals",),
    _HISTORY,
    unhurried=True,
)
SIGNAL_PREDICTIONS = Topic(
    "signal.predictions",
    (Prediction,),
    "What each model says of a feature vector",
    Key.INSTRUMENT,
    30 * _DAY,
    ("instrument", "at"),
    ("signals",),
    _HISTORY,
    decision=True,
    unhurried=True,
)
SIGNAL_PROPOSALS = Topic(
    "signal.proposals",
    (Proposal, ProposalBarrier),
    "What strategies want as it is generated, and a barrier behind each partition's close: what rounds are ranked from",
    Key.NONE,
    7 * _DAY,
    ("at",),
    ("signals",),
    ("signals", *_HISTORY),
    decision=True,
)
SIGNAL_DECISIONS = Topic(
    "signal.decisions",
    (Decision,),
    "What a strategy wants: LONG, SHORT or HOLD, with its reason; of those that want to enter the best first",
    Key.SEQUENCE,
    30 * _DAY,
    ("instrument", "at"),
    ("signals",),
    ("risk", *_HISTORY),
    decision=True,
)
RISK_VERDICTS = Topic(
    "risk.verdicts",
    (Verdict,),
    "Risk's answer to a decision, with its numbers",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "at"),
    ("risk",),
    ("exits", *_HISTORY),
    decision=True,
)
BREAKER_STATES = Topic(
    "breaker.states",
    (BreakerState,),
    "Circuit breakers after every change: of a symbol, and of all",
    Key.NAME,
    None,
    ("scope", "at"),
    ("risk",),
    ("execution", *_HISTORY),
    decision=True,
)
RISK_STATES = Topic(
    "risk.states",
    (RiskState,),
    "The emergency stop after every change",
    Key.ACCOUNT,
    None,
    ("account", "at"),
    ("risk",),
    ("execution", *_HISTORY),
    decision=True,
)
TRADE_ENTRIES = Topic(
    "trade.entries",
    (Entry,),
    "Intents to open; each carries its stop",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "at"),
    ("risk",),
    ("execution", *_HISTORY),
    decision=True,
)
TRADE_EXITS = Topic(
    "trade.exits",
    (Exit,),
    "Intents that can only reduce: stops, take-profits, cancels, closes",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "at"),
    ("exits",),
    ("execution", *_HISTORY),
    decision=True,
)
TRADE_ORDERS = Topic(
    "trade.orders",
    (Order,),
    "The life of every order as the executor lives it, and its outbox",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "client_id", "at"),
    ("execution",),
    ("execution", "risk", "exits", *_HISTORY),
    decision=True,
)
TRADE_FILLS = Topic(
    "trade.fills",
    (Fill,),
    "What the exchange did: our trades",
    Key.INSTRUMENT,
    365 * _DAY,
    ("instrument", "trade_id"),
    ("account",),
    ("account", "execution", "positions", *_HISTORY),
    decision=True,
)
ACCOUNT_ORDER_UPDATES = Topic(
    "account.order-updates",
    (OrderUpdate,),
    "What the exchange says of orders on the user stream, both books",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "client_id", "at"),
    ("account",),
    ("execution", *_HISTORY),
    decision=True,
)
ACCOUNT_SNAPSHOTS = Topic(
    "account.snapshots",
    (AccountSnapshot,),
    "Wallet, equity and positions as the exchange states them",
    Key.ACCOUNT,
    90 * _DAY,
    ("account", "at"),
    ("account",),
    ("risk", *_HISTORY),
)
ACCOUNT_CORRECTIONS = Topic(
    "account.corrections",
    (Correction,),
    "Where the exchange and our log differed: missed fills, unexplained positions, foreign orders",
    Key.INSTRUMENT,
    365 * _DAY,
    ("instrument", "at"),
    ("account",),
    ("risk", *_HISTORY),
    decision=True,
)
TRADE_POSITIONS = Topic(
    "trade.positions",
    (Position,),
    "Positions: a fold of fills",
    Key.POSITION,
    None,
    ("instrument", "position_id", "revision"),
    ("positions",),
    ("exits", "risk", *_HISTORY),
    decision=True,
)
TRADE_CLOSED = Topic(
    "trade.closed",
    (Closed,),
    "Round trips with profit, fees and the reason of the exit",
    Key.INSTRUMENT,
    365 * _DAY,
    ("instrument", "closed_at"),
    ("positions",),
    ("risk", *_HISTORY),
    decision=True,
)
TRADE_EXIT_PLANS = Topic(
    "trade.exit-plans",
    (ExitPlan,),
    "How each position will be left, every revision",
    Key.POSITION,
    None,
    ("instrument", "position_id", "revision"),
    ("exits",),
    ("guardian", "market", *_HISTORY),
    decision=True,
)
TRADE_EXIT_DECISIONS = Topic(
    "trade.exit-decisions",
    (ExitDecision, ExitHolds),
    "Every decision of exits; those that hold at a marks record in one",
    Key.INSTRUMENT,
    30 * _DAY,
    ("instrument", "at"),
    ("exits",),
    _HISTORY,
    decision=True,
)
CONTROL_COMMANDS = Topic(
    "control.commands",
    (Command,),
    "Wishes of people, by the command line",
    Key.NONE,
    365 * _DAY,
    ("at",),
    ("cli",),
    ("control", "exits", *_HISTORY),
    decision=True,
    wall=True,
)
CONTROL_AUDIT = Topic(
    "control.audit",
    (Audit,),
    "What became of each command",
    Key.NONE,
    365 * _DAY,
    ("at",),
    ("control",),
    ("risk", *_HISTORY),
    decision=True,
    wall=True,
)
POLICY_VERSIONS = Topic(
    "policy.versions",
    (PolicyVersion,),
    "The policy after every change",
    Key.NAME,
    None,
    ("version",),
    ("control",),
    ("market", "signals", "risk", "execution", "exits", "guardian", *_HISTORY),
    decision=True,
    wall=True,
)
MODEL_VERSIONS = Topic(
    "model.versions",
    (ModelVersion,),
    "Which model version serves, served before, and scores in the shadow",
    Key.NAME,
    None,
    ("number",),
    ("control",),
    ("signals", *_HISTORY),
    decision=True,
    wall=True,
)
MODEL_SWITCHES = Topic(
    "model.switches",
    (ModelSwitch,),
    "What the serving worker made of it: from which candle on a version decides, or why it was refused",
    Key.NONE,
    365 * _DAY,
    ("number", "at"),
    ("signals",),
    _HISTORY,
    decision=True,
)
MODEL_SUPERVISION = Topic(
    "model.supervision",
    (Supervision,),
    "How one-sided and how right the model's signals have been, round by round, and what was blocked",
    Key.NONE,
    90 * _DAY,
    ("at",),
    ("signals",),
    _HISTORY,
    decision=True,
)
GUARDIAN_REPORTS = Topic(
    "guardian.reports",
    (GuardianReport,),
    "What the guardian saw and did",
    Key.INSTRUMENT,
    90 * _DAY,
    ("instrument", "at"),
    ("guardian",),
    ("risk", *_HISTORY),
    decision=True,
)
HEALTH_HEARTBEATS = Topic(
    "health.heartbeats",
    (Heartbeat,),
    "Each worker every few wall seconds",
    Key.NAME,
    2 * _DAY,
    ("worker", "at"),
    ("*",),
    ("risk", *_HISTORY),
    wall=True,
)
DEAD_LETTERS = Topic(
    "dead.letters",
    (DeadLetter,),
    "Messages that a stage could not take, with the reason",
    Key.NONE,
    30 * _DAY,
    ("topic", "at"),
    ("*",),
    _HISTORY,
    wall=True,
)

FOLLOWED = (POLICY_VERSIONS, BREAKER_STATES, RISK_STATES, TRADE_EXIT_PLANS)
"""Read whole by a thread of whoever needs them, without a group (history apart): no stage's input, and no lag of one."""
ALL: tuple[Topic, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Topic))
BY_NAME: Mapping[str, Topic] = {topic.name: topic for topic in ALL}
BY_TYPE: Mapping[str, Topic] = {event.type_name(): topic for topic in ALL for event in topic.events}

WORKERS = (
    "market",
    "features",
    "signals",
    "risk",
    "execution",
    "account",
    "positions",
    "exits",
    "control",
    "guardian",
    "history",
)
"""Every worker that the launcher starts, in drain order: what feeds comes before what is fed."""


_OF_A_PARTITION = {Tick.type_name(), Marks.type_name(), Barrier.type_name(), MarketRegime.type_name(), ExitHolds.type_name()}
"""They speak of their whole partition: null key."""
_NAMES = {PolicyVersion.type_name(): "policy", ModelVersion.type_name(): "models"}


def _name_of(event: Any) -> str:
    if event.type == Heartbeat.type_name():
        return str(event.member)
    if event.type == BreakerState.type_name():
        return f"{event.account}/{event.scope}"
    return _NAMES[event.type]


def position_key(account: str, instrument: str, side: str) -> str:
    return f"{account}/{instrument}/{side}"


def route(event: Any) -> tuple[Topic, bytes | None, int]:
    """Topic, key and partition of an event, pydantic or hot struct. Raises KeyError for an event that no topic carries."""
    topic = BY_TYPE[event.type]
    if event.type in _OF_A_PARTITION:
        return topic, None, event.partition
    match topic.key:
        case Key.INSTRUMENT:
            return topic, event.instrument.encode(), ids.partition_of(event.instrument)
        case Key.SEQUENCE:
            return topic, event.instrument.encode(), 0
        case Key.POSITION:
            key = position_key(event.account, event.instrument, event.side)
            return topic, key.encode(), ids.partition_of(event.instrument)
        case Key.ACCOUNT:
            return topic, str(getattr(event, "account", "")).encode(), 0
        case Key.NAME:
            return topic, _name_of(event).encode(), 0
        case _:
            return topic, None, 0
