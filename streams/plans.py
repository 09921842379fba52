"""The exit plans of open positions, as far as the log has told them: for the guardian, which works without
them too, and for the market, which marks what is held though nobody streams it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationError

from infra.settings import Settings
from processors.protection import Planned
from schemas import topics
from schemas.trading import ExitPlan
from streams.follower import Follower, places


class PlanReader(Follower):
    """`known()`: instrument -> the newest plan, from any thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.bootstrap, places(topics.TRADE_EXIT_PLANS), "plans")
        self._account = settings.account
        self._plans: dict[str, Planned] = {}

    def known(self) -> Mapping[str, Planned]:
        return self._plans

    def take(self, topic: str, value: bytes, key: bytes | None = None) -> None:
        try:
            plan = ExitPlan.model_validate_json(value)
        except ValidationError:
            return  # history tells of poison
        if plan.account != self._account or plan.mode != "LIVE":
            return
        others = {name: known for name, known in self._plans.items() if name != plan.instrument}
        ended = not plan.quantity
        self._plans = others if ended else {**others, plan.instrument: Planned(plan.side, plan.entry_price, plan.stop_price)}
