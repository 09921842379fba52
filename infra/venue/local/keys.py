"""The user stream's key: one at a time, alive for sixty minutes of real time after each renewal."""

from __future__ import annotations

import secrets
from typing import Final

LIFE_S: Final = 3_600.0


class ListenKey:
    def __init__(self) -> None:
        self.value = ""
        self._until_s = 0.0

    def obtain(self, wall_s: float) -> str:
        """The same key as long as it lives, extended; else a new one."""
        if not self.value:
            self.value = secrets.token_hex(32)
        self._until_s = wall_s + LIFE_S
        return self.value

    def extend(self, wall_s: float) -> bool:
        if not self.value:
            return False
        self._until_s = wall_s + LIFE_S
        return True

    def close(self) -> str:
        closed, self.value = self.value, ""
        return closed

    def expired(self, wall_s: float) -> bool:
        return bool(self.value) and wall_s >= self._until_s
