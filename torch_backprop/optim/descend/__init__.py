"""One pass over tensors in memory by the fastest exact path: compiled, by vectors, or by the tape."""

from torch_backprop.optim.descend.descending import PATHS, Descending

__all__ = ["PATHS", "Descending"]
