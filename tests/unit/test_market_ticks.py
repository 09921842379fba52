"""A raw capture drives the market with its own trades, ids and quotes; what it lacks is made up and says so."""

from __future__ import annotations

import gzip
import itertools
from decimal import Decimal
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.venue.local.commands import PlaceOrder
from infra.venue.local.engine import Engine
from infra.venue.local.market import open_source
from infra.venue.local.market.base import CANDLE_MS, Depth, Mark, Quote, Trade, candle_start

T = 1_723_161_256_313


def message(stream: str, data: str) -> str:
    return f'{T}000000 {{"stream":"btcusdt@{stream}","data":{{{data}}}}}'


LINES = [
    message("depth@0ms", '"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT","b":[["1","2"]]'),
    message("trade", f'"e":"trade","E":1,"T":{T + 9},"s":"BTCUSDT","t":7,"p":"61800.30","q":"0.006","X":"MARKET","m":false'),
    message(
        "bookTicker", f'"e":"bookTicker","u":5,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":{T},"E":1'
    ),
    message(
        "trade", f'"e":"trade","E":1,"T":{T + 10},"s":"BTCUSDT","t":8,"p":"61800.20","q":"1.000","X":"INSURANCE_FUND","m":true'
    ),
    message(
        "bookTicker",
        f'"e":"bookTicker","u":6,"s":"BTCUSDT","b":"61800.10","B":"2.507","a":"61800.30","A":"2.510","T":{T + 20},"E":1',
    ),
]


def capture(folder: Path, lines: list[str]) -> Path:
    file = folder / "usdm_btcusdt_20240808.gz"
    with gzip.open(file, "wt") as out:
        out.write("\n".join(lines) + "\n")
    return file


def test_trades_and_quotes_come_in_the_time_of_the_exchange(tmp_path: Path) -> None:
    capture(tmp_path, LINES)
    market = open_source(f"ticks:{tmp_path}", seed=1)
    events = list(market.events())
    assert [type(event) for event in events] == [Quote, Mark, Trade, Quote]
    assert events[0] == Quote("BTCUSDT", T, 618_002, 2507, 618_003, 2510)
    assert events[2] == Trade("BTCUSDT", T + 9, 618_003, 6, False, 7)
    assert isinstance(events[1], Mark)
    assert str(events[1].mark) == "61800.25"
    assert market.mark_origin == "recorded-mid"
    assert market.start_t == T
    assert list(market.events(resume_t=T)) == events[2:]


def test_a_taker_meets_the_recorded_depth_and_leaves_a_hole_in_it(tmp_path: Path) -> None:
    asks = '[["61800.30","2.510"],["61800.90","0.500"],["61803.00","9"]]'
    told = f'{{"lastUpdateId":1,"E":1,"T":{T + 12},"bids":[["61800.20","2"],["61799.00","0.100"]],"asks":{asks}}}'
    change = f'"e":"depthUpdate","E":1,"T":{T + 15},"s":"BTCUSDT","U":1,"u":2,"pu":0,"b":[["61799.00","0"]],"a":[["61801.00","1"]]'
    market = open_source(f"ticks:{capture(tmp_path, [*LINES, f'{T}000000 {told}', message('depth@0ms', change)])}", seed=1)
    assert [type(event) for event in market.events()] == [Quote, Mark, Trade, Depth, Depth, Quote]
    engine = Engine(market.symbols, {"BTCUSDT": 618_003}, Decimal(1_000_000))
    for event in market.events():
        engine.apply(event, event.t)
    book = engine.floor.books["BTCUSDT"]
    assert list(book.levels("BUY")) == [(618_003, 2510), (618_009, 500), (618_010, 1000), (618_030, 9000)]
    assert list(book.levels("SELL")) == [(618_001, 2507)]  # what stands before the quote is not there any more
    assert [book.queue_at("SELL", price) for price in (618_003, 618_009, 618_011)] == [2510, 500, 0]
    engine.apply(PlaceOrder("BTCUSDT", "BUY", "MARKET", Decimal("3.5")), T + 30)
    assert [(fill.price, fill.qty) for fill in engine.floor.fills["BTCUSDT"]] == [(618_003, 2510), (618_009, 500), (618_010, 490)]
    assert list(book.levels("BUY"))[:3] == [(618_003, 0), (618_009, 0), (618_010, 510)]


def test_the_past_is_made_up_and_ends_at_the_first_price(tmp_path: Path) -> None:
    market = open_source(f"ticks:{capture(tmp_path, LINES)}", seed=1, history=1000)
    past = list(market.history())
    assert market.history_is_generated
    assert len(past) == 1000
    assert past[-1].close == 618_003
    assert past[-1].open_t + CANDLE_MS == candle_start(T)
    assert all(a.close == b.open and a.open_t + CANDLE_MS == b.open_t for a, b in itertools.pairwise(past))
    assert all(c.low <= min(c.open, c.close) and max(c.open, c.close) <= c.high for c in past)


def test_captures_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no capture"):
        open_source(f"ticks:{tmp_path}", seed=1)
    with pytest.raises(UserError, match="there is no file"):
        open_source(f"ticks:{tmp_path}/a.gz,{tmp_path}/b.gz", seed=1)
    file = capture(tmp_path, LINES)
    with pytest.raises(UserError, match="no trade of ETHUSDT"):
        open_source(f"ticks:{file}", seed=1, symbols=["ETHUSDT"])
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(UserError, match="not a usable capture"):
        open_source(f"ticks:{file}", seed=1)
    capture(tmp_path, LINES[:1])
    with pytest.raises(UserError, match="holds no trades"):
        open_source(f"ticks:{file}", seed=1)


def test_the_recorded_capture_is_complete_and_narrow(shared_data: Path) -> None:
    folder = shared_data / "ticks"
    if not folder.is_dir():
        pytest.skip(f"no capture at {folder}")
    market = open_source(f"ticks:{folder}", seed=1)
    assert [s.name for s in market.symbols] == ["BTCUSDT", "ETHUSDT"]
    events = list(market.events())
    assert all(a.t <= b.t for a, b in itertools.pairwise(events))
    for symbol, count in (("BTCUSDT", 21_313), ("ETHUSDT", 14_076)):
        trades = [event for event in events if isinstance(event, Trade) and event.symbol == symbol]
        assert [trade.id for trade in trades] == list(range(trades[0].id, trades[0].id + count))
        prices = [trade.price for trade in trades]
        assert max(prices) / min(prices) - 1 < 0.005
