"""What holds entries back, as risk and execution ask it. Both hand in what opens a position; an exit has no way in.

Risk asks with its own state, in the step that would make the entry. Execution asks again before every call, with the states that
the log shows and the stop file: between approval and sending the world may have changed, and a stop must work without the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from processors.breaker import Breaker
from processors.emergency import Emergency
from processors.intents import Opening
from schemas.risk import ALL, BreakerState, Phase, Reason, RiskState
from schemas.trading import Entry


class Held(NamedTuple):
    """No, with the reason."""

    reason: Reason
    detail: str


class Known(NamedTuple):
    """The brakes as execution knows them. `stop_file`: what the file says, None where there is none."""

    risk: RiskState | None = None
    breakers: Mapping[str, BreakerState] = {}
    stop_file: str | None = None


def judge(entry: Entry, own: Breaker, of_all: Breaker, emergency: Emergency, others_under_way: int) -> Held | None:
    """Risk's question. The breaker of all on trial lets one entry out at a time; a symbol has never more than one under way."""
    if emergency.stopped:
        return Held(Reason.EMERGENCY_STOP, "; ".join(emergency.evidence))
    if of_all.phase is Phase.OPEN or (of_all.phase is Phase.HALF_OPEN and others_under_way):
        return Held(Reason.BREAKER_OPEN, f"of all symbols, {of_all.phase}: {of_all.evidence}")
    if own.phase is Phase.OPEN:
        return Held(Reason.BREAKER_OPEN, f"of {entry.instrument}, {own.reason}: {own.evidence}")
    return None


def hold(opening: Opening, known: Known) -> Held | None:
    """Execution's question, before every call that opens."""
    if known.stop_file is not None:
        return Held(Reason.EMERGENCY_STOP, f"stop file: {known.stop_file}")
    if known.risk is not None and known.risk.stopped:
        return Held(Reason.EMERGENCY_STOP, "; ".join(known.risk.evidence))
    for scope in (ALL, opening.instrument):
        state = known.breakers.get(scope)
        if state is not None and state.phase is Phase.OPEN:
            return Held(Reason.BREAKER_OPEN, f"of {scope}, {state.reason}: {state.evidence}")
    return None
