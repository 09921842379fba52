"""What the venue tells of our account, as events of the log: ids from what was said, so that a word said twice is one event."""

from __future__ import annotations

from infra.venue.port import OrderSeen, VenueAccount, VenueFill, VenuePosition
from schemas.ids import event_id, purpose_of
from schemas.trading import AccountSnapshot, Correction, CorrectionKind, Fill, HeldPosition, OrderUpdate
from schemas.units import Source


def fill_event(fill: VenueFill, account_id: str, source: Source, *, backfilled: bool) -> Fill:
    return Fill(
        event_id=event_id(Fill.type_name(), account_id, fill.instrument, fill.trade_id),
        at=fill.at,
        instrument=fill.instrument,
        account=account_id,
        trade_id=fill.trade_id,
        order_id=fill.order_id,
        client_id=fill.client_id,
        purpose=purpose_of(fill.client_id),
        side=fill.side,
        price=fill.price,
        quantity=fill.quantity,
        fee=fill.fee,
        fee_asset=fill.fee_asset,
        realized_pnl=fill.realized_pnl,
        maker=fill.maker,
        backfilled=backfilled,
        source=source,
    )


def update_event(seen: OrderSeen, account_id: str) -> OrderUpdate:
    order = seen.order
    said = (order.book, order.exchange_id, seen.execution, order.status, order.filled, order.child_order_id, order.at)
    return OrderUpdate(
        event_id=event_id(OrderUpdate.type_name(), account_id, order.instrument, *said),
        at=order.at,
        instrument=order.instrument,
        account=account_id,
        book=order.book.value,
        client_id=order.client_id,
        purpose=purpose_of(order.client_id),
        exchange_id=order.exchange_id,
        child_order_id=order.child_order_id,
        status=order.status,
        execution=seen.execution,
        order_type=order.type,
        side=order.side,
        quantity=order.quantity,
        filled_quantity=order.filled,
        price=order.price,
        trigger_price=order.trigger_price,
        close_position=order.close_position,
        reduce_only=order.reduce_only,
        detail=seen.detail,
    )


def snapshot_event(stated: VenueAccount, held: list[VenuePosition], at: int, account_id: str) -> AccountSnapshot:
    positions = [
        HeldPosition(
            instrument=position.instrument,
            quantity=position.quantity,
            entry_price=position.entry_price,
            unrealized_pnl=position.unrealized_pnl,
        )
        for position in sorted(held, key=lambda position: position.instrument)
    ]
    said = (account_id, at, stated.wallet, stated.equity, *((p.instrument, p.quantity) for p in positions))
    return AccountSnapshot(
        event_id=event_id(AccountSnapshot.type_name(), *said),
        at=at,
        account=account_id,
        wallet=stated.wallet,
        equity=stated.equity,
        available=stated.available,
        unrealized_pnl=stated.unrealized_pnl,
        positions=positions,
    )


def correction_event(
    kind: CorrectionKind, account_id: str, instrument: str, at: int, reason: str, ours: str, theirs: str, client_id: str = ""
) -> Correction:
    return Correction(
        event_id=event_id(Correction.type_name(), account_id, instrument, kind, ours, theirs, client_id, at),
        at=at,
        instrument=instrument,
        account=account_id,
        kind=kind,
        reason=reason,
        ours=ours,
        theirs=theirs,
        client_id=client_id,
    )
