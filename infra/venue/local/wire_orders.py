"""Orders and fills as REST answers them.

The newest known schema: since July 2026 the answer to an order carries neither avgPrice nor cumQuote; fills come by
ORDER_TRADE_UPDATE and userTrades.
"""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local.happenings import Booked, Fill
from infra.venue.local.market.base import Symbol
from infra.venue.local.orders import Algo, Order
from infra.venue.local.wire import Json, average, price, qty, text


def order_answer(symbol: Symbol, order: Order) -> Json:
    """What a placed or cancelled order is answered with."""
    return {
        "orderId": order.id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_id,
        "price": price(symbol, order.price),
        "origQty": qty(symbol, order.qty),
        "executedQty": qty(symbol, order.filled),
        "cumQty": qty(symbol, order.filled),
        "timeInForce": order.tif,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": text(order.stop_price),
        "workingType": order.working_type,
        "priceProtect": False,
        "origType": order.orig_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_t,
    }


def order_ack(symbol: Symbol, order: Order) -> Json:
    """The default answer (newOrderRespType=ACK): accepted, nothing said about fills."""
    return {**order_answer(symbol, order), "status": "NEW", "executedQty": qty(symbol, 0), "cumQty": qty(symbol, 0)}


def order_query(symbol: Symbol, order: Order) -> Json:
    return {
        **order_answer(symbol, order),
        "pair": order.symbol,
        "avgPrice": average(symbol, order.turnover, order.filled),
        "cumQuote": text(order.turnover),
        "cumBase": qty(symbol, order.filled),
        "time": order.created_t,
    }


def algo_answer(symbol: Symbol, algo: Algo) -> Json:
    return {
        "algoId": algo.id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.type,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": algo.position_side,
        "timeInForce": algo.tif,
        "quantity": qty(symbol, algo.qty),
        "algoStatus": algo.status,
        "triggerPrice": text(algo.trigger),
        "price": price(symbol, algo.price) if algo.price else "0.00",
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": algo.price_protect,
        "reduceOnly": algo.reduce_only,
        "activatePrice": text(algo.activate) if algo.activate else "",
        "callbackRate": text(algo.callback) if algo.callback else "",
        "createTime": algo.created_t,
        "updateTime": algo.updated_t,
        "triggerTime": algo.trigger_t,
        "goodTillDate": 0,
    }


def algo_query(symbol: Symbol, algo: Algo) -> Json:
    return {
        **algo_answer(symbol, algo),
        "actualOrderId": str(algo.order_id) if algo.order_id else "",
        "actualPrice": average(symbol, algo.actual_turnover, algo.actual_qty),
        "actualQty": qty(symbol, algo.actual_qty),
        "actualType": ("LIMIT" if algo.price else "MARKET") if algo.order_id else "",
        "tpTriggerPrice": "0.000",
        "tpPrice": "0.000",
        "slTriggerPrice": "0.000",
        "slPrice": "0.000",
        "tpOrderType": "",
    }


def user_trade(symbol: Symbol, fill: Fill) -> Json:
    return {
        "symbol": fill.symbol,
        "pair": fill.symbol,
        "id": fill.id,
        "orderId": fill.order_id,
        "side": fill.side,
        "price": price(symbol, fill.price),
        "qty": qty(symbol, fill.qty),
        "baseQty": qty(symbol, fill.qty),
        "realizedPnl": text(fill.realised),
        "marginAsset": symbol.quote,
        "quoteQty": text(fill.price * symbol.tick * fill.qty * symbol.step),
        "commission": text(fill.fee),
        "commissionAsset": symbol.quote,
        "time": fill.t,
        "positionSide": fill.position_side,
        "buyer": fill.side == "BUY",
        "maker": fill.maker,
    }


def amended(symbol: Symbol, order: Order) -> Json:
    """The answer to an amendment."""
    return {**order_answer(symbol, order), "pair": order.symbol, "modifyId": order.amended}


def amendment_row(symbol: Symbol, number: int, before: Order, after: Order) -> Json:
    return {
        "amendmentId": number,
        "symbol": after.symbol,
        "pair": after.symbol,
        "orderId": after.id,
        "clientOrderId": after.client_id,
        "time": after.updated_t,
        "amendment": {
            "price": {"before": price(symbol, before.price), "after": price(symbol, after.price)},
            "origQty": {"before": qty(symbol, before.qty), "after": qty(symbol, after.qty)},
            "count": after.amended,
            "modifyId": after.amended,
        },
    }


def force_order(symbol: Symbol, order: Order) -> Json:
    row = order_query(symbol, order)
    return {key: value for key, value in row.items() if key not in ("cumQty", "priceProtect", "priceMatch", "goodTillDate")}


def booked_row(booked: Booked) -> Json:
    return {
        "symbol": booked.symbol,
        "incomeType": booked.kind,
        "income": text(booked.amount),
        "asset": "USDT",
        "info": booked.kind,
        "time": booked.t,
        "tranId": 9_000_000_000_000 + booked.number,
        "tradeId": "",
    }


def income_rows(fill: Fill) -> list[Json]:
    def row(kind: str, amount: Decimal, number: int) -> Json:
        return {
            "symbol": fill.symbol,
            "incomeType": kind,
            "income": text(amount),
            "asset": "USDT",
            "info": str(fill.id),
            "time": fill.t,
            "tranId": fill.order_id * 1000 + fill.id % 500 * 2 + number,
            "tradeId": str(fill.id),
        }

    commission = row("COMMISSION", -fill.fee, 0)
    return [commission, row("REALIZED_PNL", fill.realised, 1)] if fill.realised else [commission]
