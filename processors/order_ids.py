"""How orders, positions and plans get their ids: each from its cause alone, so that whoever computes it gets the same.

    entry      e-H(entry id)                  its stop  s-H(entry id)
    close      x-H("close", anchor, reason, n)            anchor: the position, or the entry that is closed before it has a plan
    attempt k  same prefix, H(first client id, k)         after a query proved that attempt k-1 never arrived

A close's reason stands in the hash, so a fold of fills reads it back from the client id alone, also after a total loss of memory.
"""

from __future__ import annotations

from functools import lru_cache

from schemas import ids
from schemas.ids import Purpose
from schemas.trading import ExitReason

MAX_CLOSES = 16
MAX_ATTEMPTS = 8
"""How far `close_reason` looks: a close beyond them is still a close, its reason is then read as MANUAL."""


def position_id(account: str, instrument: str, first_trade_id: int) -> str:
    return ids.event_id("position", account, instrument, first_trade_id)


def plan_id(position: str) -> str:
    return ids.event_id("plan", position)


def close_id(anchor: str, reason: ExitReason, n: int) -> str:
    """The n-th close (from 0) of a position for one reason."""
    return ids.client_id(Purpose.CLOSE, "close", anchor, reason.value, n)


def cancel_id(exit_id: str) -> str:
    """A cancel's own id in the outbox; the exchange never sees it."""
    return ids.client_id(Purpose.CLOSE, "cancel", exit_id)


@lru_cache(maxsize=65_536)
def attempt_id(first: str, attempt: int) -> str:
    """The client id of an intent's attempt (from 1). The exchange forgets used ids, so each attempt needs its own."""
    return first if attempt <= 1 else ids.client_id(ids.purpose_of(first), "attempt", first, attempt)


@lru_cache(maxsize=1024)
def close_reason(client_id: str, anchors: tuple[str, ...]) -> ExitReason:
    """Why this close was sent, by trying what it can be a hash of. MANUAL when it is none of ours."""
    for n in range(MAX_CLOSES):
        for anchor in anchors:
            for reason in ExitReason:
                first = close_id(anchor, reason, n)
                if any(attempt_id(first, attempt) == client_id for attempt in range(1, MAX_ATTEMPTS + 1)):
                    return reason
    return ExitReason.MANUAL
