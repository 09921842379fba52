"""Which model serves: what people have decided (versions), and what the worker that serves has made of it (switches)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from schemas import ids
from schemas.events import Event
from schemas.numbered import Number, Numbered
from schemas.units import Probability, UtcMs

BUILT_IN = "built-in"
"""The version that comes with the package, or stands at QT_MODEL_DIR: what serves while nobody has chosen another."""


class ModelVersion(Numbered):
    """The pointers after a change, numbered. `at` is the wall's. `previous`: what a rollback goes back to.

    `shadow`: scores the live stream beside the one that serves, and nothing is decided on it.
    """

    type: Literal["model.version"] = "model.version"
    number: Number
    active: str
    previous: str | None
    shadow: str | None
    reason: str
    actor: str

    @staticmethod
    def id_of(number: int, active: str, previous: str | None, shadow: str | None) -> str:
        return ids.event_id("model.version", number, active, previous, shadow)

    @property
    def place(self) -> int:
        return self.number

    @property
    def own_id(self) -> str:
        return self.id_of(self.number, self.active, self.previous, self.shadow)


class SwitchOutcome(StrEnum):
    SERVING = "SERVING"
    REFUSED = "REFUSED"


class ModelSwitch(Event):
    """What became of a model.version in the worker that serves. `at`: close of the newest candle decided before it.

    `active` decides every candle that closes at or after `from_at`, and none before; `before` did until then. REFUSED: `version` is
    not what it claims to be (`reason`, `detail`), and `active` is what serves all the same.

    `importance_drift` of what serves: from 0, it looks at the same features as the version before it, to 1, at none of them; None:
    it was not judged. `importance_detail` says why, or which features moved most.
    """

    type: Literal["model.switch"] = "model.switch"
    number: Number
    outcome: SwitchOutcome
    version: str
    active: str
    before: str
    shadow: str | None
    from_at: UtcMs
    reason: str
    detail: str
    importance_drift: Probability | None = None
    importance_detail: str = ""
