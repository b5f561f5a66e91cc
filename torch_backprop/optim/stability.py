r"""The largest stable learning rate: 2 / lambda_max of the Hessian H of the objective.

Near a minimum a step multiplies the error along an eigenvector by 1 - lr lambda, which shrinks it for every
eigenvalue if and only if 0 < lr < 2 / lambda_max (LeCun et al. 1998, Efficient BackProp, section 5.1). Power
iteration finds lambda_max from products H v = grad <grad F, v>, so that H is never formed (Pearlmutter 1994).
"""

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.optim.bar import Bar
from torch_backprop.optim.rows import count_rows
from torch_backprop.optim.step_size import inner

Product = Callable[[list[Tensor]], list[Tensor]]


def largest_eigenvalue(product: Product, like: list[Tensor], iterations: int, tol: float) -> float:
    """Return the largest eigenvalue of a symmetric operator, by power iteration from a fixed random vector.

    Args:
        product: the operator on lists of tensors.
        like: tensors of the shapes, dtypes and devices that `product` takes.
        iterations: bound of the number of products.
        tol: relative change of the eigenvalue at which to stop.

    Example:
        >>> h = torch.diag(torch.tensor([-5.0, 1.0, 3.0]))
        >>> round(largest_eigenvalue(lambda v: [h @ v[0]], [torch.empty(3)], 200, 1e-7), 4)
        3.0
    """
    dominant = _dominant(product, like, iterations, tol)
    if dominant >= 0:
        return dominant
    # The largest in size is negative: shifted by it no eigenvalue is, and their order stays.

    def shifted(vector: list[Tensor]) -> list[Tensor]:
        return [image - dominant * part for image, part in zip(product(vector), vector, strict=True)]

    return _dominant(shifted, like, iterations, tol) + dominant


def _dominant(product: Product, like: list[Tensor], iterations: int, tol: float) -> float:
    # A generator of its own, on the CPU: the same start everywhere, and the user's numbers untouched.
    generator = torch.Generator().manual_seed(0)
    vector = _unit([torch.randn(part.shape, generator=generator).to(part) for part in like])
    value = math.inf
    for _ in range(iterations):
        image = product(vector)
        before, value = value, sum(map(inner, vector, image))
        if abs(value - before) <= tol * abs(value):
            return value
        vector = _unit(image)
    warnings.warn(
        f"Power iteration changes after {iterations} products by more than {tol:g}: lambda_max may be larger"
        f" than {value:g}; give more iterations.",
        stacklevel=4,
    )
    return value


def show(bar: Bar, products: int, iterations: int, batch: int) -> None:
    """Draw how far a power iteration is."""
    # Another as many products follow where the eigenvalue that is largest in size is negative.
    most = iterations * (products // iterations + 1)
    bar.show(products, most, f"product {products + 1} of at most {most}, batch {batch}")


def _unit(vector: list[Tensor]) -> list[Tensor]:
    norm = math.sqrt(sum(map(inner, vector, vector)))
    return [part / norm for part in vector] if norm else vector


class Hessian:
    """The Hessian of a mean cost over a loader, as an operator.

    Args:
        cost: a function of rows.
        loader: the batches of one pass, gone through at each product.
        parameters: the tensors to differentiate by.
        reduction: what `cost` is of several rows.
        sign: 1, or -1 for the Hessian of the negative cost.
        weight_decay: for each parameter what its own curvature is raised by.

    Attributes:
        look: is told how many products are done, and the number of each batch before it is gone through.
    """

    def __init__(
        self,
        cost: Callable[..., Any],
        loader: Iterable[Any],
        parameters: list[Tensor],
        reduction: str,
        sign: float,
        weight_decay: list[float],
    ) -> None:
        self.cost, self.loader, self.parameters = cost, loader, parameters
        self.reduction, self.sign, self.weight_decay = reduction, sign, weight_decay
        self.look: Callable[[int, int], None] = lambda products, batch: None
        self.products = 0

    def product(self, vector: list[Tensor]) -> list[Tensor]:
        """Return the Hessian times `vector`.

        Raises:
            ValueError: if the loader has no rows, as one that can be gone through only once.
        """
        sums, count = [torch.zeros_like(part) for part in vector], 0
        for number, batch in enumerate(self.loader, 1):
            self.look(self.products, number)
            rows = batch if isinstance(batch, (tuple, list)) else (batch,)
            size = count_rows(rows)
            share = size if self.reduction == "mean" else 1.0
            count += size
            for total, part in zip(sums, self._part(rows, vector), strict=True):
                total.add_(part, alpha=share)
        if not count:
            raise ValueError("loader has no rows: give a list of batches or a DataLoader, not an iterator.")
        self.products += 1
        decays = zip(sums, vector, self.weight_decay, strict=True)
        return [self.sign / count * total + decay * part for total, part, decay in decays]

    def _part(self, rows: Any, vector: list[Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            value = self.cost(*rows)
            # A parameter that the cost does without has a row of zeros in the Hessian.
            settings: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}
            first = torch.autograd.grad(value, self.parameters, create_graph=True, **settings)
            curved = [
                (gradient, part)
                for gradient, part in zip(first, vector, strict=True)
                if gradient.requires_grad
            ]
            # A cost that is linear in every parameter has no second derivative to take.
            if not curved:
                return [torch.zeros_like(part) for part in vector]
            outputs, directions = zip(*curved, strict=True)
            return list(torch.autograd.grad(outputs, self.parameters, directions, **settings))
