"""Spot on the local exchange: the same prices, an account of balances instead of positions, and order lists (OCO)."""
