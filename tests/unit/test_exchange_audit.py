"""The exchange's judgement over its own log: when was a position open, and when was it without a stop."""

from __future__ import annotations

from typing import Any

from infra.venue.local.audit import audit


class Log:
    """Records as the journal writes them; wall seconds, market time a hundred times as fast."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.numbers = 0

    def _write(self, wall: float, body: dict[str, Any]) -> None:
        self.records.append({"seq": len(self.records) + 1, "wall": wall, "t": int(wall * 100_000), **body})

    def fill(self, wall: float, side: str, steps: int, client_id: str = "", algo_id: int = 0) -> None:
        self.numbers += 1
        number = self.numbers
        self._write(wall, {"k": "fill", "symbol": "BTCUSDT", "side": side, "steps": steps, "order_id": number})
        order = {"id": number, "client_id": client_id or f"o-{number}", "algo_id": algo_id}
        self._write(wall, {"k": "order", "x": "TRADE", "order": order})

    def stop(
        self, wall: float, number: int, status: str = "NEW", *, side: str = "SELL", qty: int = 0, kind: str = "STOP_MARKET"
    ) -> None:
        algo = {
            "id": number,
            "client_id": f"s-{number}",
            "symbol": "BTCUSDT",
            "type": kind,
            "side": side,
            "qty": qty,
            "status": status,
            "trigger": "95000.0",
            "working_type": "MARK_PRICE",
            "close_position": qty == 0,
            "reduce_only": qty > 0,
        }
        self._write(wall, {"k": "algo", "algo": algo})


def judge(log: Log, now: float) -> dict[str, Any]:
    return audit(log.records, now, int(now * 100_000))


def test_the_time_from_the_fill_to_the_stop_is_unprotected() -> None:
    log = Log()
    log.fill(10.0, "BUY", 5)
    log.stop(10.5, 1)
    log.fill(20.0, "SELL", 5)
    found = judge(log, 30.0)
    assert found["unprotected_worst_s"] == 0.5
    assert found["unprotected_worst_market_s"] == 50.0
    assert found["first_protected_wall"] == 10.5
    assert (found["opened"], found["closed"], found["open"], found["fills"]) == (1, 1, [], 2)


def test_a_position_that_never_had_a_stop_is_unprotected_until_now() -> None:
    log = Log()
    log.fill(10.0, "SELL", 5)
    log.stop(10.1, 1, side="SELL")  # the wrong side
    log.stop(10.1, 2, side="BUY", kind="TAKE_PROFIT_MARKET")
    found = judge(log, 14.0)
    assert found["unprotected_worst_s"] == 4.0
    assert found["first_protected_wall"] is None
    assert [(row["symbol"], row["steps"], row["protected"]) for row in found["open"]] == [("BTCUSDT", -5, False)]


def test_quantity_stops_protect_when_together_they_cover_the_position() -> None:
    log = Log()
    log.fill(10.0, "BUY", 5)
    log.stop(11.0, 1, qty=3)
    log.stop(12.0, 2, qty=2)
    log.fill(13.0, "BUY", 1)
    log.stop(14.0, 3)
    assert judge(log, 20.0)["unprotected_worst_s"] == 3.0  # 10-12 and 13-14


def test_a_stop_that_ends_leaves_the_position_naked_until_the_next() -> None:
    log = Log()
    log.stop(9.0, 1)
    log.fill(10.0, "BUY", 5)
    log.stop(15.0, 1, "CANCELED")
    log.stop(15.25, 2)
    found = judge(log, 20.0)
    assert found["unprotected_worst_s"] == 0.25
    assert found["first_protected_wall"] == 10.0


def test_a_flip_ends_one_episode_and_begins_another() -> None:
    log = Log()
    log.fill(10.0, "BUY", 5)
    log.fill(11.0, "SELL", 8)
    found = judge(log, 13.0)
    assert [(e["side"], e["unprotected_s"]) for e in found["episodes"]] == [("LONG", 1.0), ("SHORT", 2.0)]
    assert found["unprotected_worst_s"] == 2.0


def test_a_client_id_used_twice_shows_and_a_child_is_its_parents() -> None:
    log = Log()
    log.fill(10.0, "BUY", 5, "e-1")
    log.stop(10.0, 1)
    log.fill(11.0, "SELL", 5, "s-1", algo_id=1)
    assert judge(log, 12.0)["orders_by_client_id_max"] == 1
    log.fill(12.0, "BUY", 5, "e-1")
    found = judge(log, 12.0)
    assert found["orders_by_client_id_max"] == 2
    assert found["doubled_client_ids"] == ["e-1"]


def test_what_had_ended_before_a_run_is_not_counted_in_it() -> None:
    log = Log()
    log.fill(10.0, "BUY", 5)
    log.stop(10.5, 1)
    log.fill(20.0, "SELL", 5)
    log.stop(20.0, 1, "EXPIRED")
    log.fill(30.0, "BUY", 5)
    log.stop(30.25, 2)
    found = audit(log.records, 40.0, 4_000_000, since_wall=25.0)
    assert (found["opened"], found["closed"], found["first_protected_wall"]) == (1, 0, 30.25)
    assert found["unprotected_worst_s"] == 0.25
