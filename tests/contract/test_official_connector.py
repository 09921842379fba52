"""Binance's own connector for Python trades against the local exchange, unmodified but for its addresses: a second client
that was not written with ours in mind, and whose models check every answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip(
    "binance_sdk_derivatives_trading_usds_futures",
    reason="the official connector is not installed: pip install binance-sdk-derivatives-trading-usds-futures",
)

from binance_common.configuration import ConfigurationRestAPI, ConfigurationWebSocketAPI, ConfigurationWebSocketStreams
from binance_common.errors import BadRequestError, RateLimitBanError, TooManyRequestsError
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from infra.venue.local.scripted import START_T, at_price, walk
from infra.venue.local.staged import KEY, SECRET, Staged, staged

P = 960_000
SCRIPT = [*walk("BTCUSDT", [P, P + 10, P - 5]), *at_price("BTCUSDT", START_T + 10_000, P - 9_000)]


def connector(here: Staged) -> DerivativesTradingUsdsFutures:
    return DerivativesTradingUsdsFutures(
        config_rest_api=ConfigurationRestAPI(KEY, SECRET, base_path=here.http, timeout=5_000, retries=0),
        config_ws_api=ConfigurationWebSocketAPI(KEY, SECRET, stream_url=here.ws + "/ws-fapi/v1"),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=here.ws),
    )


async def asked(call: Callable[..., Any], **params: Any) -> Any:
    """The connector's REST blocks; gives its own model of the answer."""
    return (await asyncio.to_thread(call, **params)).data()


async def test_the_connector_trades_over_rest(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        await here.go_to(2)
        rest = connector(here).rest_api
        assert (await asked(rest.exchange_information)).symbols[0].symbol == "BTCUSDT"
        assert (await asked(rest.change_initial_leverage, symbol="BTCUSDT", leverage=5)).leverage == 5
        order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
        placed = await asked(rest.new_order, **order, quantity=0.02, price=95000.0, new_client_order_id="e-1")
        assert (placed.client_order_id, placed.status) == ("e-1", "NEW")
        amended = await asked(
            rest.modify_order, symbol="BTCUSDT", side="BUY", quantity=0.01, price=95100.0, orig_client_order_id="e-1"
        )
        assert amended.price == "95100.00"
        assert (await asked(rest.query_order, symbol="BTCUSDT", orig_client_order_id="e-1")).orig_qty == "0.010"
        assert [o.client_order_id for o in await asked(rest.current_all_open_orders)] == ["e-1"]
        assert (await asked(rest.cancel_order, symbol="BTCUSDT", orig_client_order_id="e-1")).status == "CANCELED"
        batch = [
            {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "94000.0"},
            {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "1e9"},
        ]
        first, second = await asked(rest.place_multiple_orders, batch_orders=batch)
        assert (first.status, second.code) == ("NEW", -1100)
        (gone,) = await asked(rest.cancel_multiple_orders, symbol="BTCUSDT", order_id_list=[first.order_id])
        assert gone.status == "CANCELED"

        await asked(rest.new_order, symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01)
        stop = {"algo_type": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "close_position": "true"}
        armed = await asked(rest.new_algo_order, **stop, trigger_price=95500.0, working_type="MARK_PRICE", client_algo_id="s-1")
        assert armed.algo_status == "NEW"
        assert [a.client_algo_id for a in await asked(rest.current_all_algo_open_orders)] == ["s-1"]
        (held,) = await asked(rest.position_information_v3, symbol="BTCUSDT")
        assert held.position_amt == "0.010"
        await here.go_to(10)
        assert (await asked(rest.query_algo_order, client_algo_id="s-1")).algo_status == "FINISHED"
        assert await asked(rest.position_information_v3, symbol="BTCUSDT") == []
        trades = await asked(rest.account_trade_list, symbol="BTCUSDT")
        moved = sum(D(t.realized_pnl) - D(t.commission) for t in trades)
        (balance,) = await asked(rest.futures_account_balance_v3)
        assert D(balance.balance) == 10_000 + moved
        assert sum(D(row.income) for row in await asked(rest.get_income_history)) == moved


async def test_the_connector_reads_everything_we_serve(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        await here.go_to(2)
        rest = connector(here).rest_api
        await asked(rest.change_margin_type, symbol="BTCUSDT", margin_type="ISOLATED")
        await asked(rest.new_order, symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01)
        await asked(rest.modify_isolated_position_margin, symbol="BTCUSDT", amount=5.0, type=1)
        one = {"symbol": "BTCUSDT"}
        reads: list[tuple[Callable[..., Any], dict[str, Any]]] = [
            (rest.account_information_v2, {}),
            (rest.account_information_v3, {}),
            (rest.futures_account_balance_v2, {}),
            (rest.futures_account_configuration, {}),
            (rest.symbol_configuration, {}),
            (rest.user_commission_rate, one),
            (rest.notional_and_leverage_brackets, one),
            (rest.query_user_rate_limit, {}),
            (rest.get_current_position_mode, {}),
            (rest.get_current_multi_assets_mode, {}),
            (rest.position_information_v2, one),
            (rest.get_position_margin_change_history, one),
            (rest.position_adl_quantile_estimation, one),
            (rest.users_force_orders, {}),
            (rest.all_orders, one),
            (rest.query_all_algo_orders, one),
            (rest.check_server_time, {}),
            (rest.kline_candlestick_data, {**one, "interval": "5m", "limit": 3}),
            (rest.continuous_contract_kline_candlestick_data, {"pair": "BTCUSDT", "contract_type": "PERPETUAL", "interval": "5m"}),
            (rest.compressed_aggregate_trades_list, one),
            (rest.recent_trades_list, one),
            (rest.order_book, {**one, "limit": 20}),
            (rest.mark_price, one),
            (rest.get_funding_rate_history, one),
            (rest.get_funding_rate_info, {}),
            (rest.ticker24hr_price_change_statistics, one),
            (rest.symbol_price_ticker_v2, one),
            (rest.symbol_order_book_ticker, one),
            (rest.open_interest, one),
            (rest.start_user_data_stream, {}),
        ]
        for call, params in reads:
            assert await asked(call, **params) is not None, call.__name__


async def test_the_connector_understands_our_refusals(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        await here.go_to(2)
        rest = connector(here).rest_api
        with pytest.raises(BadRequestError) as caught:
            await asked(rest.new_order, symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.0105)
        assert caught.value.status_code == -1111
        for kind, error in (("429", TooManyRequestsError), ("418", RateLimitBanError)):
            await here.order_control("POST", "faults", {"route": "GET openOrders", "kind": kind})
            with pytest.raises(error):
                await asked(rest.current_all_open_orders)


async def test_the_connector_trades_over_websocket_requests(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        await here.go_to(2)
        api = await connector(here).websocket_api.create_connection()
        try:
            order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
            placed = (await api.new_order(**order, quantity=0.01, price=95000.0, new_client_order_id="e-1")).data().result
            assert (placed.client_order_id, placed.status) == ("e-1", "NEW")
            found = (await api.query_order(symbol="BTCUSDT", orig_client_order_id="e-1")).data().result
            assert found.order_id == placed.order_id
            assert (await api.cancel_order(symbol="BTCUSDT", orig_client_order_id="e-1")).data().result.status == "CANCELED"
            stop = {"algo_type": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET"}
            armed = (await api.new_algo_order(**stop, trigger_price=90000.0, quantity=0.01, client_algo_id="s-1")).data().result
            assert armed.algo_status == "NEW"
            assert (await api.cancel_algo_order(client_algo_id="s-1")).data().result.code == "200"
            assert (await api.futures_account_balance_v2()).data().result[0].balance == "10000.00000000"
        finally:
            await api.close_connection()


async def test_the_connector_hears_market_and_account(tmp_path: Path) -> None:
    async with staged(SCRIPT, tmp_path) as here:
        client = connector(here)
        key = (await asked(client.rest_api.start_user_data_stream)).listen_key
        streams = await client.websocket_streams.create_connection()
        heard: dict[str, list[Any]] = {"trade": [], "depth": [], "mark": [], "user": []}
        try:
            for name, handle in (
                ("trade", await streams.aggregate_trade_streams(symbol="btcusdt")),
                ("depth", await streams.diff_book_depth_streams(symbol="btcusdt", update_speed="100ms")),
                ("mark", await streams.mark_price_stream(symbol="btcusdt", update_speed="1s")),
                ("user", await streams.user_data(key)),
            ):
                handle.on("message", heard[name].append)
            await asyncio.sleep(0.3)
            await here.go_to(1)
            await here.go_to(2)
            await asked(client.rest_api.new_order, symbol="BTCUSDT", side="BUY", type="MARKET", quantity=0.01)
            for _ in range(40):
                await asyncio.sleep(0.05)
                if all(heard.values()) and len(heard["user"]) >= 3:
                    break
        finally:
            await streams.close_connection()
        assert {name: bool(messages) for name, messages in heard.items()} == dict.fromkeys(heard, True)
        assert heard["trade"][0].s == "BTCUSDT"
        told = [event.actual_instance for event in heard["user"]]  # its own class for each kind of event
        assert [type(event).__name__ for event in told] == ["OrderTradeUpdate", "OrderTradeUpdate", "AccountUpdate"]
        assert [event.o.X for event in told[:2]] == ["NEW", "FILLED"]
