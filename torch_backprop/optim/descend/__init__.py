"""One pass over tensors in memory by the fastest exact path, or by the one that is asked for."""

from torch_backprop.optim.descend.descending import PATHS, Descending

__all__ = ["PATHS", "Descending"]
