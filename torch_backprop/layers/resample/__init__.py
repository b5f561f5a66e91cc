"""Images on other grids, grouped by derivation."""
