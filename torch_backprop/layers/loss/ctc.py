"""Connectionist temporal classification. Graves et al. (2006), ICML, 369-376.

Of one sample with log-probabilities x_tc over time t < T and classes c, and a target interleaved with blanks
as labels l_s, s = 0 .. 2S, let a_ts be the log of the sum over all beginnings of a path that are in s at t,
b_ts that over all ends from there (eqs. 6-11), and K(s) the s' from which a path may come: s, s - 1, and
s - 2 unless l_s is blank or equal to l_(s-2):

    forward   a_ts = x_t,l_s + log sum_{s' in K(s)} exp a_(t-1)s'
              l = -log(exp a_(T-1)(2S) + exp a_(T-1)(2S-1))
              b is a of the reversed target in reversed time
    backward  dL/dx_tc = u (exp x_tc - sum_{s: l_s = c} exp(a_ts + b_ts - x_tc + l))          (eqs. 14-16)

The sum is the probability that a path of the target is in c at t. exp x_tc is torch's: it makes of the
gradient by the log-probabilities that by their logits, and log_softmax passes it on unchanged, because it
sums to 0 over c. Forward mode and second derivatives are those of this gradient, right in the same sense.
What is impossible has a very negative logarithm, not an infinite one, whose differences are undefined.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.pointwise import CAST
from torch_backprop.layers.loss.reduction import whole
from torch_backprop.rule import Rule, first_order, is_plain, save
from torch_backprop.spec import Draw, LayerSpec, case

NEVER = -1e30
"""The logarithm of an impossible path's probability."""


class CTCRule(Rule):
    """Saves x, the target, the lengths, and a for the first-order path.

    Returns ``(l, a)``: each sample's loss, and torch's a as ``(N, T, 2S + 1)``, or empty.
    """

    autocast = CAST

    @staticmethod
    def forward(
        x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int, zero: bool
    ) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
            paths = _Paths(x, targets, input_lengths, target_lengths, blank)
            losses = paths.losses(paths.beginnings(x))
            if torch.compiler.is_compiling():
                # within a compiled transform this is what is differentiated
                total = torch.where(paths.within.unsqueeze(2), x.exp(), 0).sum((0, 2))
                losses = losses + (total - total.detach())
            return losses, x.new_zeros(0)
        # torch steps over gaps between targets that are listed one after the other
        targets = targets.contiguous()
        return torch._ctc_loss(x, targets, input_lengths, target_lengths, blank, zero)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, targets, *lengths, ctx.blank, ctx.zero = inputs
        ctx.mark_non_differentiable(output[1])
        # as numbers where they can be read, as torch keeps them
        ctx.lengths = [given.tolist() for given in lengths] if is_plain(x) else None
        save(ctx, x, output[1], targets, *(() if ctx.lengths else lengths))

    @staticmethod
    def backward(ctx: Any, grad_l: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, a, *lists = ctx.saved_tensors
        fast = first_order(grad_l, x) and a.numel() > 0
        within, slopes = _slopes(ctx, x, lists, a.transpose(0, 1) if fast else None)
        # chosen, not multiplied: behind the end of a sample the gradient is 0 even of an infinite one
        return torch.where(within, slopes * grad_l.unsqueeze(-1), 0), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor, *_: Any) -> tuple[Tensor, None]:
        x, _, *lists = ctx.saved_tensors
        within, slopes = _slopes(ctx, x, lists, None)
        return torch.where(within, slopes * tangent_x, 0).sum((0, 2)), None


class _Paths:
    """The paths of targets through time."""

    def __init__(
        self, x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
    ) -> None:
        padded = _padded(targets, target_lengths)
        n, s = padded.shape
        in_time = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
        place = torch.arange(2 * s + 1, device=x.device)
        labels = torch.stack((padded, torch.full_like(padded, blank)), 2).reshape(n, 2 * s)
        self.labels = F.pad(labels, (1, 0), value=blank)
        self.lasts = 2 * target_lengths.unsqueeze(1)
        self.within = in_time < input_lengths
        is_valid = place <= self.lasts
        self.reached = self.within.unsqueeze(2) & is_valid
        before = _shifted(self.labels, 2, blank)
        skips = (self.labels != blank) & (self.labels != before)
        self.skips = _logarithm(skips, x.dtype)
        # and in the reversed direction
        self.skips_back = _shifted(self.skips.flip(1), 2, NEVER)
        self.first = _logarithm((in_time == 0).unsqueeze(2) & (place < 2) & is_valid, x.dtype)
        is_last = is_valid & (place >= self.lasts - 1)
        self.last = _logarithm((in_time == input_lengths - 1).unsqueeze(2) & is_last, x.dtype)

    def beginnings(self, x: Tensor) -> Tensor:
        """a as ``(T, N, 2S + 1)``."""
        return _sums(self.along(x), self.first, self.skips)

    def ends(self, x: Tensor) -> Tensor:
        """b as ``(T, N, 2S + 1)``."""
        return _sums(self.along(x).flip(0, 2), self.last.flip(0, 2), self.skips_back).flip(0, 2)

    def along(self, x: Tensor) -> Tensor:
        """x_t,l_s."""
        return x.gather(2, self.labels.expand(x.shape[0], *self.labels.shape))

    def losses(self, a: Tensor) -> Tensor:
        losses = -torch.logsumexp((a + self.last).transpose(0, 1).flatten(1), 1)
        return torch.where(losses > -NEVER / 2, torch.inf, losses)

    def occupied(self, states: Tensor, x: Tensor) -> Tensor:
        """Sums over the states of a label."""
        places = self.labels.expand(states.shape)
        return torch.zeros_like(x).scatter_add(2, places, states)


def _slopes(ctx: Any, x: Tensor, lists: list[Tensor], a: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which times are within a sample, and how its loss changes with x there."""
    if ctx.lengths:
        lists = [*lists, *(torch.tensor(given, device=x.device) for given in ctx.lengths)]
    paths = _Paths(x, *lists, ctx.blank)
    # torch does not initialize what is behind the end of a target or a sample
    a = paths.beginnings(x) if a is None else torch.where(paths.reached, a, NEVER)
    missed = paths.losses(a).isinf()
    # of every t the sum over s is exp(-l): to divide by it is more precise than to add l
    states = torch.softmax(a + paths.ends(x) - paths.along(x), 2)
    slopes = x.exp() - paths.occupied(states, x)
    missing = 0 if ctx.zero else torch.nan
    return paths.within.unsqueeze(2), torch.where(missed.unsqueeze(1), missing, slopes)


def _sums(x: Tensor, first: Tensor, skips: Tensor) -> Tensor:
    """a_ts from a_(t-1)s by logarithms of sums, in differentiable operators."""
    a = torch.full_like(x[0], NEVER)
    rows = []
    for x_t, first_t in zip(x.unbind(0), first.unbind(0), strict=True):
        ways = torch.stack((a, _shifted(a, 1, NEVER), _shifted(a, 2, NEVER) + skips, first_t))
        a = torch.logsumexp(ways, 0) + x_t
        rows.append(a)
    return torch.stack(rows)


def _shifted(row: Tensor, places: int, value: float) -> Tensor:
    return F.pad(row, (places, 0), value=value)[..., : row.shape[-1]]


def _logarithm(mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(mask, 0.0, NEVER).to(dtype)


def _padded(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets ``(N, S)`` of samples that may be listed one after the other; what is padding is some class."""
    # under a transform the longest is not known
    longest = int(lengths.max()) if is_plain(lengths) and lengths.numel() else targets.shape[-1]
    if targets.dim() == 2:
        targets = targets[:, :longest]
    else:
        places = (lengths.cumsum(0) - lengths).unsqueeze(1) + torch.arange(longest, device=targets.device)
        targets = targets[places.clamp(max=max(targets.shape[0] - 1, 0))]
    within = torch.arange(longest, device=targets.device) < lengths.unsqueeze(1)
    return torch.where(within, targets, 0).long()


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
        RuntimeError: shapes, lengths or dtypes that do not fit, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    lengths = [_tensor(given, log_probs) for given in (input_lengths, target_lengths)]
    batched = log_probs.dim() == 3
    # what torch refuses, it refuses itself, in its own words
    if is_plain(log_probs) and not _fits(log_probs, targets, *lengths):
        return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
    x = log_probs if batched else log_probs.unsqueeze(1)
    input_lengths, target_lengths = (given.reshape(x.shape[1]) for given in lengths)
    losses, _ = CTCRule.call(x, targets, input_lengths, target_lengths, blank, zero_infinity)
    if zero_infinity:
        losses = torch.where(losses == torch.inf, 0, losses)
    if reduction == "mean":
        losses = losses / target_lengths.clamp(min=1)
    return whole(losses if batched or reduction != "none" else losses.squeeze(0), reduction)


class CTCLoss(torch.nn.CTCLoss):
    """Drop-in for :class:`torch.nn.CTCLoss`."""

    def forward(
        self, log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """Maps ``(T, N, C)``, ``(N, S)``, ``(N)`` and ``(N)`` to ``()``, or ``(N)`` without a reduction."""
        return ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )


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
            case(
                _unit(2, 4, 5),
                _classes(4, 2),
                _lengths(2, 4),
                _lengths(2, 4),
                blank=4,
                zero_infinity=True,
            ),
            case(_unit(5, 5), _classes(1), _lengths(5), _lengths(1), blank=4, reduction="none"),
        ),
    ),
)
