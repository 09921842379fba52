"""The scenarios, each as data (what happens, what must hold) and as a small function. docs/scenarios.md tells the same to people.

Every one has an instrument of its own, and most stand side by side. ALONE are those that befall the whole account or a process.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from processors import order_ids
from schemas import topics
from schemas.ids import Purpose
from schemas.trading import OrderType
from streams.bench.matrix.exchange import START_T
from streams.bench.scenarios.scene import Missed, Scene, flatten
from streams.bench.scenarios.street import SPEED, STEP
from streams.brake_commands import reset

D = Decimal
Play = Callable[[Scene], None]


class Scenario(NamedTuple):
    name: str
    what: str
    holds: str
    play: Play
    alone: bool


SCENARIOS: list[Scenario] = []


def scenario(name: str, what: str, holds: str, *, alone: bool = False) -> Callable[[Play], Play]:
    def add(play: Play) -> Play:
        SCENARIOS.append(Scenario(name, what, holds, play, alone))
        return play

    return add


# -- the call


@scenario("stop passed before the entry goes", "the entry's stop lies above the mark", "it is abandoned: nothing is bought")
def stop_passed_before(s: Scene) -> None:
    s.enter(reference_price=D(103), stop_price=D(102))
    s.must(lambda: bool(s.attempts(Purpose.ENTRY, "ABANDONED")), "the entry is abandoned")
    s.keeps(lambda: not s.bought(), "nothing is bought", 1)


@scenario(
    "stop would trigger now",
    "the mark falls below the stop while the entry is sent: -2021",
    "it is closed at once, by whoever is first",
)
def stop_would_trigger_now(s: Scene) -> None:
    s.fault("POST order", "late", delay_s=1.0)
    s.enter()
    s.must(lambda: bool(s.attempts(Purpose.ENTRY, "SENDING")), "the entry is on its way")
    s.shock(-3)
    s.flat()
    s.left_for("STOP_PASSED", "GUARDIAN")


@scenario("-1007, then a late accept", "the entry is answered -1007 and taken a second later", "one order, with its stop")
def taken_late(s: Scene) -> None:
    s.fault("POST order", "late-1007", delay_s=1.0)
    s.opened()
    s.keeps(lambda: s.bought() == 1, "one order", 3)


@scenario("-1007, then never", "the entry is answered -1007 and not taken", "proven absent, sent once more: one order")
def never_taken(s: Scene) -> None:
    s.fault("POST order", "refuse-1007")
    s.opened()
    assert_(max(o["attempt"] for o in s.attempts(Purpose.ENTRY, "SENDING")) == 2, "two attempts")
    s.keeps(lambda: s.bought() == 1, "one order", 1)


@scenario("duplicate client id", "the entry is taken and answered -4116", "one order: the answer proves that it is there")
def duplicate_client_id(s: Scene) -> None:
    s.fault("POST order", "accept-then-4116")
    s.opened()
    s.keeps(lambda: s.bought() == 1, "one order", 1)


@scenario("-1111", "the stop is answered: too many decimals, twice", "the stop is placed within the time for a stop")
def too_many_decimals(s: Scene) -> None:
    s.fault("POST algoOrder", "refuse-1111", count=2)
    s.opened()


@scenario("429", "the stop is answered 429, twice", "the stop is placed within the time for a stop")
def too_many_requests(s: Scene) -> None:
    s.fault("POST algoOrder", "429", count=2)
    s.opened()


@scenario(
    "418", "the close meets a ban of the whole address for 2 s", "the net rests meanwhile; closed when the ban is over", alone=True
)
def banned(s: Scene) -> None:
    s.opened()
    s.fault("POST order", "418", retry_after_s=2)
    s.close()
    s.must(lambda: not s.net or bool(s.nets), "the net rests while it is open")
    s.flat()


@scenario("503 on a close", "the close is taken, and answered 503 Unknown error", "closed once: nothing is opened the other way")
def blind_close(s: Scene) -> None:
    s.opened()
    s.fault("POST order", "accept-then-503")
    s.close()
    s.flat()
    s.keeps(lambda: not s.net, "flat", 2)


@scenario(
    "PERCENT_PRICE refuses",
    "the close is refused twice: the book is too far from the mark",
    "the net rests; closed when there is a book",
)
def percent_price(s: Scene) -> None:
    s.opened()
    s.fault("POST order", "refuse-4131", count=2)
    s.close()
    s.must(lambda: bool(s.attempts(Purpose.CLOSE, "REFUSED")), "it is refused")
    assert_(bool(s.nets), "the net rests meanwhile")
    s.flat()


@scenario(
    "-4118 with TP resting",
    "another hand's take-profit takes up all of the position: whatever reduces is refused, -4118",
    "the net rests; a close cancels what stands in its way",
)
def full_ladder(s: Scene) -> None:
    s.trade("BUY", "1.00")
    s.street.take_profit(s.symbol, "1.00", "104.00")
    s.must(lambda: bool(s.nets), "the net rests")
    s.must(lambda: bool(s.said(topics.TRADE_EXIT_PLANS)), "it has a plan")
    s.close()
    s.flat()
    assert_(any(o["error_code"] == -4118 for o in s.said(topics.TRADE_ORDERS)), "the exchange has said -4118")


@scenario(
    "reduce-only trimmed",
    "another hand has sold 0.60 of 1.00, untold yet, when the close comes",
    "the exchange trims it to 0.40: flat, not short",
)
def trimmed(s: Scene) -> None:
    s.opened()
    s.fault("ORDER_TRADE_UPDATE", "event-delay", delay_s=2.0, count=2)
    s.trade("SELL", "0.60")
    s.close()
    s.flat()
    [close] = [o for o in s.orders(live=False) if o["client_id"].startswith("x-") and o["filled"]]
    assert_(close["qty"] * STEP == D("0.40"), f"the close has {close['qty'] * STEP}")
    s.keeps(lambda: not s.net, "flat", 1)


@scenario(
    "minimum notional at the stop's price",
    "0.05 at 100 is worth 5, at the stop less than the smallest order",
    "the net rests, and its trigger closes all of it",
)
def small(s: Scene) -> None:
    s.opened("0.05")
    s.shock(-3)
    s.flat()
    s.left_for("STOP", "GUARDIAN")


# -- what is heard


@scenario("fill before its ack", "the entry's answer takes 6 s, its fill comes at once", "the stop waits for no answer")
def fill_first(s: Scene) -> None:
    s.fault("POST order", "delay", delay_s=6.0)
    s.enter()
    s.must(lambda: s.net == 1, "it fills")
    s.must(lambda: bool(s.nets), "its stop rests", 5)
    s.settled()


@scenario("fill before ALGO_UPDATE", "the stop's fill is told 2 s before its trigger", "one round trip, no second close")
def fill_before_trigger(s: Scene) -> None:
    s.opened()
    s.fault("ALGO_UPDATE", "event-delay", delay_s=2.0, count=3)
    s.shock(-3)
    s.flat()
    s.left_for("STOP", "GUARDIAN")
    s.keeps(lambda: not s.net, "flat", 3)


@scenario("new order id at the trigger", "a stop becomes an order with an id of its own", "the fill is known as the stop's")
def new_order_id(s: Scene) -> None:
    s.opened()
    [net] = s.nets
    s.shock(-3)
    s.flat()
    s.left_for("STOP", "GUARDIAN")
    assert_(s.trips[-1]["exit_client_id"] == net["client_id"], "left by the net's client id")
    [fill] = [f for f in s.said(topics.TRADE_FILLS) if f["side"] == "SELL"]
    assert_(fill["order_id"] != str(net["id"]), f"order {fill['order_id']}")


@scenario(
    "-2013 for a living stop, 30 min",
    "the stop's answer is lost, and for 30 market minutes the exchange denies to know it",
    "one stop rests, never none and never two",
)
def denied(s: Scene) -> None:
    s.fault("POST algoOrder", "accept-then-drop")
    wanted = s.entry()
    for n in range(1, order_ids.MAX_ATTEMPTS + 1):
        name = order_ids.attempt_id(wanted.stop_client_id, n)
        s.fault("GET algoOrder", "refuse-2013", for_market_s=1800, only=name)
    s.street.write(wanted)
    s.must(lambda: bool(s.nets), "the stop rests")
    s.keeps(lambda: len(s.algos()) == 1 and bool(s.nets), "one stop rests", 1800 / SPEED + 1)
    s.must(lambda: s.laddered == s.net, "a ladder rests")


@scenario(
    "open algo list empty",
    "for 8 s the exchange's lists leave the stop out",
    "what is placed beside it, is placed once; the net rests",
)
def left_out(s: Scene) -> None:
    s.opened()
    s.tell("faults", route="GET openAlgoOrders", kind="hide", only=s.symbol, for_s=8)
    s.trade("BUY", "0.10")
    s.keeps(lambda: bool(s.nets) and len(s.algos()) <= 2, "the net, and at most one more", 11)


@scenario(
    "WS silent with heartbeats",
    "the user stream answers pings and tells nothing",
    "the account asks, the position gets its stop",
    alone=True,
)
def silent(s: Scene) -> None:
    s.tell("faults", kind="ws-half-open", route="user")
    s.opened()
    s.must(lambda: bool(s.said(topics.ACCOUNT_CORRECTIONS)), "it is told that something was missed")


@scenario("one fill frame lost", "the stream loses the entry's fill", "found by asking, told as a correction; the stop rests")
def fill_lost(s: Scene) -> None:
    s.fault("ORDER_TRADE_UPDATE", "event-drop", count=2)
    s.opened()
    s.must(lambda: any(c["kind"] == "FILLS_MISSED" for c in s.said(topics.ACCOUNT_CORRECTIONS)), "the correction is told")


@scenario(
    "listen key expires", "the user stream ends while an entry is under way", "heard on the next stream; the stop rests", alone=True
)
def key_expired(s: Scene) -> None:
    s.tell("faults", kind="listen-key-expired")
    s.opened()


@scenario("duplicate fills, REST and WS", "a fill is found by asking, then told by the stream after all", "it counts once")
def told_twice(s: Scene) -> None:
    s.fault("ORDER_TRADE_UPDATE", "event-delay", delay_s=7.0, count=2)
    s.opened()
    s.keeps(lambda: len(s.said(topics.TRADE_FILLS)) == len({f["trade_id"] for f in s.said(topics.TRADE_FILLS)}), "each once", 7)


# -- the position changes under us


@scenario(
    "partial entry, then the stop",
    "0.40 of 1.00 fill, the rest rests; the stop triggers",
    "the rest is withdrawn: flat",
    alone=True,
)
def partial(s: Scene) -> None:
    def before_the_mark() -> bool:
        """The market stands still between a quote, which would fill the rest, and the mark."""
        phase: float = (s.street.control("GET", "state")["market_t"] - START_T) % (1000 * SPEED)
        return 100 < phase < 300 * SPEED

    s.tell("liquidity", symbol=s.symbol, most="0.40")
    s.must(before_the_mark, "a quote has come, its mark has not")
    s.tell("pause")
    try:
        s.enter(order_type=OrderType.LIMIT, limit_price=D("100.01"))
        s.must(lambda: s.net == D("0.40") and bool(s.nets), "a part fills, and the net rests")
        s.tell("liquidity", symbol=s.symbol)
        s.shock(-3)
    finally:
        s.tell("resume")
    s.flat(30)
    s.must(lambda: s.position() == 0, "flat by the log too")
    s.keeps(lambda: not s.net, "flat", 1)


@scenario(
    "TP1 fills, the stop follows", "the first take-profit takes 0.30 of 1.00", "a stop at break-even over 0.70, the net behind it"
)
def first_profit(s: Scene) -> None:
    s.opened()
    s.climb()
    s.must(lambda: s.net == D("0.70"), "the first rung fills")
    s.must(lambda: [f["qty"] * STEP for f in s.fronts] == [D("0.70")] and bool(s.nets), "a stop over what is left")
    s.must(lambda: s.laddered == D("0.70"), "and a ladder")


@scenario("external close", "another hand closes it", "everything of it is gone; left for FOREIGN")
def closed_outside(s: Scene) -> None:
    s.opened()
    s.trade("SELL", "1.00")
    s.flat()
    s.left_for("FOREIGN")


@scenario("external reduction", "another hand sells 0.50", "the ladder sells at most what is left; the net rests")
def reduced_outside(s: Scene) -> None:
    s.opened()
    s.trade("SELL", "0.50")
    s.must(lambda: s.laddered == D("0.50") and bool(s.nets), "a ladder over 0.50")


@scenario("side flip within 10 s", "another hand sells 2.00: LONG becomes SHORT", "a stop that buys, no order that sells")
def flipped(s: Scene) -> None:
    s.opened()
    s.trade("SELL", "2.00")
    s.must(lambda: s.net == -1 and bool(s.nets), "the short has a stop", 8)
    s.must(lambda: not [a for a in s.algos() if a["side"] == "SELL"], "nothing sells at a trigger")
    s.must(lambda: not [o for o in s.orders() if o["side"] == "SELL"], "nothing sells")


@scenario(
    "liquidation",
    "in steps: the exchange takes 0.30, then the rest",
    "flat, left for LIQUIDATION, the breaker open",
)
def liquidated(s: Scene) -> None:
    s.opened()
    s.tell("autoclose", symbol=s.symbol, quantity="0.30", by="LIQUIDATION")
    s.must(lambda: s.laddered == D("0.70") and bool(s.nets), "what is left is covered")
    s.tell("autoclose", symbol=s.symbol, quantity="0.70", by="LIQUIDATION")
    s.flat()
    s.left_for("LIQUIDATION")
    s.must(lambda: "breaker, PROTECTION_LOST" in s.alarms, "the breaker is open")


@scenario("ADL", "the exchange delevers the position by 0.40", "the net rests, the ladder sells at most what is left")
def delevered(s: Scene) -> None:
    s.opened()
    s.tell("autoclose", symbol=s.symbol, quantity="0.40", by="ADL")
    s.must(lambda: s.net == D("0.60") and s.laddered == D("0.60") and bool(s.nets), "what is left is covered")


# -- processes and modes


@scenario(
    "restart between a stop's placing and its predecessor's cancel",
    "trailing: the next stop rests, the cancel hangs; exits and execution are killed",
    "a stop rests all the time; in the end one before the net",
    alone=True,
)
def killed_mid_trail(s: Scene) -> None:
    s.opened()
    s.climb()
    s.must(lambda: len(s.fronts) == 1 and s.fronts[0]["qty"] * STEP == D("0.70"), "a stop before the net")
    s.fault("DELETE algoOrder", "refuse-503", for_s=8)
    s.shock(0.8)
    s.must(lambda: len(s.fronts) == 2, "the next stop rests beside its predecessor")
    for name in ("exits", "execution"):
        s.street.worker(name).kill()
    s.keeps(lambda: bool(s.fronts) and bool(s.nets), "stops rest", 3)
    s.must(lambda: len(s.fronts) == 1 and bool(s.nets), "one stop before the net", 30)


@scenario(
    "hedge instead of one-way mode",
    "the account's mode is changed under us",
    "entries are refused, what another hand opens is an alarm; back in one-way mode all goes on",
    alone=True,
)
def hedged(s: Scene) -> None:
    flatten(s.street)
    s.street.hedge(True)
    s.enter()
    s.must(lambda: any(o["error_code"] == -4061 for o in s.attempts(Purpose.ENTRY, "REFUSED")), "the entry is refused, -4061")
    assert_(not s.net, "nothing is open")
    s.tell("trade", symbol=s.symbol, side="BUY", quantity="1.00", positionSide="LONG")
    s.must(lambda: bool(s.alarms), "an alarm")
    s.tell("trade", symbol=s.symbol, side="SELL", quantity="1.00", positionSide="LONG")
    s.must(lambda: not s.net, "closed by hand")
    s.must(lambda: not s.algos() and not s.orders(), "nothing rests")
    s.street.hedge(False)
    assert_(reset(s.street.boss, s.symbol, "the mode is right again", override=True)["accepted"], "its breaker is closed")
    s.opened()


def assert_(true: bool, what: str) -> None:
    if not true:
        raise Missed(f"not so: {what}")
