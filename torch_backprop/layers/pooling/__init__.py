"""Pooling, grouped by derivation."""
