"""The cost and gradients of one slice of rows, and what a step reports of them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from torch_backprop.optim.open_group import Gradients


def differentiate(
    cost: Callable[..., Any], rows: tuple[Any, ...], parameters: list[Tensor]
) -> tuple[Tensor, Gradients]:
    """Return the cost of `rows` and its gradients, and leave ``.grad`` alone.

    Raises:
        TypeError: if the cost is no tensor.
        ValueError: if the cost is no scalar, or depends on no parameter.
        RuntimeError: if a gradient is sparse.
    """
    value = cost(*rows)
    if not isinstance(value, Tensor):
        raise TypeError(f"cost returned a {type(value).__name__}: it must return a scalar tensor.")
    if value.dim() != 0:
        raise ValueError(
            f"cost returned shape {tuple(value.shape)}: reduce it to a scalar, for example by .mean()."
        )
    if not value.requires_grad:
        raise ValueError(
            "cost returned a tensor without grad: compute it from the parameters, not under no_grad."
        )
    # Not value.backward(): that would add to the .grad of the user, of these parameters and of all others.
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(value, trained, allow_unused=True)
    return value.detach(), _used(zip(trained, gradients, strict=True))


def run(closure: Callable[[], Any], parameters: list[Tensor]) -> tuple[Any, Gradients]:
    """Return what `closure` returns, and the gradients that its backward leaves in ``.grad``.

    What ``.grad`` held before takes no part and is put back: zero_grad in or around the closure is harmless.

    Raises:
        RuntimeError: if the closure returns a cost without running its backward, or a gradient is sparse.
    """
    held = [parameter.grad for parameter in parameters]
    try:
        # Not zeros: in place of None, backward puts its own tensors, without an addition.
        for parameter in parameters:
            parameter.grad = None
        cost = closure()
        gradients = _used((parameter, parameter.grad) for parameter in parameters)
    # Also when the closure fails, or the user's gradients would be lost.
    finally:
        for parameter, gradient in zip(parameters, held, strict=True):
            parameter.grad = gradient
    if cost is not None and not gradients:
        raise RuntimeError(
            "The closure left no gradient: call cost.backward() in it before it returns the cost."
        )
    # Without its graph, which would stay in memory up to the end of the step.
    return cost.detach() if isinstance(cost, Tensor) else cost, gradients


def _used(pairs: Iterable[tuple[Tensor, Tensor | None]]) -> Gradients:
    gradients = {parameter: gradient for parameter, gradient in pairs if gradient is not None}
    for gradient in gradients.values():
        if gradient.layout is not torch.strided:
            raise RuntimeError(
                "A gradient is sparse, and sums of groups are dense: use Embedding(sparse=False)."
            )
    return gradients


def report(costs: list[tuple[Any, float]], reduction: str) -> Tensor | None:
    """Return the mean (or sum) over all rows, from (cost, weight) of each slice; None if none has weight."""
    # A cost of weight 0 may be 0 / 0, and 0 times that is not 0.
    counted = [(torch.as_tensor(cost), weight) for cost, weight in costs if cost is not None and weight]
    if not counted:
        return None
    stacked = torch.stack([cost for cost, _ in counted])
    stacked = stacked.to(torch.promote_types(stacked.dtype, torch.float32))
    if reduction == "sum":
        return stacked.sum()
    weights = stacked.new_tensor([weight for _, weight in counted])
    return (stacked * weights).sum() / weights.sum()
