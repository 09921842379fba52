"""Venues: where orders go and prices come from."""
