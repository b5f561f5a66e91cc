"""Connectionist temporal classification. Graves et al. (2006), ICML, 369-376.

Of one sample with log-probabilities x_tc over time t < T and classes c, and a target interleaved with blanks
as labels l_s, s = 0 .. 2S, let a_ts be the log of the sum over all beginnings of a path that are in s at t,
b_ts that over all ends from there (eqs. 6-11), and K(s) the s' from which a path may come: s, s - 1, and
s - 2 unless s is even or l_s equal to l_(s-2):

    forward   a_ts = x_t,l_s + log sum_{s' in K(s)} exp a_(t-1)s'
              l = -log(exp a_(T-1)(2S) + exp a_(T-1)(2S-1))
              b is a of the reversed target in reversed time
    backward  dL/dx_tc = u (exp x_tc - sum_{s: l_s = c} exp(a_ts + b_ts - x_tc + l))          (eqs. 14-16)

The sum is the probability that a path of the target is in c at t, since such a path is a beginning and an
end, which both count x_tc. exp x_tc is torch's: it makes of the gradient by the log-probabilities that by
their logits, and log_softmax passes it on unchanged, because it sums to 0 over c. Forward mode and second
derivatives are those of this gradient, right in the same sense. What is impossible has a very negative
logarithm, not an infinite one, whose differences are undefined.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.paths import Paths, in_one_piece, padded
from torch_backprop.layers.loss.pointwise import CAST
from torch_backprop.layers.loss.reduction import resolve, whole
from torch_backprop.rule import Rule, is_plain, save
from torch_backprop.spec import Draw, LayerSpec, case


class CTCRule(Rule):
    """Saves x, l, the target and the lengths; a and b are computed in one loop over time."""

    autocast = CAST

    @staticmethod
    def forward(
        x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero: bool
    ) -> Tensor:
        given = x, targets, input_lengths, target_lengths, blank
        compiling = torch.compiler.is_compiling()
        if in_one_piece():
            return _compiled(*given, zero)
        if not (compiling or torch._C._are_functorch_transforms_active()):
            return _losses(*given, zero)
        paths = Paths(*given)
        losses = paths.losses(x)
        if compiling:
            # within a compiled transform this is what is differentiated
            total = torch.where(paths.within, x.exp(), 0).sum((0, 2))
            losses = losses + (total - total.detach())
        return losses

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, targets, *lengths, ctx.blank, ctx.zero = inputs
        # as numbers where they can be read, as torch keeps them
        ctx.lengths = [given.tolist() for given in lengths] if is_plain(x) else None
        save(ctx, x, targets, output, *(() if ctx.lengths else lengths))

    @staticmethod
    def backward(ctx: Any, grad_l: Tensor) -> tuple[Tensor | None, ...]:
        within, slopes = _slopes(ctx, *ctx.saved_tensors)
        # chosen, not multiplied: behind the end of a sample the gradient is 0 even of an infinite one
        return torch.where(within, slopes * grad_l.unsqueeze(-1), 0), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> Tensor:
        within, slopes = _slopes(ctx, *ctx.saved_tensors)
        return torch.where(within, slopes * tangent_x, 0).sum((0, 2))


def _losses(
    x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero: bool
) -> Tensor:
    """l ``(N)`` by torch's operator."""
    _refuse_outside(targets, target_lengths, x.shape[2])
    # torch steps over gaps between targets that are listed one after the other
    given = (x, targets.contiguous(), input_lengths, target_lengths, blank, zero)
    return torch.ops.aten._ctc_loss.Tensor(*given)[0]


# torch's has another output, whose size a compiler cannot know
_compiled = torch.library.custom_op("torch_backprop::ctc_loss", _losses, mutates_args=())


@_compiled.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape[1])


def _slopes(ctx: Any, x: Tensor, targets: Tensor, losses: Tensor, *lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Which times are within a sample, and how its loss changes with x there."""
    if ctx.lengths:
        lengths = tuple(torch.tensor(given, device=x.device) for given in ctx.lengths)
    steps, counts = lengths
    paths = Paths(x, targets, steps, counts, ctx.blank)
    along, a, b = paths.sums(x)
    # of every t the sum over s is exp(-l): to divide by it is more precise than to add l
    states = torch.softmax(a + b - along, 2)
    places = paths.labels.expand(states.shape)
    slopes = x.exp() - torch.zeros_like(x).scatter_add(2, places, states)
    missed = (losses == torch.inf).unsqueeze(1)
    return paths.within, torch.where(missed, 0 if ctx.zero else torch.nan, slopes)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of a sequence without alignment; as :func:`torch.nn.functional.ctc_loss`.

    Args:
        log_probs: ``(T, N, C)`` or ``(T, C)``, the output of a log_softmax.
        targets: class indices without blanks, ``(N, S)``, or of all samples one after the other.
        input_lengths: ``(N)`` or ``()``, at most T.
        target_lengths: ``(N)`` or ``()``.
        blank: the class that stands for none.
        reduction: ``"none"``, ``"mean"`` (over samples, each over its target's length) or ``"sum"``.
        zero_infinity: whether a target too long for its input counts for nothing.

    Returns:
        ``()``, or ``(N)`` without a reduction; in nats.

    Raises:
        IndexError: a target that is no class, for which torch would read memory that is not its own.
        RuntimeError: shapes, lengths or dtypes that do not fit, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = resolve(None, None, reduction)
    lengths = [_tensor(given, log_probs) for given in (input_lengths, target_lengths)]
    batched = log_probs.dim() == 3
    # what torch refuses, it refuses itself, in its own words
    if is_plain(log_probs) and not _fits(log_probs, targets, *lengths):
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
    x = log_probs if batched else log_probs.unsqueeze(1)
    input_lengths, target_lengths = (given.reshape(x.shape[1]) for given in lengths)
    losses = CTCRule.call(x, targets, input_lengths, target_lengths, blank, zero_infinity)
    if zero_infinity:
        losses = torch.where(losses == torch.inf, 0, losses)
    if reduction == "mean":
        losses = losses / target_lengths.clamp(min=1)
    return whole(losses if batched or reduction != "none" else losses.squeeze(0), reduction)


def _refuse_outside(targets: Tensor, lengths: Tensor, classes: int) -> None:
    if is_plain(targets) and targets.numel():
        labels = padded(targets, lengths)
        outside = labels[(labels < 0) | (labels >= classes)]
        if outside.numel():
            raise IndexError(f"Target {int(outside[0])} is out of bounds.")


class CTCLoss(torch.nn.CTCLoss):
    """Drop-in for :class:`torch.nn.CTCLoss`."""

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Maps ``(T, N, C)``, ``(N, S)``, ``(N)`` and ``(N)`` to ``()``, or ``(N)`` without a reduction."""
        given = log_probs, targets, input_lengths, target_lengths
        return ctc_loss(*given, self.blank, self.reduction, self.zero_infinity)


def _tensor(lengths: Any, like: Tensor) -> Tensor:
    return lengths if isinstance(lengths, Tensor) else torch.tensor(lengths, device=like.device)


def _fits(x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor) -> bool:
    lists = (targets, input_lengths, target_lengths)
    integers = not any(y.is_floating_point() or y.is_complex() for y in lists)
    n = x.shape[1] if x.dim() == 3 else 1
    return (
        x.dim() in (2, 3)
        and x.is_floating_point()
        and integers
        and targets.dim() in (1, 2)
        and input_lengths.numel() == target_lengths.numel() == n
    )


def _unit(*shape: int) -> Draw:
    return Draw(shape, "unit")


def _classes(*shape: int) -> Draw:
    return Draw(shape, "classes", 4)


def _lengths(longest: int, *shape: int) -> Draw:
    return Draw(shape, "lengths", longest)


SPECS = (
    LayerSpec(
        CTCLoss,
        torch.nn.CTCLoss,
        (
            case(_unit(5, 3, 5), _classes(3, 2), _lengths(5, 3), Draw((3,), "classes", 3), blank=4),
            case(_unit(2, 4, 5), _classes(4, 2), *[_lengths(2, 4)] * 2, blank=4, zero_infinity=True),
            case(_unit(5, 5), _classes(1), _lengths(5), _lengths(1), blank=4, reduction="none"),
        ),
        large=case(
            (200, 64, 100),
            Draw((64, 40), "classes", 99),
            Draw((64,), "lengths", 200),
            Draw((64,), "lengths", 40),
            blank=99,
        ),
    ),
)
