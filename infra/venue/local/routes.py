"""Every REST address that is served: who may ask, what it weighs, which function answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from infra.venue.local import rest_account as account
from infra.venue.local import rest_batch as batch
from infra.venue.local import rest_market as market
from infra.venue.local import rest_money as money
from infra.venue.local import rest_orders as orders
from infra.venue.local.params import Params
from infra.venue.local.spot import rest as spot
from infra.venue.local.venue import Venue
from infra.venue.local.weights import Weight, always, by_depth, by_klines, by_spot_depth, by_symbol

Handler = Callable[[Venue, Params], Any]
Access = Literal["open", "key", "signed"]


@dataclass(frozen=True, slots=True)
class Route:
    answer: Handler
    access: Access
    weight: Weight
    orders: tuple[int, int] = (0, 0)  # what it adds to the order counts of 10 s and of the longer span


def _open(answer: Handler, weight: int | Weight = 1) -> Route:
    return Route(answer, "open", always(weight) if isinstance(weight, int) else weight)


def _keyed(answer: Handler, weight: int | Weight = 1) -> Route:
    return Route(answer, "key", always(weight) if isinstance(weight, int) else weight)


def _signed(answer: Handler, weight: int | Weight = 1, orders: tuple[int, int] = (0, 0)) -> Route:
    return Route(answer, "signed", always(weight) if isinstance(weight, int) else weight, orders)


ONE: Final = (1, 1)
BATCH: Final = (5, 1)
PAIR: Final = (2, 2)


ROUTES: Final[dict[tuple[str, str], Route]] = {
    ("GET", "/api/v3/ping"): _open(market.ping),
    ("GET", "/api/v3/time"): _open(market.server_time),
    ("GET", "/api/v3/exchangeInfo"): _open(spot.exchange_info, 20),
    ("GET", "/api/v3/klines"): _open(spot.klines, 2),
    ("GET", "/api/v3/depth"): _open(spot.depth, by_spot_depth),
    ("GET", "/api/v3/ticker/price"): _open(spot.ticker_price, by_symbol(2, 4)),
    ("GET", "/api/v3/ticker/bookTicker"): _open(spot.book_ticker, by_symbol(2, 4)),
    ("POST", "/api/v3/order/test"): _signed(spot.try_order),
    ("POST", "/api/v3/order"): _signed(spot.place_order, 1, ONE),
    ("GET", "/api/v3/order"): _signed(spot.query_order, 4),
    ("DELETE", "/api/v3/order"): _signed(spot.cancel_order),
    ("GET", "/api/v3/openOrders"): _signed(spot.open_orders, by_symbol(6, 80)),
    ("DELETE", "/api/v3/openOrders"): _signed(spot.cancel_all),
    ("GET", "/api/v3/allOrders"): _signed(spot.all_orders, 20),
    ("POST", "/api/v3/orderList/oco"): _signed(spot.place_oco, 1, PAIR),
    ("GET", "/api/v3/orderList"): _signed(spot.query_list, 4),
    ("DELETE", "/api/v3/orderList"): _signed(spot.cancel_list),
    ("GET", "/api/v3/openOrderList"): _signed(spot.open_lists, 6),
    ("GET", "/api/v3/allOrderList"): _signed(spot.all_lists, 20),
    ("GET", "/api/v3/account"): _signed(spot.account, 20),
    ("GET", "/api/v3/myTrades"): _signed(spot.my_trades, 20),
    ("GET", "/fapi/v1/ping"): _open(market.ping),
    ("GET", "/fapi/v1/time"): _open(market.server_time),
    ("GET", "/fapi/v1/exchangeInfo"): _open(market.exchange_info),
    ("GET", "/fapi/v1/klines"): _open(market.klines, by_klines),
    ("GET", "/fapi/v1/continuousKlines"): _open(market.continuous_klines, by_klines),
    ("GET", "/fapi/v1/aggTrades"): _open(market.agg_trades, 20),
    ("GET", "/fapi/v1/trades"): _open(market.recent_trades, 5),
    ("GET", "/fapi/v1/historicalTrades"): _open(market.recent_trades, 20),
    ("GET", "/fapi/v1/depth"): _open(market.depth, by_depth),
    ("GET", "/fapi/v1/premiumIndex"): _open(market.premium_index, by_symbol(1, 10)),
    ("GET", "/fapi/v1/fundingInfo"): _open(market.funding_info, 0),
    ("GET", "/fapi/v1/fundingRate"): _open(market.funding_rate, 0),
    ("GET", "/fapi/v1/ticker/price"): _open(market.ticker_price, by_symbol(1, 2)),
    ("GET", "/fapi/v2/ticker/price"): _open(market.ticker_price, by_symbol(1, 2)),
    ("GET", "/fapi/v1/ticker/bookTicker"): _open(market.book_ticker, by_symbol(2, 5)),
    ("GET", "/fapi/v1/ticker/24hr"): _open(market.ticker_24h, by_symbol(1, 40)),
    ("GET", "/fapi/v1/openInterest"): _open(market.open_interest),
    ("POST", "/fapi/v1/order/test"): _signed(batch.try_order, 0),
    ("PUT", "/fapi/v1/order"): _signed(batch.amend_order, 0, ONE),
    ("GET", "/fapi/v1/orderAmendment"): _signed(batch.amendments),
    ("POST", "/fapi/v1/batchOrders"): _signed(batch.place_batch, 5, BATCH),
    ("PUT", "/fapi/v1/batchOrders"): _signed(batch.amend_batch, 5, BATCH),
    ("DELETE", "/fapi/v1/batchOrders"): _signed(batch.cancel_batch),
    ("POST", "/fapi/v1/countdownCancelAll"): _signed(batch.countdown, 10),
    ("POST", "/fapi/v1/order"): _signed(orders.place_order, 0, ONE),
    ("GET", "/fapi/v1/order"): _signed(orders.query_order),
    ("DELETE", "/fapi/v1/order"): _signed(orders.cancel_order),
    ("GET", "/fapi/v1/openOrder"): _signed(orders.query_open_order),
    ("GET", "/fapi/v1/openOrders"): _signed(orders.open_orders, by_symbol(1, 40)),
    ("DELETE", "/fapi/v1/allOpenOrders"): _signed(orders.cancel_all_orders),
    ("GET", "/fapi/v1/allOrders"): _signed(orders.all_orders, 5),
    ("POST", "/fapi/v1/algoOrder"): _signed(orders.place_algo, 0, ONE),
    ("GET", "/fapi/v1/algoOrder"): _signed(orders.query_algo),
    ("DELETE", "/fapi/v1/algoOrder"): _signed(orders.cancel_algo),
    ("GET", "/fapi/v1/openAlgoOrders"): _signed(orders.open_algos, by_symbol(1, 40)),
    ("DELETE", "/fapi/v1/algoOpenOrders"): _signed(orders.cancel_all_algos),
    ("GET", "/fapi/v1/allAlgoOrders"): _signed(orders.all_algos, 5),
    ("GET", "/fapi/v1/userTrades"): _signed(account.user_trades, 5),
    ("GET", "/fapi/v2/account"): _signed(account.account_v2, 5),
    ("GET", "/fapi/v3/account"): _signed(account.account_v3, 5),
    ("GET", "/fapi/v2/balance"): _signed(account.balance, 5),
    ("GET", "/fapi/v3/balance"): _signed(account.balance, 5),
    ("GET", "/fapi/v2/positionRisk"): _signed(account.position_risk_v2, 5),
    ("GET", "/fapi/v3/positionRisk"): _signed(account.position_risk_v3, 5),
    ("GET", "/fapi/v1/symbolConfig"): _signed(account.symbol_config, 5),
    ("GET", "/fapi/v1/accountConfig"): _signed(account.account_config, 5),
    ("GET", "/fapi/v1/commissionRate"): _signed(account.commission_rate, 20),
    ("GET", "/fapi/v1/leverageBracket"): _signed(account.leverage_bracket),
    ("POST", "/fapi/v1/leverage"): _signed(account.set_leverage),
    ("POST", "/fapi/v1/marginType"): _signed(account.set_margin_type),
    ("GET", "/fapi/v1/positionSide/dual"): _signed(account.position_mode, 30),
    ("POST", "/fapi/v1/positionSide/dual"): _signed(account.set_position_mode),
    ("GET", "/fapi/v1/multiAssetsMargin"): _signed(account.multi_assets_mode, 30),
    ("POST", "/fapi/v1/multiAssetsMargin"): _signed(account.set_multi_assets_mode),
    ("GET", "/fapi/v1/income"): _signed(money.income, 30),
    ("GET", "/fapi/v1/forceOrders"): _signed(money.force_orders, by_symbol(20, 50)),
    ("GET", "/fapi/v1/adlQuantile"): _signed(money.adl_quantile, 5),
    ("GET", "/fapi/v1/rateLimit/order"): _signed(money.order_limits),
    ("POST", "/fapi/v1/positionMargin"): _signed(money.move_margin),
    ("GET", "/fapi/v1/positionMargin/history"): _signed(money.margin_moves),
    ("POST", "/fapi/v1/listenKey"): _keyed(account.obtain_listen_key),
    ("PUT", "/fapi/v1/listenKey"): _keyed(account.extend_listen_key),
    ("DELETE", "/fapi/v1/listenKey"): _keyed(account.close_listen_key),
}
