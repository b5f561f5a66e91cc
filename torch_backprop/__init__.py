"""Backpropagation by hand for PyTorch: layers, and optimizers that own their variant of gradient descent.

>>> import torch, torch_backprop
>>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
>>> print(torch_backprop.convert(model))
converted 3 layers, left 0 alone
"""

from torch_backprop import functional, nn, optim
from torch_backprop.algorithm import Backpropagation
from torch_backprop.convert import Conversion, convert, patched, revert
from torch_backprop.rule import Rule
from torch_backprop.tracing import Trace, trace

__version__ = "0.1.0"

__all__ = [
    "Backpropagation",
    "Conversion",
    "Rule",
    "Trace",
    "convert",
    "functional",
    "nn",
    "optim",
    "patched",
    "revert",
    "trace",
]
