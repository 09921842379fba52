"""Exit Brain, pure: how each position is left. `step` is the join, `rules` its precedence."""

from processors.exits.said import Hold, gathered
from processors.exits.state import State
from processors.exits.step import keys, step

__all__ = ["Hold", "State", "gathered", "keys", "step"]
