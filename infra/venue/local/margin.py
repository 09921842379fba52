"""Where an account is liquidated: the published formula, with the bracket that holds at that price.

LP = (wallet - others' maintenance + others' profit + cum - side x qty x entry) / (qty x ratio - side x qty);
wallet is that of the cross account, or what is bound to an isolated position, for which others count nothing.
"""

from __future__ import annotations

from decimal import Decimal

from infra.venue.local.brackets import Bracket


def liquidation_price(
    wallet: Decimal,
    others_maintenance: Decimal,
    others_profit: Decimal,
    *,
    qty: Decimal,
    entry: Decimal,
    cum: Decimal,
    ratio: Decimal,
) -> Decimal:
    """`qty` signed (long > 0); not positive means: at no price."""
    side, amount = (1 if qty > 0 else -1), abs(qty)
    return (wallet - others_maintenance + others_profit + cum - side * amount * entry) / (amount * ratio - side * amount)


def liquidation_price_in(
    brackets: tuple[Bracket, ...],
    wallet: Decimal,
    others_maintenance: Decimal,
    others_profit: Decimal,
    qty: Decimal,
    entry: Decimal,
) -> Decimal:
    """With the bracket in which the position stands at that price; 0: at no price."""
    price = Decimal(0)
    for bracket in brackets:
        price = liquidation_price(
            wallet, others_maintenance, others_profit, qty=qty, entry=entry, cum=bracket.cum, ratio=bracket.ratio
        )
        if bracket.floor <= price * abs(qty) <= bracket.cap:
            break
    return max(price, Decimal(0))
