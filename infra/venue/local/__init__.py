"""The local exchange: a Binance that fits on loopback."""
