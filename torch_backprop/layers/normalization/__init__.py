"""Normalizations, a file a derivation."""
