"""Kafka records -> columns of their table. Every record becomes a row, also a tombstone, also bytes that are no event.

A row depends on its record alone, so that a batch that is formed again after a crash is the same batch.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_DOWN, Decimal, InvalidOperation
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from infra.clickhouse.tables import WHOLE_DIGITS, Amount, Table

_LIMIT = Decimal(10) ** WHOLE_DIGITS
_STEP = Decimal("1E-12")
ERROR_LENGTH = 500
Columns = list[list[Any]]


class Record(NamedTuple):
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]]


class Poison(NamedTuple):
    """A record that is no event of its topic: its row holds the bytes and the reason."""

    record: Record
    error: Exception


class Rows:
    """Of one table. Thread-safe after it is made."""

    def __init__(self, table: Table) -> None:
        self.table = table
        fields = [
            (
                column.name,
                column.python,
                msgspec.field(default=column.default) if column.default is not msgspec.NODEFAULT else msgspec.field(),
            )
            for column in sorted(table.fields, key=lambda column: column.default is not msgspec.NODEFAULT)
        ]
        struct = msgspec.defstruct(table.name, fields, gc=False)
        self._decode = msgspec.json.Decoder(struct, dec_hook=_amount).decode
        self._nothing = struct(event_id="", type="", at=0)
        self._take: list[tuple[Callable[[Any], Any], Callable[[Any], Any] | None]] = [
            (attrgetter(column.name), _converter(column.type, column.python)) for column in table.fields
        ]

    def columns(self, records: Sequence[Record]) -> tuple[Columns, list[Poison]]:
        """In the order of `table.columns`."""
        events, errors, raws = [], [], []
        poison: list[Poison] = []
        keep_raw = self.table.raw
        for record in records:
            value = record.value
            error, raw, event = "", "", self._nothing
            if value is not None:
                try:
                    event = self._decode(value)
                    raw = value.decode() if keep_raw else ""
                except (ValueError, InvalidOperation, RecursionError) as reason:  # msgspec's errors are ValueErrors
                    error, raw = f"{type(reason).__name__}: {reason}"[:ERROR_LENGTH], text_of(value)
                    poison.append(Poison(record, reason))
            events.append(event)
            errors.append(error)
            raws.append(raw)
        columns: Columns = [
            [record.partition for record in records],
            [record.offset for record in records],
            [max(record.time_ms, 0) for record in records],
            [(record.key or b"").decode(errors="replace") for record in records],
            [{name: (text or b"").decode(errors="replace") for name, text in record.headers} for record in records],
            [record.value is None for record in records],
            errors,
        ]
        for get, convert in self._take:
            found = list(map(get, events))
            columns.append(list(map(convert, found)) if convert else found)
        columns.append(raws)
        return columns, poison


def text_of(value: bytes) -> str:
    """Bytes that may be anything: as they read, else in base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "base64:" + base64.b64encode(value).decode()


def _amount(kind: type, found: Any) -> Any:
    """Money as the column holds it: finite, 26 digits before the point, 12 behind, cut and not rounded. Raises ValueError."""
    if kind is not Amount:
        raise NotImplementedError(kind)
    amount = Decimal(str(found))
    if not amount.is_finite() or abs(amount) >= _LIMIT:
        raise ValueError(f"{found!r} is no amount below 10^{WHOLE_DIGITS}")
    if amount.as_tuple().exponent < -12:  # type: ignore[operator]  # it is finite
        amount = amount.quantize(_STEP, ROUND_DOWN)
    return Amount(amount)


def _converter(kind: str, python: Any) -> Callable[[Any], Any] | None:
    if kind.startswith("Array(Tuple("):
        return lambda found: [msgspec.structs.astuple(one) for one in found]
    if python is msgspec.Raw:
        return lambda found: bytes(found).decode()
    return None
