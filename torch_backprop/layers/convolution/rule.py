r"""The rule of a convolution and of its transpose, in one to three dimensions. LeCun et al. (1989).

Goodfellow, Bengio & Courville (2016), "Deep Learning", eqs. 9.8 (forward), 9.11 and 9.13 (backward).

With the three products of :mod:`torch_backprop.layers.convolution.products` and g = dL/dy:

    convolution  forward  y = correlate(x, w) + b    backward  dL/dx = spread(g, w)     dL/dw = gather(x, g)
    transposed   forward  y = spread(x, w) + b       backward  dL/dx = correlate(g, w)  dL/dw = gather(g, x)

and dL/db_o = sum_nt g_no[t] of both: they differ only in which of x and y is the larger side. The one
non-obvious step: sum g y is the same sum of products of x, w and g in all three, so that its derivative by
one of them is what is left without it, since it is linear in each. The products are convolutions themselves,
so that the rule is its own second derivative.

Over the complex numbers, with * for any convolution, three real ones suffice (Gauss):

    y = (a - b) + i (c - a - b)    a = Re x * Re w    b = Im x * Im w    c = (Re x + Im x) * (Re w + Im w)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from torch_backprop.layers.convolution.geometry import Geometry, Steps
from torch_backprop.layers.convolution.products import (
    correlate,
    gather,
    is_innermost,
    laid_out,
    spread,
)
from torch_backprop.layers.linear import sum_to
from torch_backprop.rule import LOWER, Rule, is_plain, private, uncast, wanted

AUTOCAST = {"cpu": LOWER, "cuda": LOWER}


class ConvolutionRule(Rule):
    """Saves x if the weight's gradient is needed and w if the input's is.

    Where ``tied`` says that one alone is, an empty link is one more output: it ties that gradient to what it
    is the gradient of, so that its derivative may be asked for, as in torch.
    """

    autocast = AUTOCAST

    @staticmethod
    def forward(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry | Steps, tied: bool) -> Any:
        y = geometry.convolve(x, w, b)
        return (y, x.new_zeros(0)) if tied else y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, w, _, ctx.geometry, tied = inputs
        needs_x, needs_w, *_ = ctx.needs_input_grad
        y, link = output if tied else (output, None)
        ctx.save_for_backward(x if needs_w else None, w if needs_x else None, link)
        ctx.save_for_forward(x, w, link)
        ctx.sizes = tuple(x.shape[2:]), tuple(w.shape[2:]), tuple(y.shape)
        # of volumes not every kernel of torch keeps the layout
        ctx.innermost = is_innermost(y) if x.dim() == 5 else is_innermost(x) or is_innermost(w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, w, link = ctx.saved_tensors
        needs_x, needs_w, needs_b, _, _ = ctx.needs_input_grad
        size, kernel, _ = ctx.sizes
        steps = ctx.geometry.steps(kernel)
        g = laid_out(grad_y, ctx.innermost)
        grad_x = grad_w = None
        if needs_x:
            product = correlate if steps.transposed else spread
            grad_x = _tied(laid_out(product(_product, g, w, steps, size), ctx.innermost), x, link)
        if needs_w:
            sides = (g, x) if steps.transposed else (x, g)
            grad_w = _tied(laid_out(gather(_product, *sides, steps, kernel), ctx.innermost), w, link)
        grad_b = g.sum((0, *range(2, g.dim()))) if needs_b else None
        return grad_x, grad_w, grad_b, None, None

    @staticmethod
    def jvp(
        ctx: Any, tangent_x: Tensor | None, tangent_w: Tensor | None, tangent_b: Tensor | None, *_: None
    ) -> Any:
        x, w, link = ctx.saved_tensors
        convolve, shape = ctx.geometry.convolve, ctx.sizes[2]
        terms = (
            None if tangent_x is None else convolve(tangent_x, w, None),
            None if tangent_w is None else convolve(x, tangent_w, None),
            None if tangent_b is None else tangent_b.reshape(-1, *(1 for _ in shape[2:])),
        )
        # a bias alone has a smaller tangent than the output
        tangent = sum_to(terms, shape)
        return tangent if link is None else (tangent, torch.zeros_like(link))


def convolve(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    """Applies the rule to a batch or to one sample, of real or of complex numbers."""
    if x.dim() == geometry.dimensions + 1:
        return convolve(x.unsqueeze(0), w, b, geometry).squeeze(0)
    if x.is_complex() and w.is_complex():
        return _convolve_complex(x, w, b, geometry)
    # uneven padding is a copy of x in torch, and what the caller writes into x does not reach it
    uneven = geometry.padding == "same" and w.dim() == x.dim() and any(geometry.steps(w.shape[2:]).extra)
    if uneven and wanted(w):
        x = private(x, w)  # torch keeps it padded
    return _applied(x, w, b, geometry)


def _applied(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry | Steps) -> Tensor:
    # with one factor saved the other could not be reached by a second derivative, which is 0 and not missing
    tied = wanted(x) != wanted(w)
    y = ConvolutionRule.call(x, w, b, geometry, tied)
    return y[0] if tied else y


def _tied(grad: Tensor, saved: Tensor | None, link: Tensor | None) -> Tensor:
    """A gradient, tied to what it is the gradient of, if that is not ``saved``."""
    return grad if saved is not None or link is None or not torch.is_grad_enabled() else grad + link.sum()


def _product(x: Tensor, w: Tensor, steps: Steps) -> Tensor:
    """A convolution in the backward pass."""
    if torch.is_grad_enabled() and is_plain(x) and is_plain(w):
        # torch's own derivative of a transposed convolution with an output padding fails at the third order
        return _applied(x, w, None, steps)
    return steps.convolve(x, w, None)


def _convolve_complex(x: Tensor, w: Tensor, b: Tensor | None, geometry: Geometry) -> Tensor:
    # torch's autocast leaves complex numbers alone
    with uncast(x.device.type):
        (x_real, x_imag), (w_real, w_imag) = _parts(x), _parts(w)
        biases = () if b is None else _parts(b)
        real = _applied(x_real, w_real, biases[0] if biases else None, geometry)
        imaginary = _applied(x_imag, w_imag, None, geometry)
        bias = biases[0] + biases[1] if biases else None
        # three real products instead of four
        both = _applied(x_real + x_imag, w_real + w_imag, bias, geometry)
    return torch.complex(real - imaginary, both - real - imaginary)


def _parts(z: Tensor) -> tuple[Tensor, Tensor]:
    """The real and the imaginary part, as views whose gradients are stacked, where z.real's fills zeros."""
    real, imaginary = torch.view_as_real(z.resolve_conj()).unbind(-1)
    return real, imaginary
