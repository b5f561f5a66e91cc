"""Attention: of given queries, keys and values, and with its projections."""
