"""A traced step as loops in C, for whichever compiler the machine has."""

from torch_backprop.optim.descend.loops.library import compiler
from torch_backprop.optim.descend.loops.program import Unknown
from torch_backprop.optim.descend.loops.source import Source, write

__all__ = ["Source", "Unknown", "compiler", "write"]
