"""The decisions: pure (state, event) -> (state, events). No clock, no I/O, no settings, no randomness."""
