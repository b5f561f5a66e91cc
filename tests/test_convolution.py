"""The forms of a weight's gradient, of which dtype and size choose one; and what a case cannot ask."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from checks.comparison import equal
from torch import Tensor, nn
from torch.func import vmap

import torch_backprop.functional as ours
from torch_backprop.layers.convolution import products
from torch_backprop.layers.convolution.geometry import Steps
from torch_backprop.nn import ConvTranspose2d

SHAPES = {
    "1d": ((3, 2, 9), (3, 2, 4), Steps((2,), (1,), (2,), 1, (0,), (0,))),
    "2d": ((2, 3, 6, 7), (4, 3, 3, 2), Steps((2, 1), (1, 0), (1, 2), 1, (0, 0), (0, 0))),
    "grouped": ((2, 6, 5, 4), (4, 3, 2, 2), Steps((1, 2), (1, 1), (1, 1), 2, (0, 0), (0, 0))),
    "depthwise": ((2, 3, 6, 5), (6, 1, 2, 3), Steps((2, 1), (0, 2), (1, 1), 3, (0, 0), (0, 0))),
    "3d": ((2, 2, 4, 3, 5), (3, 2, 2, 1, 3), Steps((1, 1, 2), (1, 0, 1), (2, 1, 1), 1, (0,) * 3, (0,) * 3)),
    "many": ((37, 2, 4, 4), (2, 2, 3, 3), Steps((1, 1), (1, 1), (1, 1), 1, (0, 0), (0, 0))),
}


def convolve(x: Tensor, w: Tensor, steps: Steps) -> Tensor:
    return steps.convolve(x, w, None)


def taps(x: Tensor, y: Tensor, steps: Steps, size: Any) -> Tensor:
    return products._gather_taps(x, y, steps, size)


def exchanged(x: Tensor, y: Tensor, steps: Steps, size: Any) -> Tensor:
    return products._gather_exchanged(convolve, x, y, steps, size)


def planes(x: Tensor, y: Tensor, steps: Steps, size: Any) -> Tensor:
    return products._gather_planes(convolve, x, y, steps, size)


forms = pytest.mark.parametrize("form", [taps, exchanged, planes])
shapes = pytest.mark.parametrize("shape", SHAPES)


def drawn(shape: str) -> tuple[Tensor, Tensor, Tensor, Steps]:
    """Both sides, the kernel and the steps."""
    generator = torch.Generator().manual_seed(0)
    of_x, of_w, steps = SHAPES[shape]
    x, w = (torch.randn(size, generator=generator, dtype=torch.float64) for size in (of_x, of_w))
    y = convolve(x, w, steps)
    return x, torch.randn(y.shape, generator=generator, dtype=torch.float64), w.requires_grad_(), steps


@forms
@shapes
def test_every_form_is_the_gradient_of_the_weight(form: Any, shape: str) -> None:
    x, g, w, steps = drawn(shape)
    (expected,) = torch.autograd.grad(convolve(x, w, steps), w, g)
    equal(form(x, g, steps, w.shape[2:]), expected, f"{form.__name__} of {shape}")


@forms
@shapes
def test_every_form_is_batched_and_differentiated(form: Any, shape: str) -> None:
    x, g, w, steps = drawn(shape)
    size = tuple(w.shape[2:])
    stacked = torch.stack([x, 2 * x.flip(0)])
    expected = torch.stack([form(each, g, steps, size) for each in stacked])
    equal(vmap(lambda x: form(x, g, steps, size))(stacked), expected, f"vmap of {form.__name__}")
    assert torch.autograd.gradcheck(
        lambda x, g: form(x[:3], g[:3], steps, size), leaves(x, g), fast_mode=True
    )


def leaves(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(x.detach().requires_grad_() for x in tensors)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_channels_last(dtype: torch.dtype, groups: int) -> None:
    def gradients(function: Any) -> list[tuple[int, ...]]:
        torch.manual_seed(0)
        x, w = torch.randn(2, 4, 5, 6), torch.randn(8, 4 // groups, 3, 3)
        x, w = (side.to(dtype, memory_format=torch.channels_last).requires_grad_() for side in (x, w))
        y = function(x, w, stride=2, groups=groups)
        # the cotangent is not, and the gradients are all the same
        found = torch.autograd.grad(y, (x, w), torch.ones_like(y, memory_format=torch.contiguous_format))
        return [side.stride() for side in (y, *found)][: 3 if groups < 4 else 2]

    assert gradients(ours.conv2d) == gradients(nn.functional.conv2d)


@pytest.mark.parametrize("size", [(11, 12), (2, 2, 12, 11), (11,), (40, 40)])
def test_the_size_of_a_transposed_output(size: tuple[int, ...]) -> None:
    def outcome(kind: Any) -> Any:
        torch.manual_seed(0)
        layer = kind(3, 2, 3, stride=2)
        try:
            return layer(torch.ones(2, 3, 5, 5), output_size=list(size))
        except ValueError as error:
            return str(error)

    equal(outcome(ConvTranspose2d), outcome(nn.ConvTranspose2d), f"output size {size}")


@pytest.mark.parametrize(
    "options", [{"padding": "same", "stride": 2}, {"padding": "all"}, {"stride": (1, 2, 3)}]
)
def test_options_are_refused_as_torch_refuses_them(options: dict[str, Any]) -> None:
    x, w = torch.ones(1, 2, 5, 5), torch.ones(2, 2, 3, 3)
    with pytest.raises(RuntimeError) as expected:
        nn.functional.conv2d(x, w, **options)
    with pytest.raises(RuntimeError) as seen:
        ours.conv2d(x, w, **options)
    assert str(seen.value) == str(expected.value)


def test_complex_numbers_under_autocast_and_without_memory() -> None:
    x, w = (torch.randn(size, dtype=torch.complex64) for size in ((2, 3, 5, 5), (4, 3, 2, 2)))
    with torch.autocast("cpu", torch.bfloat16):
        equal(ours.conv2d(x, w), nn.functional.conv2d(x, w), "complex numbers under autocast")
    (x,) = leaves(x.to("meta"))
    (gradient,) = torch.autograd.grad(ours.conv2d(x, w.to("meta")).abs().sum(), x)
    assert gradient.shape == x.shape


def test_the_fourth_derivative_of_a_convolution_that_leaves_a_remainder() -> None:
    x, w = leaves(torch.randn(1, 1, 6, dtype=torch.float64), torch.randn(1, 1, 3, dtype=torch.float64))

    def third(x: Tensor, w: Tensor) -> Tensor:
        y = ours.conv1d(x, w, stride=2).sin().sum()
        for _ in range(3):
            y = torch.stack([g.sum() for g in torch.autograd.grad(y, (x, w), create_graph=True)]).sum()
        return y

    assert torch.autograd.gradcheck(third, (x, w))


@pytest.mark.parametrize("name", ["conv1d", "conv_transpose1d"])
@pytest.mark.parametrize("learning", [0, 1])
def test_the_gradient_of_what_alone_learns_may_be_derived(name: str, learning: int) -> None:
    both = torch.randn(2, 3, 4), torch.randn(3, 3, 2)
    variable = both[learning].requires_grad_()
    (gradient,) = torch.autograd.grad(getattr(ours, name)(*both).sum(), variable, create_graph=True)
    gradient.square().sum().backward()
    assert variable.grad is not None
    assert not variable.grad.any()


@pytest.mark.parametrize("number", [np.int64(2), torch.tensor(2)], ids=["numpy", "tensor"])
@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_sizes_that_are_numbers_of_other_libraries(name: str, number: Any) -> None:
    x, w = (torch.randn(size, requires_grad=True) for size in ((2, 3, 5, 5), (3, 3, 2, 2)))
    found = []
    for place in (ours, nn.functional):
        y = getattr(place, name)(x, w, stride=number, padding=number)
        found.append(torch.autograd.grad(y.square().sum(), (x, w)))
    torch.testing.assert_close(found[0], found[1])
