"""Groups that span several processes: one order of the rows, one sum of the gradients.

At the first look at a loader batch every process learns how many rows the others have, and from then on all
walk through the same windows; each window's sums are added up over the processes at once, so that the open
group, the parameters and the state are the same bits everywhere whenever a step ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parallel import DistributedDataParallel

from torch_backprop.optim.open_group import Part

# What a process says in place of its number of rows.
FAILED, ENDED = -1, -2


class OtherProcessError(RuntimeError):
    """Another process cannot go on with this step."""


def grouped() -> bool:
    """Whether this process belongs to a group, be it a group of one."""
    return distributed.is_available() and distributed.is_initialized()


def place() -> tuple[int, int]:
    """Return the rank of this process and the number of processes."""
    return (distributed.get_rank(), distributed.get_world_size()) if grouped() else (0, 1)


def gather(number: int, device: torch.device) -> list[int]:
    """Return the `number` of every process, in the order of their ranks.

    Raises:
        OtherProcessError: if another process failed, or is at another place in its pass.
    """
    rank, size = place()
    # A sum of disjoint parts, for every backend has that on every device.
    numbers = torch.zeros(size, dtype=torch.int64, device=device)
    numbers[rank] = number
    distributed.all_reduce(numbers)
    found = numbers.tolist()
    if number != FAILED:
        _refuse(FAILED in found, "failed in this step: see its error")
        ended = [other == ENDED for other in found]
        _refuse(
            any(ended) and not all(ended), "has fewer loader batches: give all equally many, of any sizes"
        )
    return found


def add_up(part: Part, parameters: list[Tensor], examples: int, failed: bool = False) -> Part:
    """Return the sum of the parts of all processes, which have `examples` rows together.

    Raises:
        OtherProcessError: if another process `failed`.
    """
    numbers = [
        float(failed),
        part.weight,
        part.cost,
        *(float(theta in part.gradients) for theta in parameters),
    ]
    # One message for everything. The numbers of float32 buffers are as exact as its gradients.
    dtype = torch.float32
    for parameter in parameters:
        dtype = torch.promote_types(dtype, parameter.dtype.to_real())
    size = sum(real(theta).numel() for theta in parameters)
    buffer = torch.zeros(size + len(numbers), dtype=dtype, device=parameters[0].device)
    buffer[size:] = torch.tensor(numbers, dtype=dtype)
    views = _views(buffer, parameters)
    for theta, gradient in part.gradients.items():
        real(views[theta]).copy_(real(gradient)).mul_(part.share)
    distributed.all_reduce(buffer)
    failures, weight, cost, *users = buffer[size:].tolist()
    _refuse(failures > failed, "failed in this step: see its error")
    # A parameter that no process used has no gradient, which is not the same as one of zeros.
    gradients = {
        theta: views[theta].to(theta.device) for theta, use in zip(parameters, users, strict=True) if use
    }
    return Part(gradients, 1.0, weight, cost, examples)


def total(number: float, device: torch.device) -> float:
    """Return the sum of the `number` of every process."""
    if place()[1] == 1:
        return number
    numbers = torch.tensor([number], dtype=torch.float64, device=device)
    distributed.all_reduce(numbers)
    return numbers.item()


def real(tensor: Tensor) -> Tensor:
    """Return `tensor`, or if it is complex the real numbers it is made of."""
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _views(buffer: Tensor, parameters: list[Tensor]) -> dict[Tensor, Tensor]:
    views, start = {}, 0
    # The complex ones first: each takes an even number of places, and may begin at no odd one.
    for theta in sorted(parameters, key=lambda theta: not theta.is_complex()):
        shape = real(theta).shape
        view = buffer[start : start + shape.numel()].view(shape)
        views[theta] = torch.view_as_complex(view) if theta.is_complex() else view
        start += shape.numel()
    return views


def _refuse(condition: bool, sentence: str) -> None:
    if condition:
        raise OtherProcessError(f"Another process {sentence}.")


@contextmanager
def unsynchronised() -> Iterator[None]:
    """Keep every DistributedDataParallel that runs forward in here from exchanging gradients and buffers.

    As its ``no_sync``, for models that the optimizer does not know. Processes run forward for their own rows
    only, at different times, and what the model sends then would meet what the optimizer sends.
    """
    # Found as they run: a model keeps no list of who has wrapped it.
    found: dict[DistributedDataParallel, bool] = {}

    def silence(module: Any, _: Any) -> None:
        if isinstance(module, DistributedDataParallel):
            found.setdefault(module, module.require_backward_grad_sync)
            module.require_backward_grad_sync = module.require_forward_param_sync = False

    handle = register_module_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()
        for module, synchronises in found.items():
            module.require_backward_grad_sync = synchronises
