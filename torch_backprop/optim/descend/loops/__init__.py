"""A traced step as loops in C, for whichever compiler the machine has."""

from torch_backprop.optim.descend.loops.library import compiler, load
from torch_backprop.optim.descend.loops.program import ALIGNMENT, Unknown
from torch_backprop.optim.descend.loops.source import HEADER, Source, write

__all__ = ["ALIGNMENT", "HEADER", "Source", "Unknown", "compiler", "load", "write"]
