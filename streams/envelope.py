"""Events and their bytes: values as UTF-8 JSON, headers that tie an event to what caused it.

event_id      this event
schema        market.candle/1                       type and version of its model
trace_id      the chain it belongs to: inherited from its cause, else the event's own id
causation_id  event id of the cause
producer      the worker that wrote it
traceparent   00-<trace>-<span>-01                  the same chain as W3C tracing tools read it
inputs        market.trades/3/1207                  topic/partition/offset that caused it, comma-separated
caused_at     1722470400120                         when that stood in the log (its Kafka time, ms): how long the stage took
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from schemas import hot, topics
from schemas.events import Event
from schemas.generate import HOT

Headers = list[tuple[str, bytes]]


class Cause(NamedTuple):
    """Why an event is written. `inputs`: `topic/partition/offset`, several joined by commas; empty for none. `logged_ms`: Kafka's
    time of that record; 0 where there is none."""

    event_id: str
    trace_id: str
    inputs: str = ""
    logged_ms: int = 0


class Outgoing(NamedTuple):
    """A record ready for any Kafka client."""

    topic: str
    key: bytes | None
    value: bytes
    partition: int
    headers: Headers


class Undecodable(ValueError):
    """Bytes that are no event of their topic."""


class _Peek(msgspec.Struct):
    type: str


END_OF_TIME = 4_102_444_800_000
"""2100: what claims to be later is a mistake that would outlive every repair, since states keep the latest time they saw."""
TRACE_LONGEST = 200
"""Characters of a trace id that are handed on."""


_HOT: Mapping[str, type[msgspec.Struct]] = {
    str(model.model_fields["type"].default): getattr(hot, model.__name__) for model in HOT if "type" in model.model_fields
}
_SCHEMA: Mapping[str, bytes] = {
    event.type_name(): f"{event.type_name()}/{event.VERSION}".encode() for topic in topics.ALL for event in topic.events
}
_peek = msgspec.json.Decoder(_Peek)
_encode = msgspec.json.encode
_BEFORE_TYPE = b'"type":"'


def _reader(event: type[Event]) -> Callable[[bytes], Any]:
    struct = _HOT.get(event.type_name())
    if struct is not None:
        return msgspec.json.Decoder(struct).decode
    return event.model_validate_json


_READERS: Mapping[str, Mapping[str, Callable[[bytes], Any]]] = {
    topic.name: {event.type_name(): _reader(event) for event in topic.events} for topic in topics.ALL
}


def decode(topic: str, value: bytes) -> Any:
    """The event: a hot struct for market data, else its frozen model. Raises Undecodable."""
    readers = _READERS[topic]
    try:
        if len(readers) == 1:
            (read,) = readers.values()
        else:
            kind = _type_of(value)
            found = readers.get(kind)
            if found is None:
                raise Undecodable(f"{topic} carries no {kind!r}")
            read = found
        event = read(value)
        if not 0 <= event.at < END_OF_TIME:
            raise Undecodable(f"at = {event.at} is no time of this century")
        return event
    except Undecodable:
        raise
    except ValueError as e:  # msgspec's and pydantic's errors are ValueErrors
        raise Undecodable(str(e)) from e


def _type_of(value: bytes) -> str:
    """`type` stands among the first fields of every message, so that it is found without decoding the rest."""
    start = value.find(_BEFORE_TYPE, 0, 200)
    if start >= 0:
        start += len(_BEFORE_TYPE)
        end = value.find(b'"', start, start + 100)
        if end >= 0:
            return value[start:end].decode()
    return _peek.decode(value).type


def encode(event: Any) -> bytes:
    return _encode(event) if isinstance(event, msgspec.Struct) else event.encode()


def seal(event: Any, producer: str, cause: Cause | None = None) -> Outgoing:
    """The record of an event: routed by the registry, encoded, with headers."""
    topic, key, partition = topics.route(event)
    return Outgoing(topic.name, key, encode(event), partition, headers(event, producer, cause))


def headers(event: Any, producer: str, cause: Cause | None = None) -> Headers:
    event_id = event.event_id
    trace, inherited = _inherited(producer, cause or Cause("", event_id))
    return [
        ("event_id", event_id.encode()),
        ("schema", _SCHEMA[event.type]),
        ("traceparent", f"00-{trace}-{_hex(event_id, 8)}-01".encode()),
        *inherited,
    ]


@lru_cache(maxsize=64)
def _inherited(producer: str, cause: Cause) -> tuple[str, Headers]:
    """What all events of one cause have alike, and the hexadecimal trace: some causes have hundreds."""
    found = [("trace_id", cause.trace_id.encode()), ("producer", producer.encode())]
    if cause.event_id:
        found.append(("causation_id", cause.event_id.encode()))
    if cause.inputs:
        found.append(("inputs", cause.inputs.encode()))
    if cause.logged_ms:
        found.append(("caused_at", str(cause.logged_ms).encode()))
    return _hex(cause.trace_id, 16), found


def cause_of(
    event_id: str, topic: str, partition: int, offset: int, headers: Iterable[tuple[str, bytes]] | None, logged_ms: int = 0
) -> Cause:
    """What a record is to the events that it causes; a record without a trace begins one."""
    trace_id = event_id
    for name, value in headers or ():
        if name == "trace_id":
            trace_id = (value or b"")[:TRACE_LONGEST].decode(errors="replace") or event_id
            break
    return Cause(event_id, trace_id, f"{topic}/{partition}/{offset}", logged_ms)


def _hex(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode(), digest_size=size).hexdigest()
