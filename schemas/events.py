"""What every event has. Frozen; unknown fields are ignored on reading, so that an older worker reads a newer message."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from schemas.ids import AccountId, EventId, Instrument
from schemas.units import UtcMs


class Value(BaseModel):
    """A frozen part of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Value):
    """`event_id, type, at` stand first in every message; `type` is fixed by the class."""

    VERSION: ClassVar[int] = 1

    event_id: EventId
    type: str
    at: UtcMs

    @classmethod
    def type_name(cls) -> str:
        default: Any = cls.model_fields["type"].default
        return str(default)

    def encode(self) -> bytes:
        return self.model_dump_json().encode()


class InstrumentEvent(Event):
    instrument: Instrument


class AccountEvent(InstrumentEvent):
    """A fact or a decision about money: the account stands in it from day one."""

    account: AccountId
