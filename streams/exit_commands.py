"""The exit plans as the log has them now, for people: what protects each position and why."""

from __future__ import annotations

from typing import Any

from infra.broker.admin import require
from infra.settings import Settings
from schemas import topics
from schemas.trading import ExitPlan
from streams.commands import newest


def status(settings: Settings) -> list[dict[str, Any]]:
    """A row a plan that is not over, live ones first. Raises UserError when Kafka does not answer."""
    require(settings.bootstrap)
    plans = newest(settings, topics.TRADE_EXIT_PLANS, ExitPlan, lambda plan: plan.plan_id)
    open_ = [plan for plan in plans.values() if plan.quantity and plan.account == settings.account]
    return [plan.model_dump(mode="json") for plan in sorted(open_, key=lambda plan: (plan.mode, plan.instrument))]


def lines(rows: list[dict[str, Any]]) -> list[str]:
    told = []
    for row in rows:
        tighter = f", tighter {row['front_price']}" if row["front_price"] is not None else ""
        words = [row["mode"], row["profile"], row["style"], row["tp_sl_mode"], row["regime"], "CLOSING" if row["closing"] else None]
        about = " ".join(str(word) for word in words if word)
        told.append(
            f"{row['instrument']:<24} {row['side']:<5} {row['quantity']:>12} @ {row['entry_price']:<12} "
            f"stop {row['stop_price']}{tighter}  {about}  {row['why']}"
        )
        told += [f"    {leg['kind']:<12} {leg['quantity'] or 'all':>12} @ {leg['price']:<12} {leg['state']}" for leg in row["legs"]]
    return told or ["no open position has a plan"]
