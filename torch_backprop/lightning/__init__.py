"""Batch, stochastic and mini-batch gradient descent under Lightning: the mixin and the callbacks."""

try:
    import lightning.pytorch as _  # noqa: F401
except ImportError as error:
    raise ImportError('DescentMixin needs Lightning: pip install "torch_backprop[lightning]"') from error

from torch_backprop.lightning.callbacks import GradientFlow, StopWhenConverged
from torch_backprop.lightning.mixin import DescentMixin

__all__ = ["DescentMixin", "GradientFlow", "StopWhenConverged"]
