"""Backpropagation itself, without autograd."""

from torch_backprop.algorithm.backpropagation import Backpropagation
from torch_backprop.algorithm.tape import Tape

__all__ = ["Backpropagation", "Tape"]
