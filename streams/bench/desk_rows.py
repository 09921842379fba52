"""Made-up rows of a desk, straight into the tables: 90 days, ten symbols, 5,000 trades. They say nothing; views go through them."""

from __future__ import annotations

TRADES = 5_000
DECISIONS = 100_000
MARKS = 50_000
SNAPSHOTS = 100_000
DAYS_MS = 90 * 86_400_000
START_MS = 1_722_470_400_000

_INSTRUMENT = "concat('binance.usdm.SYM', toString(number % 10), 'USDT')"


def _at(rows: int, add_ms: str = "0") -> str:
    """Venue time, spread over the days; each instrument gets a trade of its own at a time."""
    return f"fromUnixTimestamp64Milli(toInt64({START_MS} + intDiv(number, 10) * {DAYS_MS * 10 // rows} + {add_ms}), 'UTC')"


def _rows(table: str, rows: int, columns: dict[str, str], add_ms: str = "0") -> str:
    whole = {
        "k_partition": "0",
        "k_offset": "number",
        "k_time": "now64(3) - toIntervalMillisecond(toInt64(5000000 - number))",
        "event_id": f"concat('{table[:3]}', '-{add_ms[:3]}-', toString(number))",
        "at": _at(rows, add_ms),
    } | columns
    chosen = ", ".join(f"{value} AS `{name}`" for name, value in whole.items())
    return f"INSERT INTO {table} ({', '.join(f'`{name}`' for name in whole)}) SELECT {chosen} FROM numbers({rows})"


def _trade(table: str, columns: dict[str, str], add_ms: str = "0") -> str:
    return _rows(table, TRADES, {"instrument": _INSTRUMENT, "account": "'sim'"} | columns, add_ms)


_HOUR = "3600000"
_POSITION = {"position_id": "concat('p-', toString(number))", "side": "'LONG'"}
_ENTRY = "concat('e-', toString(number))"
_STOP = "concat('s-', toString(number))"
_SYMBOL = {"instrument": _INSTRUMENT}
_DECISION = {"confidence": "0.7", "reference_price": "100"}

FILL: tuple[str, ...] = (
    _rows(
        "signal_decisions",
        DECISIONS,
        _SYMBOL | _DECISION | {"action": "if(number % 20, 'HOLD', 'LONG')", "event_id": "concat('d-', toString(number))"},
    ),
    _rows(
        "risk_verdicts",
        DECISIONS // 20,
        _SYMBOL
        | _DECISION
        | {
            "outcome": "if(number % 3, 'REFUSED', 'APPROVED')",
            "reason": "'COOL_DOWN'",
            "decision_id": "concat('d-', toString(number * 20))",
            "event_id": "concat('v-', toString(number))",
        },
    ),
    _trade(
        "trade_entries",
        {
            "client_id": _ENTRY,
            "stop_client_id": _STOP,
            "decision_id": "concat('d-', toString(number * 20))",
            "verdict_id": "concat('v-', toString(number))",
            "leverage": "3",
            "reference_price": "100",
            "stop_price": "99",
        },
    ),
    *(
        _trade(
            "trade_orders",
            {"client_id": client, "purpose": purpose, "state": f"'{state}'", "side": side, "trigger_price": level},
            add,
        )
        for client, purpose, side, level in ((_ENTRY, "'ENTRY'", "'BUY'", "NULL"), (_STOP, "'STOP'", "'SELL'", "99"))
        for state, add in (("SENDING", "10"), ("ACKED", "20"), ("FILLED", _HOUR))
    ),
    _trade(
        "trade_fills",
        {"client_id": _ENTRY, "purpose": "'ENTRY'", "side": "'BUY'", "price": "100", "quantity": "1", "trade_id": "number"},
    ),
    _trade(
        "trade_fills",
        {"client_id": _STOP, "purpose": "'STOP'", "side": "'SELL'", "price": "99", "quantity": "1", "trade_id": "1000000 + number"},
        _HOUR,
    ),
    *(
        _trade(
            "trade_positions",
            _POSITION
            | {
                "entry_client_id": _ENTRY,
                "revision": revision,
                "k_offset": f"number + {revision} * 1000000",
                "status": status,
                "quantity": quantity,
                "entry_price": "100",
                "k_key": "concat('p-', toString(number))",
            },
            add,
        )
        for revision, status, quantity, add in (("1", "'OPEN'", "1", "0"), ("2", "'FLAT'", "0", _HOUR))
    ),
    _trade(
        "trade_closed",
        _POSITION
        | {
            "quantity": "1",
            "entry_price": "100",
            "exit_price": "99",
            "realized_pnl": "number % 7 - 3",
            "fees": "0.1",
            "exit_reason": "'STOP'",
            "opened_at": _at(TRADES),
            "closed_at": _at(TRADES, _HOUR),
            "entry_client_id": _ENTRY,
            "exit_client_id": _STOP,
        },
        _HOUR,
    ),
    _trade(
        "trade_exit_plans",
        _POSITION
        | {
            "plan_id": "concat('x-', toString(number))",
            "revision": "1",
            "profile": "'DEFAULT'",
            "entry_price": "100",
            "stop_price": "99",
            "stop_distance": "0.01",
            "k_key": "concat('p-', toString(number))",
        },
    ),
    _rows("account_snapshots", SNAPSHOTS, {"account": "'sim'", "equity": "10000 + number % 500", "wallet": "10000"}),
    _rows(
        "market_marks",
        MARKS,
        {
            "k_time": f"now64(3) - toIntervalSecond(toInt64({MARKS} - number))",
            "at": f"fromUnixTimestamp64Milli(toInt64({START_MS} + number * {DAYS_MS // MARKS}), 'UTC')",
            "marks": "arrayMap(n -> (concat('binance.usdm.SYM', toString(n), 'USDT'), 100., 100., 100., 100., 100., 0.0001, "
            "fromUnixTimestamp64Milli(toInt64(0), 'UTC'), NULL, NULL), range(10))",
        },
    ),
    _rows("market_candles", DECISIONS, _SYMBOL | {"interval": "'5m'", "c": "100 + number % 3"}),
    _rows(
        "signal_predictions",
        DECISIONS,
        _SYMBOL | {"model_version": "'m'", "p_up": "(number % 100) / 100", "horizon_bars": "3", "side": "'LONG'"},
    ),
    _rows("dead_letters", 1_000, {"stage": "'risk'", "topic": "'signal.decisions'", "error": "'Undecodable'"}),
)
"""In order; each is one statement."""
