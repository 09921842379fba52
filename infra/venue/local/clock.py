"""Market time: runs `speed` times as fast as the wall, stops in a pause, and never jumps.

Wall seconds come in as values (a monotonic clock). When the process could not keep up (it was frozen, or the
machine was), `slip` lets market time wait for it instead of racing to catch up; what was lost so is counted.
"""

from __future__ import annotations


class MarketClock:
    def __init__(self, start_t: int, speed: float, wall_s: float) -> None:
        self.speed = speed
        self.paused = False
        self.slipped_s = 0.0
        self._anchor_t = float(start_t)
        self._anchor_wall = wall_s

    def at(self, wall_s: float) -> int:
        """Market time in milliseconds."""
        if self.paused:
            return int(self._anchor_t)
        return int(self._anchor_t + (wall_s - self._anchor_wall) * 1000 * self.speed)

    def pause(self, wall_s: float) -> None:
        self._anchor_t, self._anchor_wall = self.at(wall_s), wall_s
        self.paused = True

    def resume(self, wall_s: float) -> None:
        if self.paused:
            self._anchor_wall = wall_s
            self.paused = False

    def slip(self, wall_s: float, t: int) -> None:
        """Say that it is `t` now."""
        self.slipped_s += max(0.0, (self.at(wall_s) - t) / 1000 / self.speed)
        self._anchor_t, self._anchor_wall = float(t), wall_s
