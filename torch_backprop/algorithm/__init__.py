"""Backpropagation itself: forward pass, cost, backward pass and update, without autograd."""

from torch_backprop.algorithm.backpropagation import Backpropagation
from torch_backprop.algorithm.record import Record, Value
from torch_backprop.algorithm.step import TrainingStep
from torch_backprop.algorithm.tape import Tape, watch

__all__ = ["Backpropagation", "Record", "Tape", "TrainingStep", "Value", "watch"]
