"""Embeddings, grouped by derivation."""
