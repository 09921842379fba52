"""account: the exchange's user stream -> trade.fills, account.order-updates, account.snapshots, account.corrections.

One instance an account. The stage folds its own fills; the observer (streams/user_desk.py) owns the stream and says what the fold
does not know yet.
"""

from __future__ import annotations

from dataclasses import replace

from infra.settings import Settings
from processors import account
from schemas import topics
from streams.app import run_stage
from streams.stage import Stage
from streams.user_desk import UserDesk

STAGE = Stage(
    name="account",
    inputs=(topics.TRADE_FILLS,),
    outputs=(topics.TRADE_FILLS, topics.ACCOUNT_ORDER_UPDATES, topics.ACCOUNT_SNAPSHOTS, topics.ACCOUNT_CORRECTIONS),
    state=account.State,
    step=account.step,
    catch_up=(topics.TRADE_FILLS,),
)


def main(settings: Settings) -> None:
    run_stage(replace(STAGE, observer=UserDesk(settings)), settings)
