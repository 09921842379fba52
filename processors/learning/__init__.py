"""Learning: from candles to a model that says honestly how sure it is. Training libraries are imported here and nowhere else."""
