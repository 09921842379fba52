"""Benches: each starts its own stack on free ports, stops it, and returns one dict."""
