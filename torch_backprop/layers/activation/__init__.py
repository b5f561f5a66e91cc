"""Activations, grouped by what their derivative is computed from."""
