"""Identity: an id is a hash of what caused the thing, so that the same cause gives the same id whoever computes it.

instrument   binance.usdm.BTCUSDT        venue.market.symbol
event id     26 characters of base32     event_id("signal.decision", features_id, model_version)
client id    e-<24 characters>           an order on the exchange; the prefix tells its purpose from the id alone
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import StringConstraints

PARTITIONS = 12
"""Partitions of every topic that is keyed by instrument: joined topics must agree."""

INSTRUMENT_PATTERN = r"^[a-z]+\.[a-z]+\.[A-Z0-9_]+$"
Instrument = Annotated[str, StringConstraints(pattern=INSTRUMENT_PATTERN)]
AccountId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,32}$")]
EventId = Annotated[str, StringConstraints(min_length=1, max_length=64)]
ClientId = Annotated[str, StringConstraints(pattern=r"^[.A-Z:/a-z0-9_-]{1,36}$")]


class InstrumentParts(NamedTuple):
    venue: str
    market: str
    symbol: str


def instrument(venue: str, market: str, symbol: str) -> str:
    """Raises ValueError when a part does not fit."""
    name = f"{venue}.{market}.{symbol}"
    if not re.match(INSTRUMENT_PATTERN, name):
        raise ValueError(f"{name!r} is no instrument: want venue.market.SYMBOL, as in binance.usdm.BTCUSDT")
    return name


def parts(name: str) -> InstrumentParts:
    venue, market, symbol = name.split(".", 2)
    return InstrumentParts(venue, market, symbol)


def symbol_of(name: str) -> str:
    return name.rsplit(".", 1)[1]


def _digest(words: tuple[object, ...], size: int) -> str:
    text = "\x1f".join(str(word) for word in words)
    return _base32(hashlib.blake2b(text.encode(), digest_size=size).digest())


_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_SHIFTS = {15: (0, range(110, -1, -10)), 16: (2, range(120, -1, -10))}


def _base32(raw: bytes) -> str:
    """RFC 4648 in lower case without padding, of 15 or 16 bytes: ids are made by the thousand, the library's way is three times
    as slow."""
    pad, shifts = _SHIFTS[len(raw)]
    number = int.from_bytes(raw, "big") << pad
    return "".join([_PAIRS[number >> shift & 1023] for shift in shifts])


def event_id(type_: str, *causes: object) -> str:
    """128 bits over the type and what caused the event; 26 characters [a-z2-7]."""
    return _digest((type_, *causes), 16)


class Purpose(StrEnum):
    """What an order is for: readable from the first character of its client id, also after a total loss of memory."""

    ENTRY = "ENTRY"
    STOP = "STOP"
    TAKE_PROFIT = "TAKE_PROFIT"
    CLOSE = "CLOSE"
    GUARDIAN = "GUARDIAN"
    FOREIGN = "FOREIGN"


_PREFIX = {Purpose.ENTRY: "e", Purpose.STOP: "s", Purpose.TAKE_PROFIT: "t", Purpose.CLOSE: "x", Purpose.GUARDIAN: "g"}
_PURPOSE = {prefix: purpose for purpose, prefix in _PREFIX.items()}
_OURS = re.compile(r"^([estxg])-[a-z2-7]{24}$")


def client_id(purpose: Purpose, *causes: object) -> str:
    """Client order id, 26 characters [a-z0-9-] (the exchange allows 36): 120 bits over the intent and the leg."""
    return f"{_PREFIX[purpose]}-{_digest((purpose.value, *causes), 15)}"


def purpose_of(order_id: str) -> Purpose:
    """FOREIGN for an order that we did not name, the exchange's own `autoclose-` among them."""
    found = _OURS.match(order_id)
    return _PURPOSE[found.group(1)] if found else Purpose.FOREIGN


@lru_cache(maxsize=4096)
def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """The partition that Kafka's Java client and aiokafka choose for this key: murmur2, positive, modulo."""
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Kafka's murmur2 (seed 0x9747b28c), 32 bits."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    rest = data[whole:]
    if rest:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)
