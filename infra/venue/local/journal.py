"""The exchange's own log: every fill and every change of an order, as it happened, with market time and wall time.

It is also what the account is made of after a restart: wallet and positions are a fold of the fills, the books a
fold of the changes. A record is handed to the operating system before the request that caused it is answered, so a
killed process forgets nothing that it has told.

One JSON object a line: {"seq": 7, "wall": 1795231943.569, "t": 1767556754096, "k": "order|fill|algo|config|market", ...}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

from infra.venue.local.engine import Engine
from infra.venue.local.happenings import AlgoChanged, ConfigChanged, Fill, Happening, OrderChanged, StatusChanged
from infra.venue.local.orders import algo_from, order_from, order_row

Record = dict[str, Any]


class Journal:
    """Appends to a file (or only to memory) and keeps all records at hand."""

    def __init__(self, path: Path | None = None) -> None:
        self.records: list[Record] = _read(path) if path is not None else []
        self._file: IO[str] | None = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, kind: str, t: int, wall: float, body: Record) -> None:
        record = {"seq": len(self.records) + 1, "wall": round(wall, 3), "t": t, "k": kind, **body}
        self.records.append(record)
        if self._file is not None:
            self._file.write(json.dumps(record) + "\n")

    def tell(self, engine: Engine, happened: list[Happening], wall: float) -> None:
        for what in happened:
            match what:
                case OrderChanged():
                    if what.fill is not None:
                        self.write("fill", what.t, wall, fill_row(engine, what.fill))
                    self.write("order", what.t, wall, {"x": what.execution, "order": order_row(what.order)})
                case AlgoChanged():
                    self.write("algo", what.t, wall, {"algo": order_row(what.algo)})
                case ConfigChanged():
                    settings = {"symbol": what.symbol, "leverage": what.leverage, "margin_type": what.margin_type}
                    self.write("config", what.t, wall, settings)
                case StatusChanged():
                    self.write("status", what.t, wall, {"symbol": what.symbol, "status": what.status})
        self.flush()

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def fill_row(engine: Engine, fill: Fill) -> Record:
    symbol = engine.floor.symbols[fill.symbol]
    return {
        "symbol": fill.symbol,
        "trade_id": fill.id,
        "order_id": fill.order_id,
        "client_id": fill.client_id,
        "side": fill.side,
        "price": f"{fill.price * symbol.tick:f}",
        "qty": f"{fill.qty * symbol.step:f}",
        "ticks": fill.price,
        "steps": fill.qty,
        "maker": fill.maker,
        "fee": f"{fill.fee:f}",
        "realised": f"{fill.realised:f}",
    }


def _read(path: Path) -> list[Record]:
    """All whole lines; a line that was torn by a kill is cut off the file."""
    if not path.exists():
        return []
    records: list[Record] = []
    whole = 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                records.append(json.loads(line))
            except ValueError:
                break
            whole += len(line)
    with path.open("rb+") as file:
        file.truncate(whole)
    return records


def restore(engine: Engine, records: list[Record]) -> None:
    """Bring a fresh engine to the state that the records tell of."""
    floor = engine.floor
    for record in records:
        match record["k"]:
            case "order":
                floor.keep_order(order_from(record["order"]))
            case "algo":
                floor.keep_algo(algo_from(record["algo"]))
            case "config":
                position = floor.position(record["symbol"])
                position.leverage, position.margin_type = record["leverage"], record["margin_type"]
            case "status":
                floor.status[record["symbol"]] = record["status"]
            case "fill":
                symbol, ticks, steps, maker = record["symbol"], record["ticks"], record["steps"], record["maker"]
                realised, fee = floor.account.settle(symbol, record["side"], ticks, steps, maker, record["t"])
                fill = Fill(
                    id=record["trade_id"],
                    symbol=symbol,
                    order_id=record["order_id"],
                    client_id=record["client_id"],
                    side=record["side"],
                    price=ticks,
                    qty=steps,
                    maker=maker,
                    fee=fee,
                    realised=realised,
                    t=record["t"],
                )
                floor.fills[symbol].append(fill)
        floor.now = max(floor.now, record["t"])
    for order in floor.orders.values():
        if order.is_open:
            floor.resting[order.symbol].append(order)
    for algo in floor.algos.values():
        if algo.is_live:
            floor.armed[algo.symbol].append(algo)
    floor.order_id = max(floor.orders, default=floor.order_id)
    floor.algo_id = max(floor.algos, default=floor.algo_id)
