"""Distances and similarities, grouped by derivation."""
