"""Does the user stream still tell? A stream may answer pings and say nothing for a day; what the exchange shows tells it.

A position that has changed between two looks must have been told by then, or by the look after: what is on its way is not missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal


class Silence:
    """`told` for every position that the stream speaks of; `look` at each look at all positions."""

    def __init__(self) -> None:
        self._shown: Mapping[str, Decimal] | None = None
        self._told: set[str] = set()
        self._told_before: set[str] = set()
        self._waited: set[str] = set()

    @property
    def waits(self) -> bool:
        """Something that was shown has not been told yet: look again soon."""
        return bool(self._waited)

    def told(self, instrument: str) -> None:
        self._told.add(instrument)

    def look(self, quantities: Mapping[str, Decimal]) -> set[str]:
        """Instruments whose change the stream has kept to itself."""
        before = self._shown if self._shown is not None else quantities
        heard = self._told | self._told_before
        missing = self._waited - heard
        names = {*before, *quantities}
        self._waited = {name for name in names if before.get(name) != quantities.get(name)} - heard
        self._shown, self._told_before, self._told = quantities, self._told, set()
        return missing

    def forget(self) -> None:
        """A new connection: what was not told is seen by the look that follows."""
        self._shown = None
        self._waited = set()
