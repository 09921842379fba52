"""What the user stream says: one event a happening, market time in E and T."""

from __future__ import annotations

from infra.venue.local.account import money
from infra.venue.local.floor import Floor
from infra.venue.local.happenings import (
    AccountChanged,
    AlgoChanged,
    Booked,
    ConfigChanged,
    FundingSettled,
    Futures,
    ModeChanged,
    OrderChanged,
    StatusChanged,
)
from infra.venue.local.market.base import Symbol
from infra.venue.local.wire import Json, average, break_even, entry, price, qty, text


def user_event(floor: Floor, happened: Futures) -> Json | None:
    """The user-stream event that tells of it."""
    match happened:
        case OrderChanged():
            return order_trade_update(floor.symbols[happened.order.symbol], happened)
        case AlgoChanged():
            return algo_update(floor.symbols[happened.algo.symbol], happened)
        case AccountChanged():
            return account_update(happened)
        case ConfigChanged():
            if not happened.leverage_changed:
                return None
            config = {"s": happened.symbol, "l": happened.leverage}
            return {"e": "ACCOUNT_CONFIG_UPDATE", "E": happened.t, "T": happened.t, "ac": config}
        case StatusChanged() | Booked() | FundingSettled() | ModeChanged():
            return None  # money is told by the change of the account, the rest by REST alone


def order_trade_update(symbol: Symbol, happened: OrderChanged) -> Json:
    order, fill = happened.order, happened.fill
    body = {
        "s": order.symbol,
        "c": order.client_id,
        "S": order.side,
        "o": order.type,
        "f": order.tif,
        "q": qty(symbol, order.qty),
        "p": price(symbol, order.price),
        "ap": average(symbol, order.turnover, order.filled),
        "sp": text(order.stop_price),
        "x": happened.execution,
        "X": order.status,
        "i": order.id,
        "l": qty(symbol, fill.qty) if fill else "0",
        "z": qty(symbol, order.filled),
        "L": price(symbol, fill.price) if fill else "0",
        "N": symbol.quote,
        "n": text(fill.fee) if fill else "0",
        "T": happened.t,
        "t": fill.id if fill else 0,
        "b": "0",
        "a": "0",
        "m": fill.maker if fill else False,
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.orig_type,
        "ps": order.position_side,
        "cp": order.close_position,
        "AP": "0",
        "cr": "0",
        "rp": text(fill.realised) if fill else "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": "0",
    }
    return {"e": "ORDER_TRADE_UPDATE", "T": happened.t, "E": happened.t, "o": body}


def account_update(happened: AccountChanged) -> Json:
    position = happened.position
    wallet, cross = text(money(happened.wallet)), text(money(happened.cross))
    changed = {
        "s": position.symbol.name,
        "pa": text(position.qty),
        "ep": entry(position),
        "bep": break_even(position),
        "cr": text(position.realised),
        "up": text(position.unrealised(happened.mark)),
        "mt": "isolated" if position.margin_type == "ISOLATED" else "cross",
        "iw": text(money(position.bound)) if position.bound else "0",
        "ps": position.side,
        "ma": position.symbol.quote,
    }
    told = [] if happened.reason == "FUNDING_FEE" and not position.is_isolated else [changed]
    balance = {"a": "USDT", "wb": wallet, "cw": cross, "bc": text(happened.change)}
    body = {"m": happened.reason, "B": [balance], "P": told}
    return {"e": "ACCOUNT_UPDATE", "T": happened.t, "E": happened.t, "a": body}


def algo_update(symbol: Symbol, happened: AlgoChanged) -> Json:
    algo = happened.algo
    body = {
        "caid": algo.client_id,
        "aid": algo.id,
        "at": "CONDITIONAL",
        "o": algo.type,
        "s": algo.symbol,
        "S": algo.side,
        "ps": algo.position_side,
        "f": algo.tif,
        "q": qty(symbol, algo.qty),
        "X": algo.status,
        "ai": str(algo.order_id) if algo.order_id else "",
        "ap": average(symbol, algo.actual_turnover, algo.actual_qty),
        "aq": qty(symbol, algo.actual_qty),
        "act": ("LIMIT" if algo.price else "MARKET") if algo.order_id else "",
        "tp": text(algo.trigger),
        "p": price(symbol, algo.price),
        "V": "EXPIRE_MAKER",
        "wt": algo.working_type,
        "pm": "NONE",
        "cp": algo.close_position,
        "pP": algo.price_protect,
        "R": algo.reduce_only,
        "tt": algo.trigger_t,
        "gtd": 0,
        "rm": algo.reason,
    }
    if algo.callback:
        body |= {"AP": text(algo.activate), "cr": text(algo.callback), "ia": algo.is_active}
    return {"e": "ALGO_UPDATE", "T": happened.t, "E": happened.t, "o": body}
