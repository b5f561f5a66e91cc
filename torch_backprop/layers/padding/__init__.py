"""Padding, grouped by derivation."""
