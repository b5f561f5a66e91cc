"""Cross entropy with class indices or class probabilities.

Over the C classes c of sample i with target class t, class weights w (or 1), label smoothing e,
q_c = log softmax(x)_c, p = exp(q), and u_i what reaches the sample's loss: g_i, or g, or g / sum_i w_t:

    forward   l_i = -sum_c a_c q_c        a_c = (1 - e) w_t [c = t] + e w_c / C
    backward  dL/dx_k = u_i (p_k sum_c a_c - a_k)

since d q_c / d x_k = [c = k] - p_k. With class probabilities t_c, a_c = w_c ((1 - e) t_c + e / C), the mean
is over samples, and dL/dt_c = -u_i (1 - e) w_c q_c. Ignored samples have u_i = 0.

Sources: Good (1952); Bridle (1990); Szegedy et al. (2016), arXiv:1512.00567, section 7 (label smoothing).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.elementwise import tiles
from torch_backprop.layers.loss.reduction import reduced, resolve, spread
from torch_backprop.layers.loss.samples import Samples, along_classes
from torch_backprop.rule import FLOAT32, Rule, first_order, is_plain, save, widen
from torch_backprop.spec import Draw, LayerSpec, case


class CrossEntropyRule(Rule):
    """Class indices. Saves x, t, w, and of each sample its largest logit m and z = log sum exp(x - m).

    The last two give p in one exponential on the first-order path, where the gradient is written tile by
    tile: no other tensor of the size of x exists, forwards or backwards. Returns ``(loss, m, z)``.
    """

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(
        x: Tensor, t: Tensor, w: Tensor | None, reduction: str, ignore_index: int, smoothing: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        F.nll_loss(x, t, w, ignore_index=ignore_index, reduction="none")  # torch's checks, in torch's words
        m, z = _statistics(x)
        samples = Samples(t, w, ignore_index, x.dim(), z.dtype)
        q_t = samples.gather(x) - m.squeeze(samples.dim) - z.squeeze(samples.dim)
        losses = -samples.weights * q_t
        if smoothing:
            losses = (1 - smoothing) * losses - samples.smoothed(widen(x) - m - z, w) * smoothing
        return reduced(losses, reduction, samples.weights.sum()).to(x.dtype), m, z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, t, w, ctx.reduction, ctx.ignore_index, ctx.smoothing = inputs
        ctx.mark_non_differentiable(*output[1:])
        save(ctx, x, t, w, *output[1:])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w, m, z = ctx.saved_tensors
        samples = Samples(t, w, ctx.ignore_index, x.dim(), z.dtype)
        u = samples.upstream(widen(grad_y), ctx.reduction)
        gradient = _Gradient(samples, w, u, ctx.smoothing, x)
        if first_order(grad_y, x) and x.dim() > 1:
            grad_x = gradient.by_tiles(x, m, z)
        else:
            grad_x = gradient.whole(torch.softmax(widen(x), samples.dim)).to(x.dtype)
        return grad_x, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        x, t, w, _, _ = ctx.saved_tensors
        samples = Samples(t, w, ctx.ignore_index, x.dim(), x.dtype)
        gradient = _Gradient(samples, w, samples.valid, ctx.smoothing, x)
        tangent = (gradient.whole(torch.softmax(x, samples.dim)) * tangent_x).sum(samples.dim)
        return reduced(tangent, ctx.reduction, samples.weights.sum()), None, None


class SoftCrossEntropyRule(Rule):
    """Class probabilities. Saves x, t and w."""

    autocast = {"cpu": FLOAT32, "cuda": FLOAT32}

    @staticmethod
    def forward(x: Tensor, t: Tensor, w: Tensor | None, reduction: str, smoothing: float) -> Tensor:
        return F.cross_entropy(x, t, w, reduction=reduction, label_smoothing=smoothing)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, t, w, ctx.reduction, ctx.smoothing = inputs
        ctx.dim = min(1, x.dim() - 1)
        ctx.samples = x.numel() // x.shape[ctx.dim] if x.numel() else 0
        save(ctx, x, t, w)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        x, t, w = ctx.saved_tensors
        needs_x, needs_t, needs_w = ctx.needs_input_grad[:3]
        q = torch.log_softmax(widen(x), ctx.dim)
        weights, smoothed = _soft_target(ctx, q, t, w)
        u = spread(widen(grad_y), ctx.reduction, ctx.samples)
        u = u if ctx.reduction != "none" else u.unsqueeze(ctx.dim)
        grad_x = grad_t = grad_w = None
        if needs_x:
            a = weights * smoothed
            grad_x = (u * (q.exp() * a.sum(ctx.dim, keepdim=True) - a)).to(x.dtype)
        if needs_t:
            grad_t = (-u * (1 - ctx.smoothing) * weights * q).to(t.dtype)
        if needs_w:
            grad_w = (-u * smoothed * q).transpose(0, ctx.dim).reshape(w.shape[0], -1).sum(1).to(w.dtype)
        return grad_x, grad_t, grad_w, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        x, t, w = ctx.saved_tensors
        tangent_x, tangent_t, tangent_w, *_ = tangents
        q = torch.log_softmax(x, ctx.dim)
        weights, smoothed = _soft_target(ctx, q, t, w)
        terms = torch.zeros_like(q)
        if tangent_x is not None:
            a = weights * smoothed
            terms = terms + (q.exp() * a.sum(ctx.dim, keepdim=True) - a) * tangent_x
        if tangent_t is not None:
            terms = terms - (1 - ctx.smoothing) * weights * q * tangent_t
        if tangent_w is not None:
            terms = terms - smoothed * q * along_classes(tangent_w, q.dim())
        return reduced(terms.sum(ctx.dim), ctx.reduction, ctx.samples)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-sum_c t_c log softmax(x)_c; as :func:`torch.nn.functional.cross_entropy`.

    Args:
        input: logits ``(N, C, *)`` or ``(C)``.
        target: class indices ``(N, *)`` or ``()``, or class probabilities of the shape of the input.
        weight: ``(C)``; differentiable with class probabilities only.
        size_average: deprecated.
        ignore_index: the class index that counts for nothing.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over the weights of the targets; over samples with probabilities)
            or ``"sum"``.
        label_smoothing: the part of the target, in [0, 1], spread evenly over the classes.

    Returns:
        ``()``, or ``(N, *)`` without a reduction; in nats.

    Raises:
        IndexError: a target that is no class, in torch's words.
        RuntimeError: shapes or dtypes that do not fit, a label smoothing outside [0, 1], or a weight that
            requires a gradient with class indices, in torch's words.
    """
    reduction = resolve(size_average, reduce, reduction)
    soft = target.shape == input.shape
    refused = not soft and weight is not None and weight.requires_grad
    if refused or not 0 <= label_smoothing <= 1 or input.dim() == 0:
        return F.cross_entropy(input, target, weight, None, ignore_index, None, reduction, label_smoothing)
    if soft:
        return SoftCrossEntropyRule.call(input, target, weight, reduction, label_smoothing)
    return CrossEntropyRule.call(input, target, weight, reduction, ignore_index, label_smoothing)[0]


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """Drop-in for :class:`torch.nn.CrossEntropyLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, C, *)`` and ``(N, *)`` or ``(N, C, *)`` to ``()``, or ``(N, *)`` without a reduction."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """m and z of each sample, with the dimension of the classes kept, in float32 or wider."""
    dim = min(1, x.dim() - 1)
    m = widen(x.amax(dim, keepdim=True))
    if torch.compiler.is_compiling() or not is_plain(x) or dim == 0:
        return m, (widen(x) - m).exp().sum(dim, keepdim=True).log()
    z = torch.empty_like(m)
    for z_tile, x_tile, m_tile in tiles(z, x, m):
        z_tile.copy_((widen(x_tile) - m_tile).exp_().sum(dim, keepdim=True).log_())
    return m, z


class _Gradient:
    """u_i (p_k sum_c a_c - a_k) as p_k row_i - even_k u_i + column_i [k = t]."""

    def __init__(self, samples: Samples, w: Tensor | None, u: Tensor, smoothing: float, x: Tensor):
        share = smoothing / x.shape[samples.dim]
        w = None if w is None else w.to(u.dtype)
        picked = (1 - smoothing) * samples.weights
        self.row = u * (picked + (smoothing if w is None else w.sum() * share))
        self.even = share if w is None or not share else along_classes(w, x.dim()) * share
        self.column, self.u, self.samples = -picked * u, u, samples

    def whole(self, p: Tensor) -> Tensor:
        """From the softmax p of all samples, in differentiable operators."""
        parts = (
            part.unsqueeze(self.samples.dim) for part in (self.row, self.u, self.column, self.samples.target)
        )
        return self._combine(p, *parts)

    def by_tiles(self, x: Tensor, m: Tensor, z: Tensor) -> Tensor:
        """From the logits, with no other tensor of their size; first order only."""
        grad_x = torch.empty_like(x)
        parts = (part.unsqueeze(1) for part in (self.row, self.u, self.column, self.samples.target))
        for grad_tile, x_tile, m_tile, z_tile, *part_tiles in tiles(grad_x, x, m, z, *parts):
            p = (widen(x_tile) - m_tile).sub_(z_tile).exp_()
            grad_tile.copy_(self._combine(p, *part_tiles))
        return grad_x

    def _combine(self, p: Tensor, row: Tensor, u: Tensor, column: Tensor, target: Tensor) -> Tensor:
        dense = p * row
        if isinstance(self.even, Tensor) or self.even:
            dense = dense - self.even * u
        return dense.scatter_add(self.samples.dim, target, column)


def _soft_target(ctx: Any, q: Tensor, t: Tensor, w: Tensor | None) -> tuple[Tensor | int, Tensor]:
    """The class weights along the classes, and the target with its label smoothing."""
    smoothed = (1 - ctx.smoothing) * t + ctx.smoothing / q.shape[ctx.dim]
    return 1 if w is None else along_classes(w, q.dim()), smoothed


def _classes(*shape: int) -> Draw:
    return Draw(shape, "classes", 4)


SPECS = (
    LayerSpec(
        CrossEntropyLoss,
        torch.nn.CrossEntropyLoss,
        (
            case((6, 4), _classes(6)),
            case((6, 4), _classes(6), weight=Draw((4,), "unit"), ignore_index=1, label_smoothing=0.2),
            case((2, 4, 3), _classes(2, 3), reduction="none", label_smoothing=0.1),
            case((4,), _classes(), reduction="sum"),
            case((6, 4), Draw((6, 4), "probabilities"), weight=Draw((4,), "unit"), label_smoothing=0.1),
            case((2, 4, 3), Draw((2, 4, 3), "probabilities"), reduction="none"),
        ),
    ),
)
