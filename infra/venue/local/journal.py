"""The exchange's own log: every fill and every change of an order, as it happened, with market time and wall time.

It is also what the account is made of after a restart: wallet and positions are a fold of the fills, the books a
fold of the changes. A record is handed to the operating system before the request that caused it is answered, so a
killed process forgets nothing that it has told.

One JSON object a line: {"seq": 7, "wall": 1795231943.569, "t": 1767556754096, "k": "order|fill|algo|booked|config|market", ...}
"""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from infra.venue.local.engine import Engine
from infra.venue.local.floor import amendment
from infra.venue.local.happenings import (
    AlgoChanged,
    Booked,
    ConfigChanged,
    Fill,
    FundingSettled,
    Happening,
    ModeChanged,
    OrderChanged,
    StatusChanged,
)
from infra.venue.local.orders import algo_from, order_from, order_row
from infra.venue.local.spot import orders as spot
from infra.venue.local.spot.orders import ListChanged, SpotChanged

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
                case Booked():
                    row = {"symbol": what.symbol, "kind": what.kind, "amount": f"{what.amount:f}", "side": what.position_side}
                    self.write("booked", what.t, wall, row)
                case FundingSettled():
                    self.write("funding", what.t, wall, {"symbol": what.symbol, "rate": f"{what.rate:f}", "mark": f"{what.mark:f}"})
                case ModeChanged():
                    self.write("mode", what.t, wall, {"dual": what.dual})
                case StatusChanged():
                    self.write("status", what.t, wall, {"symbol": what.symbol, "status": what.status})
                case SpotChanged():
                    if what.fill is not None:
                        self.write("spot-fill", what.t, wall, {"fill": spot.row_of(what.fill)})
                    self.write(
                        "spot-order", what.t, wall, {"x": what.execution, "n": what.number, "order": spot.row_of(what.order)}
                    )
                case ListChanged():
                    self.write("spot-list", what.t, wall, {"list": spot.row_of(what.list)})
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
        "position_side": fill.position_side,
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
                order = order_from(record["order"])
                if record["x"] == "AMENDMENT":
                    floor.amendments.append(amendment(floor.orders[order.id], order))
                floor.keep_order(order)
            case "algo":
                floor.keep_algo(algo_from(record["algo"]))
            case "config":
                floor.account.configure(record["symbol"], record["leverage"], record["margin_type"])
            case "mode":
                floor.account.dual = record["dual"]
            case "funding":
                settled = FundingSettled(record["symbol"], Decimal(record["rate"]), Decimal(record["mark"]), record["t"])
                floor.fundings[record["symbol"]].append(settled)
            case "booked":
                _book(engine, record)
            case "status":
                floor.status[record["symbol"]] = record["status"]
            case "spot-order":
                engine.spot.restore_order(spot.order_from(record["order"]), record["n"])
            case "spot-fill":
                engine.spot.restore_fill(spot.fill_from(record["fill"]))
            case "spot-list":
                engine.spot.restore_list(spot.list_from(record["list"]))
            case "fill":
                symbol, ticks, steps, maker = record["symbol"], record["ticks"], record["steps"], record["maker"]
                leg = record.get("position_side", "BOTH")
                given = Decimal(record["fee"])
                realised, fee = floor.account.settle(symbol, record["side"], ticks, steps, maker, record["t"], leg, given)
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
                    position_side=leg,
                )
                floor.fills[symbol].append(fill)
        floor.now = max(floor.now, record["t"])
    for order in floor.orders.values():
        if order.is_open:
            floor.resting[order.symbol].append(order)
    for algo in floor.algos.values():
        if algo.is_live:
            floor.armed[algo.symbol].append(algo)
    engine.spot.restored()
    floor.order_id = max(floor.orders, default=floor.order_id)
    floor.algo_id = max(floor.algos, default=floor.algo_id)


def _book(engine: Engine, record: Record) -> None:
    floor = engine.floor
    symbol, kind, side, t = record["symbol"], record["kind"], record["side"], record["t"]
    amount = Decimal(record["amount"])
    position = floor.position(symbol, side)
    if kind == "MARGIN":
        floor.account.bind(position, amount, t)
    else:
        floor.account.book(None if kind == "INSURANCE_CLEAR" else position, amount, t)
    floor.booked.append(Booked(symbol, kind, amount, side, t, len(floor.booked) + 1))
