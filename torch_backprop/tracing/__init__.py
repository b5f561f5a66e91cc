"""One pass of backpropagation laid open: every activation, error and gradient, with autograd's beside it."""

from torch_backprop.tracing.record import Comparison, Layer
from torch_backprop.tracing.trace import Trace, trace

__all__ = ["Comparison", "Layer", "Trace", "trace"]
