"""Losses that compare distributions: the Kullback-Leibler divergence and the Poisson likelihood.

With target t and u what reaches each element:

    kl        forward   l = t (log t - x)                       backward  dL/dx = -u t
              x a log-probability                                         dL/dt = u (log t + 1 - x)
              of log t:  l = e^t (t - x)                                  dL/dt = u e^t (t + 1 - x)
    poisson   forward   l = e^x - t x + s(t)                    backward  dL/dx = u (e^x - t)
              x the log of the rate                                       dL/dt = u (s'(t) - x)
              of the rate:  l = x - t log(x + e) + s(t)                   dL/dx = u (1 - t / (x + e))
                                                                            dL/dt = u (s'(t) - log(x + e))

since d(t log t)/dt = log t + 1. With ``full`` s(t) = t log t - t + log(2 pi t) / 2 where t > 1, Stirling's
logarithm of t!, so that s'(t) = log t + 1 / (2 t); else s is 0.

Kullback & Leibler (1951), Ann. Math. Statist. 22, 79-86, section 2; Poisson (1837); Stirling (1730).
Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 3.50 (kl).
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop.layers.loss.pointwise import CAST, pointwise
from torch_backprop.layers.loss.reduction import flagged, resolve, whole
from torch_backprop.rule import private
from torch_backprop.spec import Draw, LayerSpec, case

MEAN_WARNING = (
    "reduction: 'mean' divides the total loss by both the batch size and the support size."
    "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
    "'mean' will be changed to behave the same as 'batchmean' in the next major release."
)


def _kl(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    # of its operators, because torch's own has no batching rule
    return whole(torch.xlogy(t, t) - t * x, reduction)


def _kl_of_logs(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return whole(torch.exp(t) * (t - x), reduction)


def _poisson(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.poisson_nll_loss(x, t, reduction=reduction)


def _full_poisson(x: Tensor, t: Tensor, reduction: str) -> Tensor:
    return F.poisson_nll_loss(x, t, full=True, reduction=reduction)


def _poisson_of_rate(x: Tensor, t: Tensor, eps: float, reduction: str) -> Tensor:
    return F.poisson_nll_loss(x, t, False, eps=eps, reduction=reduction)


def _full_poisson_of_rate(x: Tensor, t: Tensor, eps: float, reduction: str) -> Tensor:
    return F.poisson_nll_loss(x, t, False, True, eps=eps, reduction=reduction)


def _stirling(t: Tensor) -> Tensor:
    """s'(t)."""
    # where it counts for nothing its logarithm may not be undefined
    above = torch.where(t <= 1, 1, t)
    return torch.where(t <= 1, 0, above.log() + 0.5 / above)


KLRule = pointwise(
    _kl,
    CAST,
    x=lambda u, t: -t * u,
    # 1 as t / t, because torch's derivative is undefined at 0
    t=lambda u, x, t: (torch.log(t) + t / t - x) * u,
)
KLOfLogsRule = pointwise(
    _kl_of_logs,
    CAST,
    x=lambda u, t: -torch.exp(t) * u,
    t=lambda u, x, t: (torch.exp(t) * (t - x) + torch.exp(t)) * u,
)
PoissonRule = pointwise(_poisson, CAST, x=lambda u, x, t: (torch.exp(x) - t) * u, t=lambda u, x: -x * u)
FullPoissonRule = pointwise(
    _full_poisson,
    CAST,
    x=lambda u, x, t: (torch.exp(x) - t) * u,
    t=lambda u, x, t: (_stirling(t) - x) * u,
)
PoissonOfRateRule = pointwise(
    _poisson_of_rate,
    CAST,
    x=lambda u, x, t, eps: (1 - t / (x + eps)) * u,
    t=lambda u, x, eps: -torch.log(x + eps) * u,
)
FullPoissonOfRateRule = pointwise(
    _full_poisson_of_rate,
    CAST,
    x=lambda u, x, t, eps: (1 - t / (x + eps)) * u,
    t=lambda u, x, t, eps: (_stirling(t) - torch.log(x + eps)) * u,
)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (log t - x); as :func:`torch.nn.functional.kl_div`.

    Args:
        input: log-probabilities ``(*)``.
        target: probabilities ``(*)``, or their logarithms.
        size_average: deprecated.
        reduce: deprecated.
        reduction: ``"none"``, ``"batchmean"`` (over the first dimension), ``"mean"`` (over elements, with a
            warning) or ``"sum"``.
        log_target: whether the target is logarithms.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        RuntimeError: complex inputs, in torch's words.
        ValueError: an unknown reduction, in torch's words.
    """
    by_batch = reduction == "batchmean"
    if reduction == "mean" and size_average is reduce is None and not torch.compiler.is_compiling():
        warnings.warn(MEAN_WARNING, stacklevel=2)
    reduction = resolve(size_average, reduce, "sum" if by_batch else reduction)
    # torch refuses them, in its own words
    if not (input.is_floating_point() and target.is_floating_point()):
        return torch.kl_div(input, target, log_target=log_target)
    if log_target:  # torch keeps exp(target) and a difference
        input, target = private(input, target), private(target, input)
    loss = (KLOfLogsRule if log_target else KLRule).call(input, target, reduction)
    return loss / input.shape[0] if by_batch and input.dim() else loss


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-log of the Poisson probability of t; as :func:`torch.nn.functional.poisson_nll_loss`.

    Args:
        input: the rate's logarithm or the rate ``(*)``.
        target: counts ``(*)``.
        log_input: whether the input is the logarithm.
        full: whether to add Stirling's approximation of log t!.
        size_average: deprecated.
        eps: added to the rate, against log 0.
        reduce: deprecated.
        reduction: ``"none"``, ``"mean"`` (over elements) or ``"sum"``.

    Returns:
        ``()``, or ``(*)`` without a reduction; in nats.

    Raises:
        ValueError: an unknown reduction, in torch's words.
    """
    reduction = flagged(size_average, reduce, reduction)
    # torch keeps exp(input), or input + eps
    input = private(input, target)
    if log_input:
        return (FullPoissonRule if full else PoissonRule).call(input, target, reduction)
    return (FullPoissonOfRateRule if full else PoissonOfRateRule).call(input, target, eps, reduction)


class KLDivLoss(torch.nn.KLDivLoss):
    """Drop-in for :class:`torch.nn.KLDivLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return kl_div(input, target, reduction=self.reduction, log_target=self.log_target)


class PoissonNLLLoss(torch.nn.PoissonNLLLoss):
    """Drop-in for :class:`torch.nn.PoissonNLLLoss`."""

    def forward(self, log_input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(*)`` and ``(*)`` to ``()``, or ``(*)`` without a reduction."""
        return poisson_nll_loss(
            log_input, target, self.log_input, self.full, eps=self.eps, reduction=self.reduction
        )


def _unit(*shape: int) -> Draw:
    return Draw(shape, "unit")


SPECS = (
    LayerSpec(
        KLDivLoss,
        torch.nn.KLDivLoss,
        (
            case((3, 4), Draw((3, 4), "probabilities")),
            case((3, 4), Draw((1, 4), "probabilities"), reduction="batchmean"),
            case((2, 3), (2, 3), log_target=True, reduction="sum"),
            case((5,), _unit(5), reduction="none"),
        ),
    ),
    LayerSpec(
        PoissonNLLLoss,
        torch.nn.PoissonNLLLoss,
        (
            case((3, 4), (3, 4)),
            case((3, 4), (3, 4), full=True, reduction="sum"),
            case(_unit(8), (8,), log_input=False, full=True, reduction="none"),
        ),
    ),
)
