"""The entry that benches send: one instrument, a LONG with its stop, whatever else differs is said."""

from __future__ import annotations

from typing import Any

from schemas.ids import Purpose, client_id
from schemas.signals import Strategy
from schemas.trading import Entry
from schemas.units import Side, Source


def entry(key: str, instrument: str, **chosen: Any) -> Entry:
    """`key` names it: the same key gives the same client ids. `chosen`: order_type, quantity, prices; any other field too."""
    usual: dict[str, Any] = {
        "event_id": f"entry-{key}",
        "at": 1,
        "instrument": instrument,
        "account": "sim",
        "decision_id": "d",
        "verdict_id": "v",
        "strategy": Strategy.SCRIPTED,
        "side": Side.LONG,
        "limit_price": None,
        "leverage": 3,
        "client_id": client_id(Purpose.ENTRY, key),
        "stop_client_id": client_id(Purpose.STOP, key),
        "not_after": 10**12,
        "policy_version": 1,
        "source": Source.SYNTHETIC,
    }
    return Entry(**(usual | chosen))
