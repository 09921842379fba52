"""Everything that was recorded or documented is read by our models; our own answers have the recorded keys and types."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal as D
from pathlib import Path
from typing import Any

import pytest

from infra.venue.binance import wire
from infra.venue.binance.filters import parse_filters
from infra.venue.depth import DepthBook, Gap
from infra.venue.local.brackets import brackets_of
from infra.venue.local.hub import Hub
from infra.venue.local.journal import Journal
from infra.venue.local.params import Params
from infra.venue.local.rest_market import (
    agg_trades,
    book_ticker,
    depth,
    exchange_info,
    funding_info,
    funding_rate,
    klines,
    open_interest,
    premium_index,
    recent_trades,
    server_time,
    ticker_price,
)
from infra.venue.local.routes import ROUTES
from infra.venue.local.scripted import START_T, ScriptedMarket, walk
from infra.venue.local.venue import Venue

Json = Any
Read = Callable[[Json], Any]


@pytest.fixture
def recorded(shared_data: Path) -> Path:
    folder = shared_data / "binance"
    if not folder.is_dir():
        pytest.skip(f"no recorded payloads at {folder}")
    return folder


def rows(value: Json) -> list[Json]:
    return value if isinstance(value, list) else [value]


# --- what others recorded, read by us ------------------------------------------------------------------------------------------

ACTED_ON = ("ORDER_TRADE_UPDATE", "ALGO_UPDATE", "ACCOUNT_UPDATE")


def test_every_documented_event_of_the_user_stream_is_read(recorded: Path) -> None:
    files = sorted((recorded / "documented" / "futures" / "user_data_json").glob("*.json"))
    assert len(files) >= 13
    for file in files:
        event = json.loads(file.read_text())
        seen = wire.user_event(event)
        assert (seen is not None) == (event["e"] in ACTED_ON), file.name
        if event["e"] == "ORDER_TRADE_UPDATE":
            assert seen.order.exchange_id == str(event["o"]["i"])  # type: ignore[union-attr]
            traded = event["o"]["x"] in ("TRADE", "CALCULATED") and event["o"].get("t", 0) > 0
            assert (seen.fill is not None) == traded, file.name  # type: ignore[union-attr]


def test_every_documented_market_event_is_read(recorded: Path) -> None:
    files = sorted((recorded / "documented" / "futures" / "market_data_json").glob("*.json"))
    assert len(files) >= 9
    used = {"aggTrade", "markPriceUpdate", "bookTicker"}
    for file in files:
        event = json.loads(file.read_text())
        event = event.get("data", event)
        assert (wire.market_event(event) is not None) == (event["e"] in used), file.name


REST: dict[str, Read] = {
    "new_order": wire.ack,
    "modify_order": wire.ack,
    "cancel_order": wire.ack,
    "query_order": wire.order,
    "query_current_open_order": wire.order,
    "current_all_open_orders": wire.order,
    "all_orders": wire.order,
    "users_force_orders": wire.order,
    "new_algo_order": wire.algo_ack,
    "query_algo_order": wire.algo_order,
    "current_all_algo_open_orders": wire.algo_order,
    "query_all_algo_orders": wire.algo_order,
    "position_information_v2": wire.position,
    "position_information_v3": wire.position,
    "position_information": wire.position,
    "account_information_v2": wire.account,
    "account_information_v3": wire.account,
    "account_information": wire.account,
    "account_trade_list": wire.user_trade,
    "mark_price": wire.premium,
    "compressed_aggregate_trades_list": wire.agg_trade,
}


def test_answers_of_the_newest_schema_are_read(recorded: Path) -> None:
    read = set()
    for file in sorted((recorded / "binance-connector-python").glob("*.json")):
        for name, known in json.loads(file.read_text()).items():
            if name in REST:
                answer = known["response"]
                answer = answer["result"] if isinstance(answer, dict) and "result" in answer else answer
                for row in rows(answer):
                    assert REST[name](row) is not None, f"{file.name}: {name}"
                read.add(name)
    assert read == set(REST)


def test_recorded_rest_bodies_are_read(recorded: Path) -> None:
    bodies = json.loads((recorded / "gocryptotrader" / "http_recorded.json").read_text())
    symbols = bodies["GET /fapi/v1/exchangeInfo"]["data"]["symbols"]
    usable = [parse_filters(symbol) for symbol in symbols]
    assert len(usable) > 3
    assert usable[0].instrument == "binance.usdm.BTCUSDT"
    assert (usable[0].tick, symbols[0]["pricePrecision"]) == (D("0.10"), 2)
    for route, reader in (
        ("GET /fapi/v1/klines", wire.kline),
        ("GET /fapi/v1/aggTrades", wire.agg_trade),
        ("GET /fapi/v1/premiumIndex", wire.premium),
    ):
        found = rows(bodies[route]["data"])
        assert found, route
        for row in found:
            assert reader(row) is not None


def test_documented_rest_bodies_are_read(recorded: Path) -> None:
    folder = recorded / "documented" / "futures" / "http_json"
    readers: dict[str, Read] = {
        "order_response": wire.order,
        "account_info_v2": wire.account,
        "position_risk": wire.position,
        "open_algo_orders": wire.algo_order,
    }
    for name, reader in readers.items():
        found = rows(json.loads((folder / f"{name}.json").read_text()))
        assert found
        for row in found:
            assert reader(row) is not None, name


def test_maintenance_amounts_of_recorded_brackets_follow_from_their_steps(recorded: Path) -> None:
    """`cum` is what keeps the margin without a jump: so it is in every recorded bracket, and so it is made in ours."""
    tiers = json.loads((recorded / "freqtrade" / "leverage_tiers_subset.json").read_text())
    checked = 0
    for name, steps in tiers.items():
        cum, ratio = D(0), D(0)
        for step in steps:
            rate = D(str(step["maintenanceMarginRate"]))
            cum, ratio = cum + D(str(step["minNotional"])) * (rate - ratio), rate
            assert abs(cum - D(str(step["info"]["cum"]))) < D("0.5"), name
            checked += 1
    assert checked > 100
    first = [(b.leverage, b.cap, b.ratio) for b in brackets_of("BTC")][:4]
    keys = ("maxLeverage", "maxNotional", "maintenanceMarginRate")
    assert first == [tuple(D(str(step[key])) for key in keys) for step in tiers["BTC/USDT:USDT"]][:4]


# --- the book ------------------------------------------------------------------------------------------------------------------


def recorded_depth(recorded: Path) -> tuple[dict[str, Json], list[Json]]:
    """Snapshots by symbol, and the depth events of all symbols in their order."""
    snapshots: dict[str, Json] = {}
    with gzip.open(recorded / "cryptofeed" / "BINANCE_FUTURES.http.0.0.gz", "rt") as lines:
        for line in lines:
            if "/depth?symbol=" in line:
                snapshots[line.split("symbol=")[1].split("&")[0]] = json.loads(line[line.index("{") :])
    events = []
    with gzip.open(recorded / "cryptofeed" / "BINANCE_FUTURES.ws.1.0.gz", "rt") as lines:
        for line in lines:
            if "depthUpdate" in line:
                events.append(json.loads(line[line.index("{") :])["data"])
    return snapshots, events


def test_the_book_of_recorded_events_has_no_gap_and_never_crosses(recorded: Path) -> None:
    snapshots, events = recorded_depth(recorded)
    books = {name: DepthBook(snapshot) for name, snapshot in snapshots.items()}
    applied = dict.fromkeys(books, 0)
    for event in events:
        if event["s"] in books:
            book = books[event["s"]]
            applied[event["s"]] += book.apply(event)
            assert not book.is_crossed, event["s"]
    assert len(books) == 4
    assert min(applied.values()) > 50
    assert len(events) == 764


def test_a_missing_event_is_never_passed_over(recorded: Path) -> None:
    snapshots, events = recorded_depth(recorded)
    mine = [event for event in events if event["s"] == "SUSHIUSDT"]
    book = DepthBook(snapshots["SUSHIUSDT"])
    taken = [event for event in mine if book.apply(event)]
    again = DepthBook(snapshots["SUSHIUSDT"])
    again.apply(taken[0])
    with pytest.raises(Gap):
        again.apply(taken[2])
    with pytest.raises(Gap):
        DepthBook(snapshots["SUSHIUSDT"]).apply(taken[-1])


def test_the_depth_of_the_capture_joins_its_snapshot(shared_data: Path) -> None:
    """The raw capture begins with a snapshot of its own; every event after it follows the one before."""
    file = shared_data / "ticks" / "usdm_btcusdt_20240808.gz"
    if not file.is_file():
        pytest.skip(f"no capture at {file}")
    book: DepthBook | None = None
    waiting: list[Json] = []  # the stream began before the snapshot was asked for
    applied = 0
    with gzip.open(file) as lines:
        for line in lines:
            if b"@depth" in line[:80]:
                waiting.append(json.loads(line[line.index(b"{") :])["data"])
            elif b'"lastUpdateId"' in line[:60]:
                book = DepthBook(json.loads(line[line.index(b"{") :]))
            if book is not None:
                for event in waiting:
                    applied += book.apply(event)
                    assert applied % 100 or not book.is_crossed
                waiting.clear()
            if applied >= 3_000:
                break
    assert applied >= 3_000


# --- what we say, held against what was recorded ---------------------------------------------------------------------------------


def kind(value: Json) -> str:
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def lacking(example: Json, ours: Json, where: str) -> list[str]:
    if isinstance(example, dict):
        absent = [f"{where}.{key} is missing" for key in example if key not in ours]
        return absent + [m for key in example if key in ours for m in lacking(example[key], ours[key], f"{where}.{key}")]
    if isinstance(example, list):
        return lacking(example[0], ours[0], f"{where}[]") if example and ours else []
    return [] if kind(example) == kind(ours) or None in (example, ours) else [f"{where}: {kind(ours)}, not {kind(example)}"]


def test_our_market_answers_have_the_recorded_keys_and_types(recorded: Path) -> None:
    bodies = json.loads((recorded / "gocryptotrader" / "http_recorded.json").read_text())
    venue = Venue(ScriptedMarket(walk("BTCUSDT", [960_000 + i % 7 for i in range(90)])), Journal(), Hub())
    venue.step(START_T + 80_000)
    one = {"symbol": "BTCUSDT"}
    answers = {
        "GET /fapi/v1/aggTrades": agg_trades(venue, Params(one)),
        "GET /fapi/v1/depth": depth(venue, Params(one)),
        "GET /fapi/v1/exchangeInfo": exchange_info(venue, Params({})),
        "GET /fapi/v1/fundingInfo": funding_info(venue, Params({})),
        "GET /fapi/v1/klines": klines(venue, Params({**one, "interval": "1m"})),
        "GET /fapi/v1/openInterest": open_interest(venue, Params(one)),
        "GET /fapi/v1/premiumIndex": premium_index(venue, Params(one)),
        "GET /fapi/v1/ticker/bookTicker": book_ticker(venue, Params(one)),
        "GET /fapi/v1/ticker/price": ticker_price(venue, Params(one)),
        "GET /fapi/v1/time": server_time(venue, Params({})),
        "GET /fapi/v1/trades": recent_trades(venue, Params(one)),
        "GET /fapi/v1/fundingRate": funding_rate(venue, Params(one)),
    }
    problems = []
    for route, ours in answers.items():
        example = bodies[route]["data"]
        recorded_one = example[0] if isinstance(example, list) and isinstance(ours, dict) else example
        problems += lacking(recorded_one, ours, route)
    assert [p for p in problems if ".filters[]" not in p] == []


LIMIT = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.010", "price": "95000.0"}
BATCH = json.dumps([{**LIMIT, "newClientOrderId": "b-1"}, {**LIMIT, "newClientOrderId": "b-2"}])
CHANGE = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.020", "price": "95100.0"}
ONE = {"symbol": "BTCUSDT"}
LATER: list[tuple[str, str, str, dict[str, str]]] = [  # name in the schema, method, path, parameters; in the order of asking
    ("change_multi_assets_mode", "POST", "/fapi/v1/multiAssetsMargin", {"multiAssetsMargin": "false"}),
    ("get_current_multi_assets_mode", "GET", "/fapi/v1/multiAssetsMargin", {}),
    ("change_margin_type", "POST", "/fapi/v1/marginType", {**ONE, "marginType": "ISOLATED"}),
    ("order", "POST", "/fapi/v1/order/test", LIMIT),
    ("new_order", "POST", "/fapi/v1/order", {**LIMIT, "newClientOrderId": "a"}),
    ("query_current_open_order", "GET", "/fapi/v1/openOrder", {**ONE, "origClientOrderId": "a"}),
    ("modify_order", "PUT", "/fapi/v1/order", {**CHANGE, "origClientOrderId": "a"}),
    ("get_order_modify_history", "GET", "/fapi/v1/orderAmendment", ONE),
    ("place_multiple_orders", "POST", "/fapi/v1/batchOrders", {"batchOrders": BATCH}),
    (
        "modify_multiple_orders",
        "PUT",
        "/fapi/v1/batchOrders",
        {"batchOrders": json.dumps([{**CHANGE, "origClientOrderId": "b-1"}])},
    ),
    ("cancel_multiple_orders", "DELETE", "/fapi/v1/batchOrders", {**ONE, "origClientOrderIdList": json.dumps(["b-1"])}),
    ("auto_cancel_all_open_orders", "POST", "/fapi/v1/countdownCancelAll", {**ONE, "countdownTime": "0"}),
    ("new_order", "POST", "/fapi/v1/order", {**ONE, "side": "BUY", "type": "MARKET", "quantity": "0.010"}),
    ("modify_isolated_position_margin", "POST", "/fapi/v1/positionMargin", {**ONE, "amount": "5", "type": "1"}),
    ("get_position_margin_change_history", "GET", "/fapi/v1/positionMargin/history", ONE),
    ("position_adl_quantile_estimation", "GET", "/fapi/v1/adlQuantile", ONE),
    ("query_user_rate_limit", "GET", "/fapi/v1/rateLimit/order", {}),
    ("get_income_history", "GET", "/fapi/v1/income", {}),
    ("kline_candlestick_data", "GET", "/fapi/v1/klines", {**ONE, "interval": "1m"}),
    (
        "continuous_contract_kline_candlestick_data",
        "GET",
        "/fapi/v1/continuousKlines",
        {"pair": "BTCUSDT", "contractType": "PERPETUAL", "interval": "1m"},
    ),
    ("ticker24hr_price_change_statistics", "GET", "/fapi/v1/ticker/24hr", ONE),
    ("symbol_price_ticker", "GET", "/fapi/v1/ticker/price", ONE),
    ("open_interest", "GET", "/fapi/v1/openInterest", ONE),
    ("get_funding_rate_history", "GET", "/fapi/v1/fundingRate", ONE),
    ("start_user_data_stream", "POST", "/fapi/v1/listenKey", {}),
    ("keepalive_user_data_stream", "PUT", "/fapi/v1/listenKey", {}),
]


def test_the_rest_of_our_answers_have_the_newest_keys_and_types(recorded: Path) -> None:
    """What tests of the real client do not hold against the schema already."""
    known: dict[str, Json] = {}
    for file in sorted((recorded / "binance-connector-python").glob("rest_api_*.json")):
        known |= json.loads(file.read_text())
    venue = Venue(ScriptedMarket(walk("BTCUSDT", [960_000 + i % 7 for i in range(90)])), Journal(), Hub())
    venue.step(START_T + 80_000)
    problems = []
    for name, method, path, params in LATER:
        assert (known[name]["method"], known[name]["path"]) == (method, path)
        ours = ROUTES[method, path].answer(venue, Params(params))
        example = known[name]["response"]
        if isinstance(example, list) != isinstance(ours, list):
            example, ours = (value[0] if isinstance(value, list) else value for value in (example, ours))
        problems += lacking(example, ours, name)
    # trailing stops are no ordinary orders here, and only a refused row of a batch has a code
    assert [p for p in problems if p.split(".")[-1].split()[0] not in ("activatePrice", "priceRate", "code", "msg")] == []
