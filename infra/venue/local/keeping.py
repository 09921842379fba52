"""What survives a restart, in one directory: the market's place, its candles, and the log that the account is made of.

- market.json: where the market stood (time, next trade ids, open minutes), how far trailing stops had followed it and who
  stood before each resting order; swapped in whole each second and at the end
- market.time: how far market time has been told to anybody, overwritten before each telling
- candles.jsonl: closed minutes of the live part, appended
- trades.bin: the tapes, appended, so that who was away can ask for all that he has missed
- journal.jsonl: the exchange's own log (see journal.py), appended before anything is answered

The sources are deterministic and a fill is logged before it is told, so even a killed exchange goes on exactly: the market
passes again, in silence, from market.json to market.time, with the same trade ids and candles.
"""

from __future__ import annotations

import fcntl
import json
import os
import struct
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final

from infra.errors import UserError
from infra.venue.local.klines import MINUTE_MS, Candle
from infra.venue.local.market.base import Trade
from infra.venue.local.tape import KEPT

VERSION: Final = 1
FILES: Final = ("market.json", "market.time", "candles.jsonl", "trades.bin", "journal.jsonl")
TRADE: Final = struct.Struct("<HqqqqB")
"""Place of the symbol in the market's list, id, time, price, quantity, whether the buyer is the maker."""

Traded = tuple[int, int, int, int, bool]
"""(id, time, price, quantity, buyer is maker), ids without holes."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Where the market stands."""

    market_t: int
    next_ids: dict[str, int]
    current: dict[str, Candle]
    shift: dict[str, int]
    followed: dict[int, tuple[Decimal, bool]]  # trailing stop -> the best price, whether it follows yet
    queues: dict[int, int]  # order -> steps before it


@dataclass(frozen=True, slots=True)
class Kept(Stand):
    """Where it stood, and what had been appended until then."""

    minutes: dict[str, list[Candle]]
    trades: dict[str, deque[Traded]]


class Keeper:
    """`identity` says which market this directory belongs to: another one is refused."""

    def __init__(self, directory: Path, identity: dict[str, Any], *, fresh: bool = False) -> None:
        self.directory = directory
        self.identity = identity
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / "lock").open("w")
            self._take_lock()
            if fresh:
                for name in FILES:
                    (directory / name).unlink(missing_ok=True)
            self.kept = self._load()
            self._candles: IO[str] = (directory / "candles.jsonl").open("a", encoding="utf-8")
            self._trades: IO[bytes] = (directory / "trades.bin").open("ab")
            self._time = os.open(directory / "market.time", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as problem:
            why = problem.strerror or str(problem)
            raise UserError(f"the exchange cannot use {directory}", why, "choose another --data-dir") from problem

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            what, why = f"the exchange cannot use {self.directory}", "another exchange is using it"
            raise UserError(what, why, "stop that one or choose another --data-dir") from None

    @property
    def told_t(self) -> int:
        """How far market time has been told; 0 in a new directory."""
        text = os.pread(self._time, 20, 0)
        return int(text) if text.isdigit() else 0

    def tell_time(self, market_t: int) -> None:
        os.pwrite(self._time, b"%020d" % market_t, 0)

    @property
    def journal_path(self) -> Path:
        return self.directory / "journal.jsonl"

    def _load(self) -> Kept | None:
        path = self.directory / "market.json"
        if not path.exists():
            for name in FILES:  # a log without its market says nothing
                (self.directory / name).unlink(missing_ok=True)
            return None
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            known = state["version"] == VERSION
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise UserError(f"{path} cannot be read", "it is damaged or of another version", "start with --fresh")
        if state["market"] != self.identity:
            held, asked = state["market"], self.identity
            differ = [f"{key} is {held.get(key)} there and {asked[key]} here" for key in asked if held.get(key) != asked[key]]
            why = "; ".join(differ)
            raise UserError(f"{self.directory} belongs to another market", why, "start with --fresh or another --data-dir")
        market_t = int(state["market_t"])
        minutes = self._minutes(market_t)
        current = {name: Candle.from_row(row) for name, row in state["current"].items()}
        followed = {int(number): (Decimal(best), active) for number, (best, active) in state.get("followed", {}).items()}
        queues = {int(number): ahead for number, ahead in state.get("queues", {}).items()}
        next_ids: dict[str, int] = state["next_ids"]
        shift = state.get("shift", {})
        return Kept(market_t, next_ids, current, shift, followed, queues, minutes, self._tapes(next_ids))

    def _minutes(self, until_t: int) -> dict[str, list[Candle]]:
        """Closed minutes up to the kept time; what was appended after it is cut off."""
        path = self.directory / "candles.jsonl"
        minutes: dict[str, list[Candle]] = {}
        good: list[str] = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                name, row = json.loads(line)
            except ValueError:
                break
            candle = Candle.from_row(row)
            if candle.open_t + MINUTE_MS <= until_t:
                minutes.setdefault(name, []).append(candle)
                good.append(line)
        path.write_text("".join(line + "\n" for line in good), encoding="utf-8")
        return minutes

    def _tapes(self, next_ids: dict[str, int]) -> dict[str, deque[Traded]]:
        """The newest trades before `next_ids`; what was appended after them is cut off, and what is older than the tape too."""
        path = self.directory / "trades.bin"
        raw = path.read_bytes() if path.exists() else b""
        names = list(next_ids)
        tapes: dict[str, deque[Traded]] = {name: deque(maxlen=KEPT) for name in names}
        whole = kept = 0
        for place, trade_id, t, price, qty, maker in TRADE.iter_unpack(raw[: len(raw) - len(raw) % TRADE.size]):
            if place >= len(names) or trade_id >= next_ids[names[place]]:
                break
            tapes[names[place]].append((trade_id, t, price, qty, bool(maker)))
            whole += 1
        for name, tape in tapes.items():
            if tape and tape[-1][0] != next_ids[name] - 1:  # a file that lacks its end says nothing
                tape.clear()
            kept += len(tape)
        if kept == whole:
            if path.exists():
                os.truncate(path, whole * TRADE.size)
        else:
            rows = (TRADE.pack(place, *trade) for place, name in enumerate(names) for trade in tapes[name])
            path.write_bytes(b"".join(rows))
        return tapes

    def trade(self, place: int, trade_id: int, trade: Trade) -> None:
        self._trades.write(TRADE.pack(place, trade_id, trade.t, trade.price, trade.qty, trade.buyer_is_maker))

    def minute(self, name: str, candle: Candle) -> None:
        self._candles.write(json.dumps([name, candle.row()]) + "\n")

    def save(self, stand: Stand) -> None:
        self._candles.flush()
        self._trades.flush()
        state = {
            "version": VERSION,
            "market": self.identity,
            "market_t": stand.market_t,
            "next_ids": stand.next_ids,
            "current": {name: candle.row() for name, candle in stand.current.items()},
            "shift": stand.shift,
            "followed": {number: (str(best), active) for number, (best, active) in stand.followed.items()},
            "queues": stand.queues,
        }
        path = self.directory / "market.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(state), encoding="utf-8")
        os.replace(draft, path)

    def close(self) -> None:
        self._candles.close()
        self._trades.close()
        os.close(self._time)
        self._lock.close()
