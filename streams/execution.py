"""execution: intents of both lanes -> the exchange, by way of trade.orders, which is its outbox."""

from __future__ import annotations

from dataclasses import replace

from infra.settings import Settings
from processors import execution
from schemas import topics
from streams.app import run_stage
from streams.desk import Desk
from streams.stage import Stage

STAGE = Stage(
    name="execution",
    inputs=(
        topics.MARKET_MARKS,
        topics.TRADE_ENTRIES,
        topics.TRADE_EXITS,
        topics.TRADE_ORDERS,
        topics.TRADE_FILLS,
        topics.ACCOUNT_ORDER_UPDATES,
    ),
    outputs=(topics.TRADE_ORDERS,),
    state=execution.State,
    step=execution.step,
    catch_up=(topics.TRADE_ORDERS,),
    needs_policy=True,
)


def main(settings: Settings) -> None:
    run_stage(replace(STAGE, observer=Desk(settings)), settings)
