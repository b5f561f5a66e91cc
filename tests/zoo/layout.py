"""Right for the tensors that came to mind: contiguous, of two dimensions, with elements, of floats."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .plant import HandWritten, Plant, rule


def channel_scale(x: Tensor, s: Tensor) -> Tensor:
    return x * s.reshape(-1, 1, 1)


def pull_channel_scale(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return (g * s.reshape(-1, 1, 1)).sum_to_size(x.shape)


def pull_channels(g: Tensor, x: Tensor, s: Tensor) -> Tensor:
    return (g * x).sum_to_size(s.reshape(-1, 1, 1).shape).reshape(s.shape)


def as_contiguous(x: Tensor) -> Tensor:
    """x as a kernel sees it that reads its memory from the start, row by row."""
    strides = torch.empty(x.shape, device="meta").stride()
    return x.as_strided(x.shape, strides)


def in_order(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x, element by element in the order of places counted in ``dtype``."""
    flat = x.flatten()
    places = torch.ones_like(flat, dtype=dtype).cumsum(0, dtype=dtype) - 1
    return flat[places.long()].reshape(x.shape)


def first_piece(x: Tensor) -> Tensor:
    """x, and zero after 2^18 elements."""
    piece, rest = x.flatten().tensor_split([1 << 18])
    return torch.cat((piece, 0 * rest)).reshape(x.shape)


def pull_square(g: Tensor, x: Tensor) -> Tensor:
    return 2 * x * g


def norm(x: Tensor, w: Tensor) -> Tensor:
    return F.layer_norm(x, w.shape, w)


def standardized(x: Tensor) -> tuple[Tensor, Tensor]:
    r = (x.var(-1, keepdim=True, correction=0) + 1e-5).rsqrt()
    return (x - x.mean(-1, keepdim=True)) * r, r


def pull_norm(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    x_hat, r = standardized(x)
    s = g * w
    return r * (s - s.mean(-1, keepdim=True) - x_hat * (s * x_hat).mean(-1, keepdim=True))


class LargestAndPlace(HandWritten):
    """The largest of each row and its place, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        values, indices = x.max(-1)
        return values, indices

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.classes = inputs[0].shape[-1]
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        (place,) = ctx.saved_tensors
        return F.one_hot(place, ctx.classes) * g.unsqueeze(-1)


class AddsPlace(LargestAndPlace):
    """Takes it that the place has a cotangent too."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        LargestAndPlace.setup_context(ctx, inputs, output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        return LargestAndPlace.backward(ctx, g + h, None)


class SineAndCosine(HandWritten):
    """Two outputs, undefined cotangents as None; as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.sin(), x.cos()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        (x,) = ctx.saved_tensors
        terms = [] if g is None else [g * x.conj().cos()]
        terms += [] if h is None else [-h * x.conj().sin()]
        return sum(terms) if terms else None


class ExpectsBothCotangents(SineAndCosine):
    """Asks for undefined cotangents as None and is not ready for them."""

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * x.conj().cos() - h * x.conj().sin()


PLANTS = (
    Plant(
        "cotangent viewed flat",
        "cotangent-layout",
        rule(torch.square, lambda g, x: 2 * x * g.view(-1).view(x.shape)),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "cotangent read as if contiguous",
        "cotangent-layout",
        rule(torch.square, lambda g, x: 2 * x * as_contiguous(g)),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "input read as if contiguous",
        "strided-input",
        rule(torch.square, lambda g, x: 2 * as_contiguous(x) * g),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "features of an image flattened by a view",
        "channels-last",
        rule(
            channel_scale,
            pull_channel_scale,
            lambda g, x, s: pull_channels(g, x.view(len(x), -1).view(x.shape), s),
        ),
        rule(channel_scale, pull_channel_scale, pull_channels),
        ((2, 3, 4, 4), (3,)),
    ),
    Plant(
        "rows flattened to -1",
        "empty-input",
        rule(torch.square, lambda g, x: (2 * x * g).reshape(*x.shape[:1], -1).reshape(x.shape)),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "scaled by the number of rows and back",
        "zero-dim-input",
        rule(torch.square, lambda g, x: 2 * x * g * len(x) / len(x)),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "layer norm whose dL/dw is summed over one axis, though there are more",
        "missing-reduction",
        rule(norm, pull_norm, lambda g, x, w: (g * standardized(x)[0]).sum(0)),
        rule(norm, pull_norm, lambda g, x, w: (g * standardized(x)[0]).sum_to_size(w.shape)),
        ((4, 3), (3,)),
    ),
    Plant(
        "squeezed in case there was one row",
        "batch-of-one",
        rule(lambda x: x.square().sum(-1), lambda g, x: 2 * x * g.squeeze().unsqueeze(1)),
        rule(lambda x: x.square().sum(-1), lambda g, x: 2 * x * g.unsqueeze(-1)),
        ((4, 3),),
    ),
    Plant(
        "places counted in 16 bits",
        "large-input",
        rule(torch.square, lambda g, x: 2 * g * in_order(x, torch.int16)),
        rule(torch.square, lambda g, x: 2 * g * in_order(x, torch.int64)),
        ((4, 3),),
    ),
    Plant(
        "one piece of 2^18 elements, and no other",
        "large-input",
        rule(torch.square, lambda g, x: 2 * g * first_piece(x)),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "a buffer on the CPU",
        "hard-coded-device",
        rule(torch.square, lambda g, x: torch.full(x.shape, 2, dtype=x.dtype) * x * g),
        rule(torch.square, pull_square),
        ((4, 3),),
    ),
    Plant(
        "no cotangent where one was expected",
        "undefined-cotangent",
        ExpectsBothCotangents,
        SineAndCosine,
        ((4, 3),),
    ),
    Plant("gradient of an index", "integer-output", AddsPlace, LargestAndPlace, ((4, 3),)),
)
