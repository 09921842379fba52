"""Learning: from candles to a model that says honestly how sure it is. Training libraries are imported here and nowhere else."""

TREES = ("lightgbm", "xgboost")
NETWORKS = ("nhits", "patchtst")
"""Members of an ensemble by name. Networks need torch; trees alone are an ensemble too."""
