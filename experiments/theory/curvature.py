r"""The curvature of a problem's cost, and its minimum, both to rounding.

Batch descent at rate lr near a minimum theta* with Hessian H = sum_i lambda_i u_i u_i' is linear:

    theta_k - theta* = (I - lr H)^k (theta_0 - theta*),   c_i <- (1 - lr lambda_i) c_i   along each u_i

so the gradient norm falls by the factor max_i |1 - lr lambda_i| per update in the end, and the cost's height
over the minimum, sum_i lambda_i c_i^2 / 2, by its square (Nesterov 2004, Introductory Lectures, sec. 1.2.3).
"""

import math

import torch
from torch import Tensor
from torch.func import functional_call, grad, jacrev
from torch.nn.utils import parameters_to_vector

from experiments.data.module import Part
from experiments.model.learner import Learner

# Rows of the Hessian computed at once, so that its memory does not grow with its square.
CHUNK = 64


class Surface:
    """A learner's cost over some rows, with a penalty, as a function of one vector of all parameters."""

    def __init__(self, learner: Learner, part: Part, decay: float = 0.0) -> None:
        self._learner, self._part, self._decay = learner, part, decay
        self._parameters = dict(learner.named_parameters())
        self._sizes = [value.numel() for value in self._parameters.values()]

    @property
    def size(self) -> int:
        """The number P of parameters."""
        return sum(self._sizes)

    def at(self, theta: Tensor) -> Tensor:
        """Return F(theta) as a scalar; theta has shape (P,)."""
        parts = theta.split(self._sizes)
        shaped = {
            name: part.view_as(value)
            for (name, value), part in zip(self._parameters.items(), parts, strict=True)
        }
        x, y = self._part.x.to(theta.device), self._part.y.to(theta.device)
        cost = self._learner.cost_of(functional_call(self._learner, shaped, (x,)), y)
        return cost + self._decay / 2 * theta.square().sum()

    def gradient(self, theta: Tensor) -> Tensor:
        """Return grad F of shape (P,)."""
        return grad(self.at)(theta)

    def hessian(self, theta: Tensor) -> Tensor:
        """Return the Hessian of shape (P, P)."""
        return jacrev(grad(self.at), chunk_size=CHUNK)(theta)

    def point(self) -> Tensor:
        """Return the present parameters as one vector."""
        return parameters_to_vector(self._parameters.values()).detach()

    @torch.no_grad()
    def here(self) -> float:
        """Return F at the present parameters."""
        return self.at(self.point()).item()


def minimum(surface: Surface, start: Tensor, iterations: int = 20) -> Tensor | None:
    """Return the minimum beside a point close to one, by Newton's method; None if there is none so near."""
    theta, before = start, math.inf
    for _ in range(iterations):
        gradient = surface.gradient(theta)
        factor, failed = torch.linalg.cholesky_ex(surface.hessian(theta))
        # Close enough Newton's method converges; it does not fall at all far away.
        if failed or gradient.norm() >= max(before, 1e-12):
            return None
        before = gradient.norm().item()
        if before <= 1e-14:
            break
        theta = theta - torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    return theta
