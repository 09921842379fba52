"""Every view of the desk on one story: a long that is entered, protected, stopped out; beside it what was refused, and a position
that nobody protects. All through the real tables; all but the trades of the market stands in the log twice, and counts once."""

from __future__ import annotations

import json
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse import aggregates, views
from infra.clickhouse.rows import Record
from infra.clickhouse.writer import Writer
from schemas import topics

WALL = int(time.time()) // 3600 * 3_600_000
MARKET = 1_722_470_400_000
MINUTE = 60_000
BTC, ETH = "binance.usdm.BTCUSDT", "binance.usdm.ETHUSDT"
DECISION, POSITION = "xh3gcc3s4nkiwme7bcxkeeolwe", "smkeqillpujdsa6tz5wzfbslbi"
ENTRY, STOP = "e-ltcivjxbwiszj5d3seaonkiv", "s-ovz7sagv7rsrziwnmgz4pf7s"
OTHER = "e-aaaaaaaaaaaaaaaaaaaaaaaa"
FUNDING_AT = MARKET + 10 * MINUTE
VIEWS = {view.name: view for view in views.declared()}


def write(writer: Writer) -> None:
    by_topic: dict[str, list[Record]] = {}
    for ms, event, headers in story():
        topic = topics.BY_TYPE[event["type"]]
        records = by_topic.setdefault(topic.name, [])
        value, key = json.dumps(event).encode(), f"sim/{event.get('instrument', '')}".encode()
        for _ in range(1 if event["type"] == "market.trade-frame" else 2):
            records.append(
                Record(0, len(records), WALL + ms, key, value, [(name, text.encode()) for name, text in headers.items()])
            )
    ended = by_topic["trade.positions"]
    ended.append(Record(0, len(ended), WALL + 1200, f"sim/{BTC}".encode(), None, ()))
    for name, records in by_topic.items():
        assert writer.insert(name, records, name) == []


def golden(name: str, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
    return told | changes


def story() -> list[tuple[int, dict[str, Any], dict[str, str]]]:
    """(wall ms, event, headers). The golden messages are one story; what is changed here carries it on."""
    by_risk = {"producer": "risk", "caused_at": str(WALL)}
    told: list[tuple[int, dict[str, Any], dict[str, str]]] = []

    def say(ms: int, name: str, headers: dict[str, str] | None = None, **changes: Any) -> None:
        told.append((ms, golden(name, **changes), headers or {}))

    quiet = {"type": "signal.decision", "blocked": None, "rank": None, "ranked": None}
    # the market
    say(0, "market.trade-frame")
    later = MARKET + MINUTE
    say(
        0,
        "market.trade-frame",
        event_id="f2",
        at=later,
        first_id=9,
        t=[later, later + 10],
        p=[63990.0, 64010.5],
        q=[0.3, 0.001],
        m=[0, 1],
    )
    say(0, "market.candle")
    say(0, "market.candle", event_id="c2", at=MARKET + 15 * MINUTE, c=63000.0)
    for n, (at, mark, due) in enumerate(
        ((MARKET, 64000.0, FUNDING_AT), (FUNDING_AT - 1000, 64100.0, FUNDING_AT), (FUNDING_AT + MINUTE, 62500.0, 0))
    ):
        one = {"instrument": BTC, "mark": mark, "funding_rate": -0.0001, "next_funding_at": due or FUNDING_AT + 8 * 60 * MINUTE}
        marks = [golden("market.marks")["marks"][0] | one, golden("market.marks")["marks"][1] | {"next_funding_at": 0}]
        say(n * 1000, "market.marks", event_id=f"m{n}", at=at, marks=marks)
    say(0, "signal.prediction.3", forming=False, shadow=False)
    # the long
    say(0, "signal.decision.4", blocked=None)
    say(40, "risk.verdict.2", by_risk)
    say(41, "trade.entry")
    own = {
        "client_id": ENTRY,
        "purpose": "ENTRY",
        "side": "BUY",
        "order_type": "MARKET",
        "trigger_price": None,
        "close_position": False,
    }
    say(50, "trade.order", event_id="o1", **own, book="ORDER", state="SENDING", sent_at=WALL + 55, position_id=None)
    say(
        90,
        "trade.order",
        event_id="o2",
        **own,
        book="ORDER",
        state="FILLED",
        sent_at=None,
        filled_quantity="0.014",
        position_id=None,
    )
    say(100, "trade.fill")
    say(110, "trade.position")
    say(120, "trade.order", event_id="o3", state="SENDING", sent_at=WALL + 125)
    say(130, "trade.exit-plan.2", revision=1, event_id="plan-1")
    say(150, "trade.order", event_id="o4", sent_at=None)
    say(160, "guardian.report", action="PROTECTED", unprotected_s=0.05)
    say(170, "trade.exit")
    say(180, "trade.exit-decision.2", event_id="hold", mode="LIVE", decision="MOVE_STOP", reason="TRAILING", result_pct=None)
    say(190, "trade.exit-holds")
    # stopped out, a quarter of an hour of the market later
    say(1140, "account.order-update", at=MARKET + 15 * MINUTE)
    say(1150, "trade.order", event_id="o5", state="FILLED", sent_at=None)
    out = {"at": MARKET + 15 * MINUTE, "client_id": STOP, "purpose": "STOP", "side": "SELL", "price": "62448.5"}
    say(
        1155,
        "trade.fill",
        event_id="fill-2",
        trade_id=18,
        order_id="43",
        fee="0.4371395",
        realized_pnl="-22.435",
        maker=True,
        **out,
    )
    say(
        1160,
        "trade.position",
        event_id="flat",
        at=MARKET + 15 * MINUTE,
        revision=2,
        status="FLAT",
        quantity="0",
        realized_pnl="-22.435",
    )
    say(1170, "trade.closed", at=MARKET + 15 * MINUTE)
    say(1180, "trade.exit-decision.2")
    # what was refused: by the model, by risk, by the exchange
    say(5, "signal.decision.4", event_id="d-hold", **quiet, action="HOLD", reason="BELOW_THRESHOLD")
    say(5, "signal.decision.4", event_id="d-cool", **quiet)
    say(
        45,
        "risk.verdict.2",
        by_risk | {"caused_at": str(WALL + 5)},
        event_id="v-cool",
        decision_id="d-cool",
        outcome="REFUSED",
        reason="COOL_DOWN",
        detail="60 s left",
    )
    say(6, "signal.decision.4", event_id="d-poor", **quiet)
    say(46, "risk.verdict.2", by_risk | {"caused_at": str(WALL + 6)}, event_id="v-poor", decision_id="d-poor")
    say(47, "trade.entry", event_id="e-poor", decision_id="d-poor", verdict_id="v-poor", client_id=OTHER)
    say(
        60,
        "trade.order",
        **(own | {"client_id": OTHER}),
        event_id="o6",
        state="REFUSED",
        error_code=-2019,
        reason="margin is insufficient",
        position_id=None,
    )
    # a position that nobody protects, the account, the rest
    bare = {"instrument": ETH, "position_id": "eth", "quantity": "0.5", "entry_price": "3200", "fees": "0"}
    say(110, "trade.position", event_id="p-eth", **bare, entry_client_id="web_1", last_client_id="web_1")
    for n, equity in enumerate(("10000", "9700", "9900")):
        say(n, "account.snapshot", event_id=f"s{n}", at=MARKET + n * MINUTE, equity=equity)
    say(0, "risk.state")
    say(0, "breaker.state")
    say(0, "dead.letter")
    say(0, "dead.letter", event_id="letter-2", offset=78)
    say(0, "model.version")
    say(0, "model.switch")
    return told


def rows(sql: Client, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in sql.query(query).result_rows]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_says_what_it_is_and_its_example_answers(sql: Client, name: str) -> None:
    view = VIEWS[name]
    assert rows(sql, f"SELECT comment FROM system.tables WHERE database = 'quantum' AND name = '{name}'") == [(view.about,)]
    assert rows(sql, view.example), "its example has no row"


def test_a_trade_has_entry_levels_leverage_and_what_came_of_it(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT instrument, status, toString(quantity), toString(entry_price), leverage, "
        "toString(stop_price), take_profits::Array(String), "
        "toString(net_pnl), closed IS NULL, exit_reason FROM trades ORDER BY status",
    )
    assert found == [
        (BTC, "CLOSED", "0.014", "64051", 3, "63269.6", ["65011.7"], "-23.3204965", False, "STOP"),
        (ETH, "OPEN", "0.5", "3200", None, None, [], "0", True, ""),
    ]


def test_each_refusal_says_who_refused_and_why(sql: Client) -> None:
    found = rows(sql, "SELECT decision_id, stage, reason, detail FROM refusals WHERE stage != 'SIGNALS' ORDER BY stage")
    assert found == [
        ("d-poor", "EXECUTION", "REFUSED", "margin is insufficient (code -2019)"),
        ("d-cool", "RISK", "COOL_DOWN", "60 s left"),
    ]
    assert rows(sql, "SELECT decision_id, reason FROM refusals WHERE stage = 'SIGNALS'") == [("d-hold", "BELOW_THRESHOLD")]
    assert rows(sql, f"SELECT outcome, verdict, leverage FROM signals WHERE decision_id = '{DECISION}'") == [
        ("APPROVED", "WITHIN_LIMITS", 3)
    ]


def test_the_life_of_a_trade_is_told_in_order_from_the_decision_to_the_round_trip(sql: Client) -> None:
    found = rows(sql, f"SELECT what FROM trade_life WHERE position_id = '{POSITION}' ORDER BY k_time")
    assert [what for (what,) in found] == [
        *(
            "decision LONG",
            "verdict APPROVED",
            "entry",
            "order SENDING",
            "order FILLED",
            "fill",
            "position OPEN",
            "order SENDING",
            "plan 1",
        ),
        *("order ACKED", "wish PLACE_STOP", "exit MOVE_STOP", "order FILLED", "fill", "position FLAT", "closed"),
    ]


def test_the_life_of_a_stop_says_when_it_rested_and_how_far_from_its_level_it_was_filled(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT leg, state, toString(trigger_price), toUnixTimestamp64Milli(planned_at), toUnixTimestamp64Milli(sent_at), "
        "toUnixTimestamp64Milli(resting_at), toUnixTimestamp64Milli(ended_at), fill_price, round(slip_bps, 4) "
        f"FROM stop_life WHERE client_id = '{STOP}'",
    )
    assert found == [("NET", "FILLED", "62449", WALL + 120, WALL + 125, WALL + 150, WALL + 1150, 62448.5, 0.0801)]


def test_coverage_counts_the_seconds_without_a_stop(sql: Client) -> None:
    found = rows(
        sql, "SELECT position_id, open_s, naked_s, worst_s, round(covered, 4) FROM protection_coverage ORDER BY open_s DESC"
    )
    assert found == [(POSITION, 1.05, 0.05, 0.04, 0.9524), ("eth", 1.04, 1.04, 1.04, 0.0)]


def test_slippage_is_measured_against_what_was_meant(sql: Client) -> None:
    found = rows(sql, "SELECT purpose, meant_by, meant, round(worse, 4), round(worse_bps, 4) FROM slippage ORDER BY purpose")
    assert found == [("ENTRY", "DECISION", 64050.2, 0.8, 0.1249), ("STOP", "LEVEL", 62449.0, 0.5, 0.0801)]


def test_fees_are_those_of_the_fills_and_funding_what_fell_due_while_it_was_open(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT toString(fees), fee_asset, fills, round(maker_share, 3), round(funding, 6), fundings FROM "
        "fees_and_funding ORDER BY fills",
    )
    assert found == [("0", "", 0, 0.0, 0.0, 0), ("0.8854965", "USDT", 2, 0.494, round(-0.014 * 64100 * 0.0001, 6), 1)]


def test_exposure_is_worth_its_mark_minute_by_minute(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT dateDiff('minute', toDateTime(1722470400, 'UTC'), minute), positions, round(gross, 2) FROM "
        "exposure_by_minute ORDER BY minute",
    )
    by_minute = {minute: (n, gross) for minute, n, gross in found}
    assert by_minute[0] == (2, round(0.014 * 64000 + 0.5 * 3200.5, 2))
    assert by_minute[1] == (2, round(0.014 * 64051 + 0.5 * 3200, 2)), "no mark in that minute: what was paid"
    assert sorted(by_minute) == list(range(16))
    assert by_minute[15] == (1, 1600.0)


def test_the_account_in_one_row(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT toString(equity), toString(daily_pnl), open_positions, round(exposure, 2), "
        "round(max_drawdown_pct, 3), emergency_brake, alarms FROM risk_state",
    )
    assert found == [("9900", "-23.3204965", 1, 1600.25, 3.0, True, ["DAILY_DRAWDOWN"])]
    assert rows(sql, "SELECT toString(equity), toString(peak), round(drawdown_pct, 3) FROM drawdown ORDER BY minute") == [
        ("10000", "10000", 0.0),
        ("9700", "10000", 3.0),
        ("9900", "10000", 1.0),
    ]


def test_a_prediction_is_held_against_the_close_at_its_horizon(sql: Client) -> None:
    assert rows(sql, "SELECT p_up, said, round(came, 5), right FROM model_outcomes") == [(0.75, 0.0021, -0.01653, False)]
    assert rows(sql, "SELECT p_up_from, predictions, said, came, hit_rate FROM model_calibration") == [(0.7, 1, 0.75, 0.0, 0.0)]
    assert rows(sql, "SELECT number, version, outcome, actor FROM retraining_jobs") == [(3, "m-1a2b3c4d5e6f", "SERVING", "anna")]


def test_dead_letters_are_counted_by_cause(sql: Client) -> None:
    assert rows(sql, "SELECT stage, topic, error, letters, place FROM letters") == [
        ("risk", "signal.decisions", "Undecodable", 2, "signal.decisions/3/78")
    ]


def test_positions_stand_as_they_are_now(sql: Client) -> None:
    found = rows(
        sql, "SELECT instrument, status, mark, round(unrealized_pnl, 2), toString(realized_pnl) FROM positions ORDER BY instrument"
    )
    assert found == [(BTC, "FLAT", None, None, "-22.435"), (ETH, "OPEN", 3200.5, 0.25, "0")]


def test_aggregates_add_up_the_log(sql: Client) -> None:
    found = rows(
        sql,
        "SELECT open_at, o, h, l, c, toString(volume), toString(taker_buy_volume), trades, first_id, last_id "
        "FROM candles ORDER BY open_at",
    )
    opens = [datetime.fromtimestamp(at / 1000, UTC) for at in (MARKET - MINUTE, MARKET, MARKET + MINUTE)]
    assert found == [
        (opens[0], 64000.1, 64000.1, 64000.1, 64000.1, "0.01", "0.01", 1, 7, 7),
        (opens[1], 64000.2, 64000.2, 64000.2, 64000.2, "0.2", "0", 1, 8, 8),
        (opens[2], 63990.0, 64010.5, 63990.0, 64010.5, "0.301", "0.3", 2, 9, 10),
    ]
    assert rows(sql, "SELECT day, instrument, trips, wins, toString(net_pnl) FROM daily_pnl") == [
        (date(2024, 8, 1), BTC, 1, 0, "-23.3204965")
    ]
    assert rows(sql, "SELECT producer, type, records, p50_ms, worst_ms FROM latency_by_stage") == [
        ("risk", "risk.verdict", 6, 40.0, 40)
    ]


def test_aggregates_made_again_from_the_rows_are_the_same(sql: Client) -> None:
    asked = [f"SELECT * FROM {name} ORDER BY ALL" for name in ("candles", "latency_by_stage")] + [
        "SELECT account, day, instrument, arraySort(closed) FROM daily_pnl ORDER BY ALL"
    ]
    before = [rows(sql, query) for query in asked]
    for one in aggregates.declared():
        for statement in one.refill:
            sql.command(statement)
    assert [rows(sql, query) for query in asked] == before


def test_rows_go_by_the_day_they_came_in_never_by_the_markets_time(sql: Client) -> None:
    """The story is of 2024 and stays; what came in forty days ago goes, whatever time its market had."""
    old = Record(
        0,
        10_000,
        WALL - 40 * 86_400_000,
        None,
        json.dumps(golden("market.trade-frame", at=WALL, t=[WALL], p=[1.0], q=[1.0], m=[0])).encode(),
        (),
    )
    writer = Writer(sql.url, "quantum", topics.ALL)
    writer.insert("market.trades", [old], "old")
    sql.command("OPTIMIZE TABLE market_trades FINAL")
    assert rows(sql, "SELECT count(), countIf(k_offset = 10000) FROM market_trades") == [(2, 0)]
    sql.command("OPTIMIZE TABLE latency_1h FINAL")
    assert rows(sql, "SELECT sum(records) FROM latency_by_stage") == [(6,)]
    assert len(rows(sql, "SELECT * FROM candles")) == 4, "the minute that was added up from it is kept"
