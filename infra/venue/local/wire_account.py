"""Money and positions as REST answers them."""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local.account import MAKER_FEE, TAKER_FEE, Position, money
from infra.venue.local.brackets import brackets_of, max_notional
from infra.venue.local.floor import Floor
from infra.venue.local.margin import liquidation_price_in
from infra.venue.local.wire import Json, break_even, entry, text


def account(floor: Floor, version: int) -> Json:
    wallet, unrealised = floor.account.wallet, floor.unrealised()
    positions_margin, orders_margin = floor.position_margin(), floor.order_margin()
    maintenance = sum((floor.maintenance(p) for p in floor.account.open_positions()), Decimal(0))
    asset = {
        "asset": "USDT",
        "walletBalance": text(money(wallet)),
        "unrealizedProfit": text(unrealised),
        "marginBalance": text(money(wallet + unrealised)),
        "maintMargin": text(money(maintenance)),
        "initialMargin": text(money(positions_margin + orders_margin)),
        "positionInitialMargin": text(money(positions_margin)),
        "openOrderInitialMargin": text(money(orders_margin)),
        "crossWalletBalance": text(money(floor.account.cross_wallet)),
        "crossUnPnl": text(floor.cross_unrealised()),
        "availableBalance": text(money(floor.available())),
        "maxWithdrawAmount": text(money(min(wallet, floor.available()))),
        "marginAvailable": True,
        "updateTime": floor.account.updated_t,
    }
    totals = {
        "totalInitialMargin": asset["initialMargin"],
        "totalMaintMargin": asset["maintMargin"],
        "totalWalletBalance": asset["walletBalance"],
        "totalUnrealizedProfit": asset["unrealizedProfit"],
        "totalMarginBalance": asset["marginBalance"],
        "totalPositionInitialMargin": asset["positionInitialMargin"],
        "totalOpenOrderInitialMargin": asset["openOrderInitialMargin"],
        "totalCrossWalletBalance": asset["crossWalletBalance"],
        "totalCrossUnPnl": asset["crossUnPnl"],
        "availableBalance": asset["availableBalance"],
        "maxWithdrawAmount": asset["maxWithdrawAmount"],
    }
    positions = floor.account.shown()
    if version >= 3:
        shown = [account_position_v3(floor, p) for p in positions if p.steps or floor.resting[p.symbol.name]]
        return {**totals, "assets": [asset], "positions": shown}
    rights = {
        "feeTier": 0,
        "feeBurn": False,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }
    return {**rights, **totals, "assets": [asset], "positions": [account_position_v2(floor, p) for p in positions]}


def balance(floor: Floor) -> list[Json]:
    asset = account(floor, 3)["assets"][0]
    kept = ("asset", "crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount", "marginAvailable", "updateTime")
    return [{"accountAlias": "sim", "balance": asset["walletBalance"], **{key: asset[key] for key in kept}}]


def _margins(floor: Floor, position: Position) -> Json:
    name = position.symbol.name
    mark = floor.marks[name]
    of_position, of_orders = position.initial_margin(mark), floor.order_margin(name)
    return {
        "initialMargin": text(money(of_position + of_orders)),
        "maintMargin": text(money(floor.maintenance(position))),
        "positionInitialMargin": text(money(of_position)),
        "openOrderInitialMargin": text(money(of_orders)),
        "bidNotional": text(money(floor.resting_notional(name, "BUY"))),
        "askNotional": text(money(floor.resting_notional(name, "SELL"))),
        "updateTime": position.updated_t,
    }


def account_position_v2(floor: Floor, position: Position) -> Json:
    mark = floor.marks[position.symbol.name]
    return {
        **_margins(floor, position),
        "symbol": position.symbol.name,
        "unrealizedProfit": text(position.unrealised(mark)),
        "leverage": str(position.leverage),
        "isolated": position.margin_type == "ISOLATED",
        "entryPrice": entry(position),
        "breakEvenPrice": break_even(position),
        "maxNotional": text(max_notional(position.symbol.base, position.leverage)),
        "positionSide": position.side,
        "positionAmt": text(position.qty),
        "notional": text(money(position.notional(mark))),
        "isolatedWallet": text(money(position.bound)) if position.bound else "0",
    }


def account_position_v3(floor: Floor, position: Position) -> Json:
    mark = floor.marks[position.symbol.name]
    return {
        **_margins(floor, position),
        "symbol": position.symbol.name,
        "positionSide": position.side,
        "positionAmt": text(position.qty),
        "unrealizedProfit": text(position.unrealised(mark)),
        "isolatedMargin": _isolated(position, mark),
        "notional": text(money(position.notional(mark))),
        "isolatedWallet": text(money(position.bound)) if position.bound else "0",
    }


def position_risk(floor: Floor, position: Position, version: int) -> Json:
    name = position.symbol.name
    mark = floor.marks[name]
    both = {
        "symbol": name,
        "positionSide": position.side,
        "positionAmt": text(position.qty),
        "entryPrice": entry(position),
        "breakEvenPrice": break_even(position),
        "markPrice": text(mark),
        "unRealizedProfit": text(position.unrealised(mark)),
        "liquidationPrice": liquidation_price(floor, position),
        "isolatedMargin": _isolated(position, mark),
        "notional": text(money(position.notional(mark))),
        "isolatedWallet": text(money(position.bound)) if position.bound else "0",
        "updateTime": position.updated_t,
    }
    if version >= 3:
        return {**both, "marginAsset": position.symbol.quote, "adl": 2 if position.steps else 0, **_margins(floor, position)}
    return {
        **both,
        "marginType": "isolated" if position.margin_type == "ISOLATED" else "cross",
        "isAutoAddMargin": "false",
        "leverage": str(position.leverage),
        "maxNotionalValue": text(max_notional(position.symbol.base, position.leverage)),
    }


def _isolated(position: Position, mark: Decimal) -> str:
    """What an isolated position has: bound margin and profit."""
    return text(money(position.bound + position.unrealised(mark))) if position.is_isolated and position.steps else "0"


def liquidation_price(floor: Floor, position: Position) -> str:
    if not position.steps:
        return "0"
    brackets = brackets_of(position.symbol.base)
    if position.is_isolated:
        wallet, needed, profit = position.bound, Decimal(0), Decimal(0)
    else:
        others = [p for p in floor.account.open_positions() if p is not position and not p.is_isolated]
        profit = sum((p.unrealised(floor.marks[p.symbol.name]) for p in others), Decimal(0))
        needed = sum((floor.maintenance(p) for p in others), Decimal(0))
        wallet = floor.account.cross_wallet
    at = liquidation_price_in(brackets, wallet, needed, profit, position.qty, position.entry)
    return text(money(at)) if at > 0 else "0"


def symbol_config(position: Position) -> Json:
    return {
        "symbol": position.symbol.name,
        "marginType": position.margin_type,
        "isAutoAddMargin": False,
        "leverage": position.leverage,
        "maxNotionalValue": text(max_notional(position.symbol.base, position.leverage)),
    }


def leverage_answer(position: Position) -> Json:
    most = text(max_notional(position.symbol.base, position.leverage))
    return {"leverage": position.leverage, "maxNotionalValue": most, "symbol": position.symbol.name}


def commission_rate(symbol: str) -> Json:
    maker, taker = text(MAKER_FEE), text(TAKER_FEE)
    return {"symbol": symbol, "makerCommissionRate": maker, "takerCommissionRate": taker, "rpiCommissionRate": "0.00005"}
