"""Recorded candles drive the market exactly, or the user is told which one cannot."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.errors import UserError
from infra.venue.local.market import open_source
from infra.venue.local.market.base import CANDLE_MS, SYMBOLS, Candle5m, Trade
from infra.venue.local.market.expand import aggregate
from infra.venue.local.market.synthetic import candles

HEAD = "symbol,open_time,open,high,low,close,volume"


def rows(n: int = 40, names: tuple[str, ...] = ("BTCUSDT", "SOLUSDT")) -> list[str]:
    made = candles(5, names, n)
    out = []
    for i in range(n):
        for c in made.row(i):
            s = SYMBOLS[c.symbol]
            prices = ",".join(str(p * s.tick) for p in (c.open, c.high, c.low, c.close))
            at = datetime.fromtimestamp(c.open_t / 1000, UTC).isoformat(sep=" ")
            out.append(f"{c.symbol},{at},{prices},{c.volume * s.step}")
    return out


def written(folder: Path, lines: list[str], head: str = HEAD) -> str:
    file = folder / "candles.csv"
    file.write_text("\n".join([head, *lines, ""]))
    return f"candles:{file}"


def test_a_csv_comes_back_as_history_and_trades(tmp_path: Path) -> None:
    market = open_source(written(tmp_path, rows()), seed=1, history=20)
    assert market.label == "candles"
    assert not market.history_is_generated
    expected = [candle for i in range(40) for candle in candles(5, ("BTCUSDT", "SOLUSDT"), 40).row(i)]
    assert list(market.history()) == expected[:40]
    assert market.start_t == expected[40].open_t
    live: dict[tuple[str, int], list[Trade]] = defaultdict(list)
    events = list(market.events())
    for event in events:
        if isinstance(event, Trade):
            live[event.symbol, event.t - event.t % CANDLE_MS].append(event)
    assert [aggregate(live[c.symbol, c.open_t], c.open_t) for c in expected[40:]] == expected[40:]
    at = events[len(events) // 2].t
    assert list(market.events(resume_t=at)) == [event for event in events if event.t > at]


def test_microseconds_are_told_by_their_size(tmp_path: Path) -> None:
    def micro(line: str) -> str:
        name, at, *rest = line.split(",")
        return ",".join([name, str(int(datetime.fromisoformat(at).timestamp() * 1e6)), *rest])

    plain = open_source(written(tmp_path, rows()), seed=1, history=20)
    assert open_source(written(tmp_path, [micro(line) for line in rows()]), seed=1, history=20).start_t == plain.start_t


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: lines[:20], "share 10 candles, 32 are needed"),
        (lambda lines: lines[:10] + lines[12:], "no candle at"),
        (lambda lines: [*lines, lines[7]], "or two"),
        (lambda lines: [lines[0].rsplit(",", 1)[0] + ",0", *lines[1:]], "moves without volume"),
        (lambda lines: [lines[0].rsplit(",", 1)[0] + ",nan", *lines[1:]], "not finite"),
        (lambda lines: [lines[0].rsplit(",", 1)[0] + ",0.0004", *lines[1:]], "step 0.001"),
        (lambda lines: [lines[0].rsplit(",", 1)[0] + ",much", *lines[1:]], "line 2"),
        (lambda lines: [line.replace("SOLUSDT", "PEPEUSDT") for line in lines], "PEPEUSDT"),
    ],
)
def test_unusable_candles_are_told(tmp_path: Path, spoil: object, says: str) -> None:
    assert callable(spoil)
    with pytest.raises(UserError, match=says):
        open_source(written(tmp_path, spoil(rows())), seed=1, history=20)


def test_missing_files_columns_and_symbols_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        open_source(f"candles:{tmp_path}/absent.parquet", seed=1)
    with pytest.raises(UserError, match="no column volume"):
        open_source(written(tmp_path, [], HEAD.removesuffix(",volume")), seed=1)
    with pytest.raises(UserError, match="has no ETHUSDT"):
        open_source(written(tmp_path, rows()), seed=1, symbols=["ETHUSDT"])
    (tmp_path / "broken.parquet").write_bytes(b"not this")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        open_source(f"candles:{tmp_path}/broken.parquet", seed=1)


def test_the_recorded_parquet_drives_all_eight_symbols(shared_data: Path) -> None:
    file = shared_data / "klines" / "usdm_5m.parquet"
    if not file.is_file():
        pytest.skip(f"no recorded candles at {file}")
    market = open_source(f"candles:{file}", seed=1)
    past = list(market.history())
    assert len(past) == 8 * 1100
    assert past[0] == Candle5m("ADAUSDT", 1_764_460_800_000, 4143, 4147, 4141, 4147, 1_066_192)
    assert past[-1].open_t + CANDLE_MS == market.start_t
