"""The language: what flows. Imports nothing of ours."""
