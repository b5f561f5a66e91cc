"""Gradient descent whose optimizer owns the variant: batch, stochastic and mini-batch.

The trajectory depends on the order of the examples alone, never on how the loader cuts them into batches.
"""

from torch_backprop.optim.batch import BatchGD
from torch_backprop.optim.descent import Descent
from torch_backprop.optim.minibatch import MiniBatchGD
from torch_backprop.optim.sampler import WindowSampler
from torch_backprop.optim.stochastic import StochasticGD

__all__ = ["BatchGD", "Descent", "MiniBatchGD", "StochasticGD", "WindowSampler"]
