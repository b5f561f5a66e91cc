"""Max unpooling: values put back where max pooling found them. Zeiler & Fergus (2014), ECCV, section 2.1.

With a(i) the place of value i in its plane:

    forward   y_a(i) = x_i, and 0 elsewhere
    backward  dL/dx_i = g_a(i)

since the map is linear, and its transpose takes from where it put (Goodfellow, Bengio & Courville (2016),
"Deep Learning", eq. 6.46); of x nothing is needed. Where two values have one place, y holds one of them, and
as in torch both have its gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.pooling.selection import pick
from torch_backprop.layers.pooling.windows import Numbers
from torch_backprop.rule import FLOAT32, Rule, owned, save
from torch_backprop.spec import Draw, LayerSpec, case


@dataclass(frozen=True)
class Unpooling:
    """torch's function and its options."""

    dims: int
    options: Numbers

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """y, with x at its places."""
        return _UNPOOLS[self.dims](x, places, *self.options)


class MaxUnpoolRule(Rule):
    """Saves the places."""

    @staticmethod
    def forward(x: Tensor, places: Tensor, how: Unpooling) -> Tensor:
        return owned(how(x, places))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, places, ctx.how = inputs
        # as they are: whoever pooled holds them anyway, and a narrow copy would come on top
        save(ctx, places)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        # of two numbers put at one place torch keeps one, and yet gives both its gradient
        return pick(grad_y, places, ctx.how.dims), None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: None) -> Tensor:
        (places,) = ctx.saved_tensors
        # the map is linear in x: its tangent goes the same way
        return ctx.how(tangent_x, places)


class Float32MaxUnpoolRule(MaxUnpoolRule):
    """The functions that autocast keeps in float32. Saves the places."""

    autocast = {"cpu": FLOAT32}


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """A partial inverse of max pooling; as :func:`torch.nn.functional.max_unpool1d`.

    Args:
        input: ``(N, C, L)`` or ``(C, L)``.
        indices: int64 places of the same shape, as max pooling returns them.
        kernel_size: the pooling's.
        stride: the pooling's; the kernel's size if None.
        padding: the pooling's.
        output_size: the shape before pooling, or its last dimension; a default if None.

    Returns:
        ``(N, C, L_out)`` or ``(C, L_out)``.

    Raises:
        ValueError: an output size that the pooling cannot have had, in torch's words.
        RuntimeError: shapes or places that do not fit, in torch's words.
    """
    options = (kernel_size, stride, padding, output_size)
    return MaxUnpoolRule.call(input, indices, Unpooling(1, options))


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The same on ``(N, C, H, W)`` or ``(C, H, W)``; as :func:`torch.nn.functional.max_unpool2d`."""
    options = (kernel_size, stride, padding, output_size)
    return MaxUnpoolRule.call(input, indices, Unpooling(2, options))


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Numbers,
    stride: Numbers = None,
    padding: Numbers = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The same on ``(N, C, D, H, W)`` or ``(C, D, H, W)``; as :func:`torch.nn.functional.max_unpool3d`."""
    options = (kernel_size, stride, padding, output_size)
    return MaxUnpoolRule.call(input, indices, Unpooling(3, options))


class MaxUnpool1d(torch.nn.MaxUnpool1d):
    """Drop-in for :class:`torch.nn.MaxUnpool1d`."""

    def forward(self, input: Tensor, indices: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, L)`` and places of that shape to ``(N, C, L_out)``."""
        return max_unpool1d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool2d(torch.nn.MaxUnpool2d):
    """Drop-in for :class:`torch.nn.MaxUnpool2d`."""

    def forward(self, input: Tensor, indices: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, H, W)`` and places of that shape to ``(N, C, H_out, W_out)``."""
        return max_unpool2d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool3d(torch.nn.MaxUnpool3d):
    """Drop-in for :class:`torch.nn.MaxUnpool3d`."""

    def forward(self, input: Tensor, indices: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Maps ``(N, C, D, H, W)`` and places of that shape to ``(N, C, D_out, H_out, W_out)``."""
        return max_unpool3d(input, indices, self.kernel_size, self.stride, self.padding, output_size)


_UNPOOLS = {1: F.max_unpool1d, 2: F.max_unpool2d, 3: F.max_unpool3d}

SPECS = (
    LayerSpec(
        MaxUnpool1d,
        torch.nn.MaxUnpool1d,
        (
            case((2, 3, 3), Draw((2, 3, 3), "distinct", 18), kernel_size=6),
            case((2, 4), Draw((2, 4), "distinct", 8), kernel_size=2),
        ),
        large=case((1, 1, 1 << 20), Draw((1, 1, 1 << 20), "distinct", 1 << 21), kernel_size=2),
    ),
    LayerSpec(
        MaxUnpool2d,
        torch.nn.MaxUnpool2d,
        (
            case((2, 2, 2, 3), Draw((2, 2, 2, 3), "distinct", 24), kernel_size=2),
            case((2, 3, 2), Draw((2, 3, 2), "distinct", 15), kernel_size=(1, 3), stride=2, padding=(0, 1)),
        ),
        large=case((1, 1, 1024, 1024), Draw((1, 1, 1024, 1024), "distinct", 1 << 22), kernel_size=2),
    ),
    LayerSpec(
        MaxUnpool3d,
        torch.nn.MaxUnpool3d,
        (
            case((2, 1, 2, 2, 1), Draw((2, 1, 2, 2, 1), "distinct", 32), kernel_size=2),
            case((2, 2, 1, 2), Draw((2, 2, 1, 2), "distinct", 32), kernel_size=2),
        ),
        large=case((1, 1, 64, 128, 128), Draw((1, 1, 64, 128, 128), "distinct", 1 << 23), kernel_size=2),
    ),
)
