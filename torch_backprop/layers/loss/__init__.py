"""Losses, grouped by derivation."""
