"""Account, positions, fills, settings and the user stream's key over REST."""

from __future__ import annotations

import time
from typing import Any, Literal, cast

from infra.venue.local import commands, wire_account, wire_market, wire_orders
from infra.venue.local.params import Params
from infra.venue.local.refusals import missing, refuse
from infra.venue.local.rest_orders import symbol_if_any
from infra.venue.local.venue import Venue


def account_v2(venue: Venue, params: Params) -> Any:
    return wire_account.account(venue.engine.floor, 2)


def account_v3(venue: Venue, params: Params) -> Any:
    return wire_account.account(venue.engine.floor, 3)


def balance(venue: Venue, params: Params) -> Any:
    return wire_account.balance(venue.engine.floor)


def position_risk_v2(venue: Venue, params: Params) -> Any:
    floor, name = venue.engine.floor, symbol_if_any(venue, params)
    held = floor.account.shown()
    return [wire_account.position_risk(floor, p, 2) for p in held if name is None or p.symbol.name == name]


def position_risk_v3(venue: Venue, params: Params) -> Any:
    """Only symbols with a position or resting orders."""
    floor, name = venue.engine.floor, symbol_if_any(venue, params)
    held = [p for p in floor.account.shown() if name is None or p.symbol.name == name]
    return [wire_account.position_risk(floor, p, 3) for p in held if p.steps or floor.resting[p.symbol.name]]


def user_trades(venue: Venue, params: Params) -> Any:
    """From an id on, else by time; without either the newest. `orderId` keeps those of one order."""
    params.text("symbol")
    name = cast(str, symbol_if_any(venue, params))
    from_id, order_id = params.integer("fromId"), params.integer("orderId")
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    limit = params.limit(500, 1000)
    found = [
        fill
        for fill in venue.engine.floor.fills[name]
        if (order_id is None or fill.order_id == order_id)
        and (from_id is None or fill.id >= from_id)
        and (start_t is None or fill.t >= start_t)
        and (end_t is None or fill.t <= end_t)
    ]
    found = found[-limit:] if from_id is None and start_t is None else found[:limit]
    return [wire_orders.user_trade(venue.symbols[name], fill) for fill in found]


def symbol_config(venue: Venue, params: Params) -> Any:
    name = symbol_if_any(venue, params)
    account = venue.engine.floor.account
    return [wire_account.symbol_config(account.positions[n]) for n in venue.symbols if name in (None, n)]


def account_config(venue: Venue, params: Params) -> Any:
    rights = {"feeTier": 0, "canTrade": True, "canDeposit": True, "canWithdraw": True}
    rights["dualSidePosition"] = venue.engine.floor.account.dual
    return {**rights, "updateTime": 0, "multiAssetsMargin": False, "tradeGroupId": -1}


def commission_rate(venue: Venue, params: Params) -> Any:
    params.text("symbol")
    symbol_if_any(venue, params)
    return wire_account.commission_rate(params.text("symbol"))


def leverage_bracket(venue: Venue, params: Params) -> Any:
    name = symbol_if_any(venue, params)
    return [wire_market.leverage_brackets(s) for s in venue.symbols.values() if name is None or s.name == name]


def set_leverage(venue: Venue, params: Params) -> Any:
    symbol, leverage = params.text("symbol"), params.integer("leverage")
    if leverage is None:
        raise missing("leverage")
    venue.execute(commands.SetLeverage(symbol, leverage))
    return wire_account.leverage_answer(venue.engine.floor.position(symbol))


def set_margin_type(venue: Venue, params: Params) -> Any:
    kind = params.choice("marginType", ("CROSSED", "ISOLATED"), -1102)
    venue.execute(commands.SetMarginType(params.text("symbol"), cast(Literal["CROSSED", "ISOLATED"], kind)))
    return {"code": 200, "msg": "success"}


def position_mode(venue: Venue, params: Params) -> Any:
    return {"dualSidePosition": venue.engine.floor.account.dual}


def set_position_mode(venue: Venue, params: Params) -> Any:
    if params.maybe("dualSidePosition") is None:
        raise missing("dualSidePosition")
    venue.execute(commands.SetPositionMode(params.flag("dualSidePosition")))
    return {"code": 200, "msg": "success"}


def multi_assets_mode(venue: Venue, params: Params) -> Any:
    return {"multiAssetsMargin": False}


def set_multi_assets_mode(venue: Venue, params: Params) -> Any:
    """One asset is all there is: asking for just that is a success."""
    if params.maybe("multiAssetsMargin") is None:
        raise missing("multiAssetsMargin")
    if params.flag("multiAssetsMargin"):
        raise refuse(-4084)
    return {"code": 200, "msg": "success"}


# --- user stream --------------------------------------------------------------------------------------------------------------


def obtain_listen_key(venue: Venue, params: Params) -> Any:
    return {"listenKey": venue.listen_key.obtain(time.monotonic())}


def extend_listen_key(venue: Venue, params: Params) -> Any:
    if not venue.listen_key.extend(time.monotonic()):
        raise refuse(-1125)
    return {"listenKey": venue.listen_key.value}


def close_listen_key(venue: Venue, params: Params) -> Any:
    venue.drop_listen_key()
    return {}
