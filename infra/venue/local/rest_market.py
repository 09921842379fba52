"""Market data over REST. Times are market time, except `/time`, which is the real clock that requests are signed with."""

from __future__ import annotations

from typing import Any

from infra.venue.local import wire_depth, wire_market
from infra.venue.local.klines import INTERVALS
from infra.venue.local.params import Params
from infra.venue.local.refusals import refuse
from infra.venue.local.tape import Tape
from infra.venue.local.venue import Venue


def ping(venue: Venue, params: Params) -> Any:
    return {}


def server_time(venue: Venue, params: Params) -> Any:
    return {"serverTime": venue.request_ms()}


def exchange_info(venue: Venue, params: Params) -> Any:
    return wire_market.exchange_info(tuple(venue.symbols.values()), venue.request_ms(), venue.engine.floor.status)


def _name(venue: Venue, params: Params, key: str = "symbol") -> str:
    name = params.text(key)
    if name not in venue.symbols:
        raise refuse(-1121)
    return name


def _names(venue: Venue, params: Params) -> tuple[list[str], bool]:
    """The symbols that are meant, and whether only one was asked for."""
    if params.maybe("symbol") is None:
        return list(venue.symbols), False
    return [_name(venue, params)], True


def klines(venue: Venue, params: Params) -> Any:
    return _klines(venue, params, _name(venue, params))


def continuous_klines(venue: Venue, params: Params) -> Any:
    params.text("contractType")
    return _klines(venue, params, _name(venue, params, "pair"))


def _klines(venue: Venue, params: Params, name: str) -> Any:
    interval = params.choice("interval", tuple(INTERVALS), -1120)
    start_t, end_t = params.integer("startTime"), params.integer("endTime")
    found = venue.candles[name].range(interval, start_t, end_t, params.limit(500, 1500))
    return [wire_market.kline_row(venue.symbols[name], interval, candle) for candle in found]


def _trades(venue: Venue, params: Params, limit: int) -> tuple[Tape, range]:
    tape = venue.tapes[_name(venue, params)]
    from_id = params.integer("fromId")
    if from_id is not None:
        return tape, tape.from_id(from_id, limit)
    return tape, tape.between(params.integer("startTime"), params.integer("endTime"), limit)


def agg_trades(venue: Venue, params: Params) -> Any:
    tape, found = _trades(venue, params, params.limit(500, 1000))
    symbol = venue.symbols[params.text("symbol")]
    return [wire_market.agg_trade_row(symbol, row) for row in tape.rows(found)]


def recent_trades(venue: Venue, params: Params) -> Any:
    tape, found = _trades(venue, params, params.limit(500, 1000))
    symbol = venue.symbols[params.text("symbol")]
    return [wire_market.trade_row(symbol, row) for row in tape.rows(found)]


def depth(venue: Venue, params: Params) -> Any:
    book = venue.engine.floor.books[_name(venue, params)]
    return wire_market.depth(book, params.limit(500, 1000), venue.updates, venue.market_t)


def premium_index(venue: Venue, params: Params) -> Any:
    names, one = _names(venue, params)
    rows = [wire_market.premium_index(venue.symbols[name], venue.marks[name], venue.market_t) for name in names]
    return rows[0] if one else rows


def ticker_price(venue: Venue, params: Params) -> Any:
    names, one = _names(venue, params)
    rows = []
    for name in names:
        last = venue.engine.floor.books[name].last * venue.symbols[name].tick
        rows.append({"symbol": name, "price": f"{last:f}", "time": venue.market_t})
    return rows[0] if one else rows


def book_ticker(venue: Venue, params: Params) -> Any:
    names, one = _names(venue, params)
    rows = [wire_market.book_ticker_row(venue.engine.floor.books[name], venue.market_t) for name in names]
    return rows[0] if one else rows


def funding_info(venue: Venue, params: Params) -> Any:
    since = venue.source.start_t
    cap = {"adjustedFundingRateCap": "0.02000000", "adjustedFundingRateFloor": "-0.02000000"}
    return [{"symbol": name, **cap, "fundingIntervalHours": 8, "disclaimer": False, "updateTime": since} for name in venue.symbols]


def funding_rate(venue: Venue, params: Params) -> Any:
    """What has been settled since the exchange began."""
    names, _ = _names(venue, params)
    start_t, end_t, limit = params.integer("startTime"), params.integer("endTime"), params.limit(100, 1000)
    found = [
        wire_market.funding_row(settled)
        for settled in sorted((s for name in names for s in venue.engine.floor.fundings[name]), key=lambda s: s.t)
        if (start_t is None or settled.t >= start_t) and (end_t is None or settled.t <= end_t)
    ]
    return found[:limit] if start_t is not None else found[-limit:]


def ticker_24h(venue: Venue, params: Params) -> Any:
    names, one = _names(venue, params)
    rows = [wire_depth.day_row(venue.symbols[name], venue.candles[name], venue.market_t) for name in names]
    return rows[0] if one else rows


def open_interest(venue: Venue, params: Params) -> Any:
    """Made up from the day's volume: the market sources know nobody's positions."""
    name = _name(venue, params)
    held = wire_depth.day_of(venue.candles[name]).volume // 2 * venue.symbols[name].step
    return {"openInterest": f"{held:f}", "symbol": name, "time": venue.market_t}
