"""What can happen to an event of the user stream between the exchange and those who listen: told twice, late, after
the next one, or never.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from infra.venue.local.faults import Faults

HELD_S: Final = 0.5  # an event that waits for the next one waits no longer

Push = Callable[[str], None]


class EventFaults:
    """Stands before the hub's user streams."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._held: list[tuple[str, Push]] = []

    def pass_on(self, text: str, push: Push) -> None:
        fault = self.faults.take_event(name_of(text), text) if self.faults.planned else None
        if fault is None:
            push(text)
            self._release()
            return
        match fault.kind:
            case "event-duplicate":
                push(text)
                push(text)
            case "event-delay":
                asyncio.get_running_loop().call_later(fault.delay_s, push, text)
            case "event-reorder":
                self._held.append((text, push))
                asyncio.get_running_loop().call_later(fault.delay_s or HELD_S, self._release)
            case "event-drop":
                pass

    def _release(self) -> None:
        held, self._held = self._held, []
        for text, push in held:
            push(text)


def name_of(text: str) -> str:
    """The kind of an event that begins with {"e":"..."."""
    return text[6 : text.index('"', 6)] if text.startswith('{"e":"') else ""
