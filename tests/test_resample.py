"""Functions of images and grids that no layer of torch.nn calls with all their options."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from checks import CHECKS, second_order, transforms
from torch import Tensor, nn

from torch_backprop import functional
from torch_backprop.spec import LayerSpec, case

MODES = ("bilinear", "nearest", "bicubic")
PADDINGS = ("zeros", "border", "reflection")
SAMPLINGS = [
    (dims, *options)
    for dims, *options in itertools.product((2, 3), MODES, PADDINGS, (True, False))
    if options[0] != "bicubic" or dims == 2
]
SHAPES = {3: (1, 2, 7), 4: (1, 2, 7, 5), 5: (1, 1, 4, 5, 3)}
INTERPOLATIONS = [
    (3, "linear"), (4, "bilinear"), (4, "bicubic"), (4, "lanczos"), (5, "trilinear"),
    *itertools.product(SHAPES, ("nearest", "nearest-exact", "area")),
]  # fmt: skip
SIZES: tuple[dict[str, Any], ...] = (
    {"size": 3},
    {"size": 11},
    {"size": 1},
    {"scale_factor": 2.2},
    {"scale_factor": 0.45},
    {"scale_factor": 1.7, "recompute_scale_factor": True},
)


class GridSample(nn.Module):
    """F.grid_sample as a layer; its input is spread, so that some points lie outside."""

    def __init__(self, mode: str, padding_mode: str) -> None:
        super().__init__()
        self.options = mode, padding_mode, False

    def forward(self, input: Tensor, grid: Tensor) -> Tensor:
        return F.grid_sample(input, grid, *self.options)


class OurGridSample(GridSample):
    def _get_name(self) -> str:
        return "GridSample"

    def forward(self, input: Tensor, grid: Tensor) -> Tensor:
        return functional.grid_sample(input, grid, *self.options)


HIGHER = (
    second_order.double_backward,
    second_order.directional,
    second_order.hessians,
    transforms.tangents,
    transforms.batched,
)
"""torch has neither a second derivative nor a forward mode: those are held against differences."""


@pytest.mark.parametrize("check", [c for c in CHECKS if c not in HIGHER], ids=lambda check: check.__name__)
@pytest.mark.parametrize("mode", MODES)
def test_grid_sample_is_held_as_a_layer(mode: str, check: Callable[..., None]) -> None:
    one = case((2, 2, 3, 4), (2, 2, 3, 2), mode=mode, padding_mode="zeros")
    check(LayerSpec(OurGridSample, GridSample, (one,)), one)


@pytest.mark.parametrize(("dims", "mode", "padding", "corners"), SAMPLINGS)
def test_grid_sample_in_every_mode(dims: int, mode: str, padding: str, corners: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 2, *(3, 4, 2)[:dims], dtype=torch.float64, requires_grad=True)
    grid = torch.randn(2, *(2, 1, 3)[:dims], dims, dtype=torch.float64).mul(1.5).requires_grad_()

    def sample(x: Tensor, grid: Tensor) -> Tensor:
        return functional.grid_sample(x, grid, mode, padding, corners)

    expected = F.grid_sample(x, grid, mode, padding, corners)
    torch.testing.assert_close(sample(x, grid), expected, rtol=0, atol=0)
    g = torch.randn_like(expected)
    gradients = (torch.autograd.grad(y, (x, grid), g) for y in (sample(x, grid), expected))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)
    # samples have nothing to do with each other, as the gradients show
    one = [tensor[:1].detach().requires_grad_() for tensor in (x, grid)]
    assert torch.autograd.gradcheck(sample, one, check_forward_ad=True, check_backward_ad=False)
    assert torch.autograd.gradgradcheck(sample, one)
    images, grids = torch.stack((x, 2 * x)).detach(), torch.stack((grid, -grid)).detach()
    derivative = torch.func.grad(lambda x, grid: sample(x, grid).square().sum(), (0, 1))
    each = [derivative(*args) for args in zip(images, grids, strict=True)]
    together = torch.func.vmap(derivative)(images, grids)
    torch.testing.assert_close(together, tuple(map(torch.stack, zip(*each, strict=True))), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(2, 1, 3, 4), (1, 1, 2, 3, 2)])
@pytest.mark.parametrize("corners", [True, False])
def test_affine_grid(size: tuple[int, ...], corners: bool) -> None:
    torch.manual_seed(0)
    dims = len(size) - 2
    theta = torch.randn(size[0], dims, dims + 1, dtype=torch.float64, requires_grad=True)

    def grid(theta: Tensor) -> Tensor:
        return functional.affine_grid(theta, list(size), corners)

    expected = F.affine_grid(theta, list(size), corners)
    torch.testing.assert_close(grid(theta), expected, rtol=0, atol=0)
    g = torch.randn_like(expected)
    gradients = (torch.autograd.grad(y, theta, g) for y in (grid(theta), expected))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-14)
    assert torch.autograd.gradcheck(grid, theta, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(grid, theta)


@pytest.mark.parametrize(("dims", "mode"), INTERPOLATIONS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_interpolate_in_every_mode(dims: int, mode: str, sizes: dict[str, Any]) -> None:
    torch.manual_seed(0)
    corners = (None,) if mode in ("nearest", "nearest-exact", "area") else (False, True)
    filters = {"bilinear": (False, True), "bicubic": (False, True), "lanczos": (True,)}.get(mode, (False,))
    # at some factors torch's own backward sends gradients to other elements than its forward takes them from
    faulty = dims == 5 and mode.startswith("nearest") and sizes == {"scale_factor": 2.2}
    for align_corners, antialias in itertools.product(corners[: 1 if mode == "lanczos" else 2], filters):
        options = {"mode": mode, "align_corners": align_corners, "antialias": antialias, **sizes}
        x = torch.randn(SHAPES[dims], dtype=torch.float64, requires_grad=True)
        expected = F.interpolate(x, **options)
        ours = functional.interpolate(x, **options)
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        if faulty:
            assert torch.autograd.gradcheck(partial(functional.interpolate, **options), x)
            continue
        g = torch.randn_like(expected)
        gradients = (torch.autograd.grad(y, x, g) for y in (ours, expected))
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-13)


@pytest.mark.parametrize("channels", [1, 2])
def test_large_images_with_an_infinite_gradient_keep_it_where_it_belongs(channels: int) -> None:
    x = torch.randn(1, channels, 8, 8, requires_grad=True)
    g = torch.ones(1, channels, 16, 16)
    g[0, 0, 0, 0] = torch.inf
    for mode in ("nearest", "bilinear"):
        (gradient,) = torch.autograd.grad(functional.interpolate(x, scale_factor=2, mode=mode), x, g)
        assert gradient.isfinite().sum() >= x.numel() - 4


def test_the_second_derivative_of_the_nearest_element_is_zero_and_not_missing() -> None:
    x, grid = (torch.rand(size, requires_grad=True) for size in ((1, 2, 4, 4), (1, 3, 3, 2)))
    y = functional.grid_sample(x, grid, "nearest", align_corners=False)
    for first in torch.autograd.grad(y.sum(), (x, grid), create_graph=True):
        (second,) = torch.autograd.grad(first.sum(), grid, retain_graph=True)
        assert not second.any()


@pytest.mark.parametrize("dims", [(-1, 1), (0, 1), (2, 0)])
def test_images_and_grids_are_batched_along_any_dimensions(dims: tuple[int, int]) -> None:
    def cost(x: Tensor, grid: Tensor) -> Tensor:
        return functional.grid_sample(x, grid, align_corners=False).sin().sum()

    x, grid = torch.randn(3, 2, 1, 4, 4), torch.rand(3, 2, 3, 3, 2)
    batched = (each.movedim(0, dim) for each, dim in zip((x, grid), dims, strict=True))
    seen = torch.func.vmap(torch.func.grad(cost, (0, 1)), dims)(*batched)
    for i in range(3):
        torch.testing.assert_close([g[i] for g in seen], list(torch.func.grad(cost, (0, 1))(x[i], grid[i])))
