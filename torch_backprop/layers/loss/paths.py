"""The paths of targets through time and the sums over them, by the names of the derivation in ``ctc``.

What is impossible has a very negative logarithm, not an infinite one, whose differences are undefined.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.rule import is_plain


def never(x: Tensor) -> float:
    """The logarithm of an impossible path's probability, in the dtype of ``x``."""
    # far below any other, and as far from overflow
    return -(torch.finfo(x.dtype).max ** 0.8)


class Paths:
    """The paths of targets through time.

    Attributes:
        labels: l ``(N, 2S + 1)``.
        skips: the logarithm of whether s - 2 is in K(s), ``(N, 2S + 1)``.
        within: whether a time is within its sample, ``(T, N, 1)``.
        first: the logarithm of whether a path may begin here, ``(T, N, 2S + 1)``.
        last: the logarithm of whether it may end here.
    """

    def __init__(
        self, x: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
    ) -> None:
        listed = padded(targets, target_lengths)
        n, s = listed.shape
        labels = torch.stack((listed, torch.full_like(listed, blank)), 2).reshape(n, 2 * s)
        self.labels = F.pad(labels, (1, 0), value=blank)
        before = _shifted(self.labels, 2, blank)
        time = torch.arange(x.shape[0], device=x.device).reshape(-1, 1, 1)
        state = torch.arange(2 * s + 1, device=x.device)
        self.skips = _logarithm((state % 2 == 1) & (self.labels != before), x)
        steps, lasts = input_lengths.unsqueeze(1), 2 * target_lengths.unsqueeze(1)
        self.within = time < steps
        self.first = _logarithm((time == 0) & (state < 2) & (state <= lasts), x)
        is_last = (state <= lasts) & (state >= lasts - 1)
        self.last = _logarithm((time == steps - 1) & is_last, x)

    def along(self, x: Tensor) -> Tensor:
        """x_t,l_s ``(T, N, 2S + 1)``."""
        return x.gather(2, self.labels.expand(x.shape[0], *self.labels.shape))

    def losses(self, x: Tensor) -> Tensor:
        """l ``(N)``."""
        a = _sums(self.along(x), self.first, self.skips, level=False)
        losses = -torch.logsumexp((a + self.last).transpose(0, 1).flatten(1), 1)
        return torch.where(losses > -never(x) / 2, torch.inf, losses)

    def sums(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x along the labels, a and b, but for a number for each time."""
        x = self.along(x)
        skips_back = _shifted(self.skips.flip(1), 2, never(x))
        # the reversed targets in reversed time beside the others: the loop costs the same
        a, b = _sums(
            torch.cat((x, x.flip(0, 2)), 1),
            torch.cat((self.first, self.last.flip(0, 2)), 1),
            torch.cat((self.skips, skips_back)),
        ).chunk(2, 1)
        return x, a, b.flip(0, 2)


def in_one_piece() -> bool:
    """Whether a compiler is to get a loop over time as one operator.

    It would unroll it, and takes minutes for thirty steps. But a transform differentiates what it sees, and
    an exported program knows no operators of this package.
    """
    compiling = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return compiling and not torch._C._are_functorch_transforms_active()


def _sums(x: Tensor, first: Tensor, skips: Tensor, level: bool = True) -> Tensor:
    """a_ts ``(T, N, 2S + 1)`` from a_(t-1)s.

    With ``level`` the largest of every time is made 0, because large logarithms have few digits.
    """
    return (_loop if in_one_piece() else _steps)(x, first, skips, level)


@torch.library.custom_op("torch_backprop::ctc_sums", mutates_args=())
def _loop(x: Tensor, first: Tensor, skips: Tensor, level: bool) -> Tensor:
    with torch.no_grad():
        return _steps(x, first, skips, level)


@_loop.register_fake
def _(x: Tensor, first: Tensor, skips: Tensor, level: bool) -> Tensor:
    return x.new_empty(x.shape)


def _steps(x: Tensor, first: Tensor, skips: Tensor, level: bool) -> Tensor:
    """The same by logarithms of sums, in differentiable operators."""
    impossible = never(x)
    a = torch.full_like(x[0], impossible)
    rows = []
    for x_t, first_t in zip(x.unbind(0), first.unbind(0), strict=True):
        ways = (a, first_t, _shifted(a, 1, impossible), _shifted(a, 2, impossible) + skips)
        if torch.is_grad_enabled():
            a = torch.logsumexp(torch.stack(ways), 0) + x_t
        else:
            # faster, but its second derivative overflows
            a = functools.reduce(torch.logaddexp, ways) + x_t
        if level:
            # where nothing is possible there is nothing to make 0
            a = a - a.detach().amax(1, keepdim=True).clamp(min=-1e6)
        rows.append(a)
    return torch.stack(rows)


def _shifted(row: Tensor, places: int, value: float) -> Tensor:
    return F.pad(row[..., : max(row.shape[-1] - places, 0)], (min(places, row.shape[-1]), 0), value=value)


def _logarithm(mask: Tensor, like: Tensor) -> Tensor:
    return torch.where(mask, like.new_zeros(()), never(like))


def padded(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets ``(N, S)`` of samples that may be listed one after the other; what is padding is some class."""
    # under a transform the longest is not known
    longest = max(int(lengths.max()), 0) if is_plain(lengths) and lengths.numel() else targets.shape[-1]
    if targets.dim() == 2:
        targets = targets[:, :longest]
    else:
        places = (lengths.cumsum(0) - lengths).unsqueeze(1) + torch.arange(longest, device=targets.device)
        targets = targets[places.clamp(max=max(targets.shape[0] - 1, 0))]
    within = torch.arange(longest, device=targets.device) < lengths.unsqueeze(1)
    return torch.where(within, targets, 0).long()
