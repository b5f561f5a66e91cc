r"""Step sizes from two gradients. Barzilai & Borwein (1988), IMA J. Numerical Analysis 8, 141-148, eq. 5.

With s = theta_k - theta_{k-1} and y = g_k - g_{k-1} the step is the scalar approximation of the inverse
Hessian that solves the secant equation, min_t ||s / t - y||:

    t = <s, s> / <s, y>

Parameter groups with learning rates of their own are measured in units of these, s^2 / lr.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def secant_step(
    gradients: Mapping[Tensor, Tensor], rates: Mapping[Tensor, float], state: Mapping[Tensor, dict[str, Any]]
) -> float | None:
    """Return the step in units of the learning rates, and keep parameters and gradients for the next one.

    Returns:
        None at the first call, and where the curvature <s, y> is not above 0.
    """
    length, curvature, known = 0.0, 0.0, True
    for theta, gradient in gradients.items():
        # In the optimizer's state, so that a resumed run has them.
        kept = state[theta]
        known = known and "previous_gradient" in kept
        if "previous_gradient" in kept:
            change = theta - kept["previous_parameter"]
            length += inner(change, change) / rates[theta]
            curvature += inner(change, gradient - kept["previous_gradient"])
        kept["previous_parameter"], kept["previous_gradient"] = theta.clone(), gradient.clone()
    return length / curvature if known and curvature > 0 else None


def inner(a: Tensor, b: Tensor) -> float:
    """Return the inner product of two tensors as vectors of real numbers."""
    return torch.linalg.vecdot(a.flatten(), b.flatten()).real.item()
