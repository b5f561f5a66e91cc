"""Batch descent to its end on three costs: how fast theory says it gets there, and how fast it did."""
