"""The tables of the registry: one per topic, one row per Kafka record, columns from the events' own fields.

    pydantic                         ClickHouse
    UtcMs                            DateTime64(3, 'UTC')
    Money, Price, Quantity           Decimal(38, 12): sums are exact, price x quantity fits up to 10^14, which (38, 18) does not
    MarketPrice, float               Float64
    StrEnum, Literal, words          LowCardinality(String)
    list[model]                      Array(Tuple(...)), a model: its JSON as String
    X | None                         Nullable(X), of words LowCardinality(Nullable(String))

The events of one topic share a table: a field that an event lacks has its type's default. Each column also has the Python type that
history reads it with. Names that the log itself gives begin with `k_`.
"""

from __future__ import annotations

import operator
import types
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.topics import ALL, Topic
from schemas.units import UtcMs

TIME = "DateTime64(3, 'UTC')"
MONEY = "Decimal(38, 12)"
WORD = "LowCardinality(String)"
WORD_OR_NONE = "LowCardinality(Nullable(String))"
WHOLE_DIGITS = 26
"""Digits before the point that MONEY holds."""
KEPT = 30
"""Observations are kept this many times as long as Kafka keeps them; decisions for ever."""
DEDUPLICATION_WINDOW = 10_000

_TIME_TEXT = "milliseconds since the epoch, UTC"
_WORDS = frozenset(
    "instrument account interval feature_set feature_hash model model_version profile mode status execution order_type fee_asset "
    "stage topic worker member actor action decision error reason kind purpose".split()
)
"""Plain strings with few different values. `reason` of a person is among them: people repeat themselves."""
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Amount(Decimal):
    """Money as a column holds it. A type of its own, so that whoever decodes it checks that it fits."""


@dataclass(frozen=True, slots=True)
class Column:
    """`python`: what msgspec decodes it to; `default`: of a record that lacks it (None: Nullable)."""

    name: str
    type: str
    python: Any = None
    default: Any = None

    @property
    def codec(self) -> str:
        if self.name == "k_offset":
            return "CODEC(DoubleDelta, ZSTD(1))"
        if self.type == TIME:
            return "CODEC(Delta(8), ZSTD(1))"
        return "CODEC(ZSTD(1))" if self.name in ("raw", "k_headers") or self.type.startswith("Array(") else ""

    @property
    def sql(self) -> str:
        return f"`{self.name}` {self.type} {self.codec}".rstrip()


KAFKA_COLUMNS = (
    Column("k_partition", "UInt16"),
    Column("k_offset", "UInt64"),
    Column("k_time", TIME),
    Column("k_key", "String"),
    Column("k_headers", "Map(LowCardinality(String), String)"),
    Column("k_tombstone", "Bool"),
    Column("k_error", "String"),
)
RAW = Column("raw", "String")
"""The value as it stands in Kafka: of decision topics, and of any record that is no event (then `k_error` says why)."""


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    about: str
    fields: tuple[Column, ...]
    order_by: tuple[str, ...]
    daily: bool
    keep: timedelta | None
    raw: bool

    @property
    def columns(self) -> tuple[Column, ...]:
        """In the order of the table and of every insert."""
        return (*KAFKA_COLUMNS, *self.fields, RAW)

    @property
    def create(self) -> str:
        lines = [f"CREATE TABLE IF NOT EXISTS {self.name}", "("]
        lines += [f"    {column.sql}," for column in self.columns]
        lines[-1] = lines[-1].rstrip(",")
        lines += [
            ")",
            "ENGINE = MergeTree",
            f"PARTITION BY {'toYYYYMMDD' if self.daily else 'toYYYYMM'}(k_time)",
            f"ORDER BY ({', '.join((*self.order_by, 'k_partition', 'k_offset'))})",
        ]
        settings = f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        if self.keep:
            lines.append(f"TTL toDateTime(k_time) + INTERVAL {self.keep.days} DAY")
            settings += ", ttl_only_drop_parts = 1"
        lines += [f"SETTINGS {settings}", f"COMMENT '{self.about.replace(chr(39), chr(92) + chr(39))}'"]
        return "\n".join(lines)


def table_of(topic: Topic) -> Table:
    """Raises TypeError for a field that no rule covers, or that two events of the topic type differently."""
    found: dict[str, Column] = {}
    for event in topic.events:
        for name, field in event.model_fields.items():
            column = _column(event, name, field)
            if found.setdefault(name, column) != column:
                raise TypeError(f"{topic.name}: {name} is {found[name].type} in one event and {column.type} in {event.__name__}")
    for name in topic.order_by:
        if name not in found:
            raise TypeError(f"{topic.name} is ordered by {name}, which none of its events has")
    return Table(
        name=topic.table,
        about=topic.about,
        fields=tuple(found.values()),
        order_by=topic.order_by,
        daily=topic.name.startswith("market."),
        keep=None if topic.decision or topic.retain is None else KEPT * topic.retain,
        raw=topic.decision,
    )


def registry(topics: Iterable[Topic] = ALL) -> tuple[Table, ...]:
    return tuple(table_of(topic) for topic in topics)


def _column(event: type[BaseModel], name: str, field: FieldInfo) -> Column:
    if name in ("event_id", "type", "at"):
        kind, python, _ = {"event_id": ("String", str, ""), "type": (WORD, str, ""), "at": (TIME, _Int64, 0)}[name]
        return Column(name, kind, python, msgspec.NODEFAULT)
    annotation = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    if field.description == _TIME_TEXT:
        annotation = UtcMs
    try:
        return Column(name, *_type(name, annotation))
    except TypeError as error:
        raise TypeError(f"{event.__name__}.{name}: {error}") from error


def _type(name: str, annotation: Any) -> tuple[str, Any, Any]:
    """ClickHouse type, Python type, default."""
    extra: tuple[Any, ...] = ()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        extra = tuple(rest)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        some = [part for part in inner if part is not type(None)]
        if len(some) == 1 and len(inner) == 2:
            kind, python, _ = _type("", some[0])
            return WORD_OR_NONE if kind == WORD else f"Nullable({kind})", operator.or_(python, None), None
    elif origin is Literal and all(isinstance(word, str) for word in inner):
        return WORD, str, ""
    elif origin is list:
        kind, python, _ = _type(name, inner[0])
        return f"Array({kind})", types.GenericAlias(list, (python,)), []
    elif not isinstance(annotation, type):
        pass
    elif issubclass(annotation, Enum):
        return WORD, str, ""
    elif issubclass(annotation, bool):
        return "Bool", bool, False
    elif issubclass(annotation, int):
        is_time = any(isinstance(part, FieldInfo) and part.description == _TIME_TEXT for part in extra)
        return (TIME if is_time else "Int64"), _Int64, 0
    elif issubclass(annotation, float):
        return "Float64", float, 0.0
    elif issubclass(annotation, Decimal):
        return MONEY, Amount, Amount(0)
    elif issubclass(annotation, str):
        return (WORD if name in _WORDS else "String"), str, ""
    elif issubclass(annotation, BaseModel):
        return _model(annotation)
    raise TypeError(f"no column type for {annotation!r}")


def _model(model: type[BaseModel]) -> tuple[str, Any, Any]:
    """In a list: a Tuple. Deep ones (a policy) would be a column a leaf: their JSON is kept instead."""
    fields = model.model_fields
    if any(
        isinstance(part, type) and issubclass(part, BaseModel) for field in fields.values() for part in _leaves(field.annotation)
    ):
        return "String", msgspec.Raw, msgspec.Raw(b"")
    columns = [_column(model, name, field) for name, field in fields.items()]
    inside = ", ".join(f"{column.name} {column.type}" for column in columns)
    python = msgspec.defstruct(model.__name__, [(column.name, column.python) for column in columns], frozen=True, gc=False)
    return f"Tuple({inside})", python, None


def _leaves(annotation: Any) -> list[Any]:
    inner = get_args(annotation)
    return [leaf for part in inner for leaf in _leaves(part)] if inner else [annotation]
