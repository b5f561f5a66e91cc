r"""Operations and bytes of a perceptron as theory counts them.

A layer n -> m over B rows is B n m multiplications and additions forward (y = x w'), and twice as many
backward (grad w = grad y' x and grad x = grad y w), of which the first layer does without grad x. Held for
the backward pass are the input, each layer's output once, and of the cost the integer targets:

    B (4 (features + depth width + classes) + 8) bytes
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def counter() -> FlopCounterMode:
    """Return torch's counter of operations, which also knows the product of oneDNN that rules of ours use."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_linear: _linear})


def _linear(x: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    return 2 * math.prod(out_shape) * x[-1]


def flops(widths: Sequence[int], rows: int) -> tuple[int, int]:
    """Return the operations of the forward and of the backward pass over some rows.

    Args:
        widths: Those of the inputs, of each hidden layer and of the outputs.
        rows: All rows.

    >>> flops([64, 256, 256, 256, 10], 256)
    (76808192, 145227776)
    """
    layers = [2 * rows * n * m for n, m in pairwise(widths)]
    return sum(layers), 2 * sum(layers) - layers[0]


def held(widths: Sequence[int], batch: int) -> int:
    """Return the bytes that the forward pass of one batch holds.

    >>> held([64, 256, 256, 256, 10], 256)
    864256
    """
    return batch * (4 * sum(widths) + 8)
