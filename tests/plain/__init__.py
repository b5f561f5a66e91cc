"""Functions of torch.nn.functional, and the same written with plain operators."""

from . import activation, layer, loss, window
from .twin import Twin

TWINS: tuple[Twin, ...] = (*activation.TWINS, *loss.TWINS, *window.TWINS, *layer.TWINS)
