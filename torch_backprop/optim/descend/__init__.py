"""One pass over tensors in memory by the fastest exact path, or by the one that is asked for.

Floors: settings <- path <- key, steps, vectors <- built <- compiled, unrolled <- descending, with the list.
"""

from torch_backprop.optim.descend.descending import PATHS, Descending

__all__ = ["PATHS", "Descending"]
