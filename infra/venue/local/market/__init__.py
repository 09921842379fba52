"""Market sources: what drives the local exchange."""
