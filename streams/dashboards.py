"""Grafana dashboards as code: five boards, a line a panel. `python -m streams.chart --write` puts them into the chart.

Every metric named here must be exported by a worker: a test compares.
"""

from __future__ import annotations

from typing import Any, NamedTuple

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
COLUMNS, WIDTH, HEIGHT = 3, 8, 7
RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """`legend` as Grafana writes it. `worst`: from here on it is red. `number`: the newest value large, else lines over time."""

    title: str
    about: str
    query: str
    legend: str = ""
    unit: str = "short"
    worst: float | None = None
    number: bool = False


BOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "desk": (
        "Desk",
        (
            Panel("Equity", "Wallet and unrealised profit", "qt_account_equity_usdt", "USDT", "currencyUSD"),
            Panel(
                "Drawdown",
                "Percent below the highest of the window; the day's warns at 10",
                "max by (window) (qt_drawdown_pct)",
                "{{window}}",
                "percent",
                10,
            ),
            Panel("Emergency stop", "1 while it is engaged", "max(qt_emergency_brake)", "", "short", 1, True),
            Panel(
                "Breakers open",
                "By instrument: 1 open, 0.5 on trial",
                "max by (scope) (qt_breaker_open) or vector(0)",
                "{{scope}}",
                "short",
                1,
            ),
            Panel("Fills", "A second", f'sum(rate(qt_processed_total{{worker="positions", topic="trade.fills"}}{RATE}))', "fills"),
            Panel(
                "Decisions that reached risk",
                "A second",
                f'sum(rate(qt_processed_total{{topic="signal.decisions", worker="risk"}}{RATE}))',
            ),
            Panel(
                "Entries and exits",
                "Taken by execution, a second",
                f'sum by (topic) (rate(qt_processed_total{{worker="execution", topic=~"trade.entries|trade.exits"}}{RATE}))',
                "{{topic}}",
            ),
            Panel(
                "Orders that are not ours",
                "Seen on the exchange, left alone",
                "max(qt_account_foreign_orders)",
                "",
                "short",
                1,
                True,
            ),
        ),
    ),
    "protection": (
        "Protection",
        (
            Panel(
                "Positions without a stop",
                "By the guardian's own eyes",
                "max(qt_guardian_unprotected_positions)",
                "",
                "short",
                1,
                True,
            ),
            Panel(
                "Longest without a stop now", "Critical from 10 s on", "max(qt_guardian_unprotected_seconds)", "seconds", "s", 10
            ),
            Panel("Guardian looks", "A minute", "60 * deriv(qt_guardian_sweeps[2m])", "sweeps"),
            Panel(
                "Guardian acts",
                "Since its start",
                '{__name__=~"qt_guardian_stops_placed|qt_guardian_closes|qt_guardian_orphans_canceled|qt_guardian_failures"}',
                "{{__name__}}",
            ),
            Panel(
                "Positions that differ from our fills",
                "Critical after 30 s",
                "max(qt_account_positions_unexplained)",
                "",
                "short",
                1,
                True,
            ),
            Panel(
                "Age of the last comparison with the exchange",
                "Warns from 60 s on",
                "max(qt_account_equality_age_seconds)",
                "age",
                "s",
                60,
            ),
            Panel(
                "From a fill to its stop",
                "The newest and the worst, by the guardian's eyes",
                '{__name__=~"qt_guardian_fill_to_stop_seconds|qt_guardian_fill_to_stop_worst_seconds"}',
                "{{__name__}}",
                "s",
                3,
            ),
            Panel(
                "Unprotected, seconds times notional",
                "Since the guardian's start",
                "max(qt_guardian_unprotected_seconds_notional)",
                "USDT s",
            ),
            Panel("Corrections", "Since the start", "sum(qt_account_corrections)", "corrections"),
        ),
    ),
    "pipeline": (
        "Pipeline",
        (
            Panel("Records applied", "A second, by worker", f"sum by (worker) (rate(qt_processed_total{RATE}))", "{{worker}}"),
            Panel(
                "Calls to the exchange",
                "Mean time of an answer, by what was asked; warns from a second on",
                f"sum by (verb) (rate(qt_venue_call_seconds_sum{RATE}))"
                f" / sum by (verb) (rate(qt_venue_call_seconds_count{RATE}) > 0)",
                "{{verb}}",
                "s",
                1,
            ),
            Panel("Lag", "Records not applied yet", "sum by (worker) (qt_lag_records)", "{{worker}}", "short", 20_000),
            Panel(
                "Behind the log",
                "Age of the newest applied record while later ones wait",
                "max by (worker) (qt_behind_seconds)",
                "{{worker}}",
                "s",
                5,
            ),
            Panel("Silence of the exchange", "On the market stream", "max(qt_market_feed_age_seconds)", "silent", "s", 10),
            Panel("Trades", "A second", "deriv(qt_market_trades[2m])", "trades"),
            Panel(
                "Trades late, twice, backfilled",
                "Since the start",
                '{__name__=~"qt_market_trades_late|qt_market_trades_duplicate|qt_market_trades_backfilled|qt_market_holes"}',
                "{{__name__}}",
            ),
            Panel(
                "Dead letters",
                "In the last hour",
                "sum by (worker) (increase(qt_dead_letters_total[1h]))",
                "{{worker}}",
                "short",
                1,
            ),
            Panel(
                "Gaps closed",
                "Records brought back, in the last hour",
                "sum by (worker) (increase(qt_recovered_records_total[1h]))",
                "{{worker}}",
            ),
            Panel(
                "Age of committed offsets", "Warns from 60 s on", "max by (worker) (qt_commit_age_seconds)", "{{worker}}", "s", 60
            ),
        ),
    ),
    "models": (
        "Models",
        (
            Panel("Versions held", "By role", "max by (version, role) (qt_model_info)", "{{version}} {{role}}"),
            Panel(
                "Vectors answered",
                "A second, by version",
                f"sum by (version) (rate(qt_model_predictions_total{RATE}))",
                "{{version}}",
            ),
            Panel(
                "Time of a run",
                "Mean",
                f"sum(rate(qt_model_latency_seconds_sum{RATE})) / sum(rate(qt_model_latency_seconds_count{RATE}))",
                "mean",
                "s",
                0.1,
            ),
            Panel("Last signals", "By side; more than 70 % on one side block it", "max by (side) (qt_model_signals)", "{{side}}"),
            Panel(
                "Entries blocked by the supervisor",
                "By reason, since the start",
                "sum by (reason) (qt_model_entries_blocked_total) or vector(0)",
                "{{reason}}",
                "short",
                1,
            ),
            Panel(
                "Versions refused",
                "By reason, since the start",
                "sum by (reason) (qt_model_refused_total) or vector(0)",
                "{{reason}}",
                "short",
                1,
            ),
        ),
    ),
    "workers": (
        "Workers",
        (
            Panel("Up", "1: answers its scrape", 'up{job="quantum-trader"}', "{{instance}}"),
            Panel(
                "Age of the process",
                "A step down is a restart",
                'time() - process_start_time_seconds{job="quantum-trader"}',
                "{{instance}}",
                "s",
            ),
            Panel("Memory", "Resident", 'process_resident_memory_bytes{job="quantum-trader"}', "{{instance}}", "bytes", 1e9),
            Panel("CPU", "Cores", f'rate(process_cpu_seconds_total{{job="quantum-trader"}}{RATE})', "{{instance}}"),
            Panel(
                "State flush",
                "Mean",
                f"sum by (worker) (rate(qt_flush_seconds_sum{RATE})) / sum by (worker) (rate(qt_flush_seconds_count{RATE}))",
                "{{worker}}",
                "s",
                0.5,
            ),
            Panel("Deliveries under way", "Not acknowledged yet", "sum by (worker) (qt_pending_deliveries)", "{{worker}}"),
            Panel("States held", "Keys", "sum by (worker) (qt_keys)", "{{worker}}"),
        ),
    ),
}


def dashboards() -> dict[str, Any]:
    """Grafana's JSON by name."""
    return {name: _board(name, title, panels) for name, (title, panels) in BOARDS.items()}


def queries() -> list[str]:
    return [panel.query for _, panels in BOARDS.values() for panel in panels]


def _board(name: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    return {
        "uid": f"quantum-{name}",
        "title": f"Quantum Trader: {title}",
        "tags": ["quantum-trader"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(place, panel) for place, panel in enumerate(panels)],
    }


def _panel(place: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(place, COLUMNS)
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.worst is not None:
        steps.append({"color": "red", "value": panel.worst})
    custom = {} if panel.number or panel.worst is None else {"custom": {"thresholdsStyle": {"mode": "line"}}}
    return {
        "id": place + 1,
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}, **custom},
            "overrides": [],
        },
        "targets": [{"refId": "A", "datasource": SOURCE, "expr": panel.query, "legendFormat": panel.legend or "__auto"}],
    }
