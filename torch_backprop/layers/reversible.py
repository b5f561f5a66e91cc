r"""Reversible residual block. Gomez, Ren, Urtasun & Grosse (2017), arXiv:1707.04585, section 3.1, alg. 1.

The features are halved, and each half gets a function of the other:

    forward   y_1 = x_1 + f(x_2)                  y_2 = x_2 + g(y_1)
    inverse   x_2 = y_2 - g(y_1)                  x_1 = y_1 - f(x_2)
    backward  u = g_1 + (dg/dy_1)^T g_2           dL/dx_1 = u         dL/dx_2 = g_2 + (df/dx_2)^T u

since y_1 is an output and what g sees (Goodfellow, Bengio & Courville (2016), "Deep Learning", eq. 6.45).
The output is all that is held: x_2 follows from it, and with x_2 and y_1 the two functions are run again,
with the random numbers that they drew and on copies of their buffers, so that running statistics are updated
once. The inverse is one to rounding, and none where the output overflows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call
from torch.nn import Module

from torch_backprop.layers.activation.smooth import Tanh
from torch_backprop.layers.linear import Linear
from torch_backprop.rule import Rule, is_plain, private, recorder
from torch_backprop.spec import LayerSpec, case


class ReversibleRule(Rule):
    """Saves y, the parameters, and the states of the random generator if random numbers were drawn."""

    @staticmethod
    def forward(x: Tensor, block: ReversibleBlock, *parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second = x.chunk(2, block.dim)
        start = torch.get_rng_state()
        first = first + block.f(second)
        between = torch.get_rng_state()
        second = second + block.g(first)
        drawn = not torch.equal(start, torch.get_rng_state())
        states = (start, between) if drawn else (start.new_empty(0), start.new_empty(0))
        return torch.cat((first, second), block.dim), *states

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.block, *parameters = inputs
        y, *states = output
        ctx.mark_non_differentiable(*states)
        needs_x, _, *needs = ctx.needs_input_grad
        ctx.count = len(list(ctx.block.f.parameters()))
        # where g alone is to learn, y_1 is enough
        ctx.ends_at_g = not (needs_x or any(needs[: ctx.count]))
        kept = y.chunk(2, ctx.block.dim)[0].clone() if ctx.ends_at_g else y
        device = y.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        # and f, which is not run again, may be written into
        read = [None if ctx.ends_at_g and i < ctx.count else p for i, p in enumerate(parameters)]
        ctx.save_for_backward(kept, *states, *read)

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, *no_grads: Tensor) -> tuple[Tensor | None, ...]:
        y, start, between, *parameters = ctx.saved_tensors
        block, (needs_x, _, *needs) = ctx.block, ctx.needs_input_grad
        first, second = (y, y) if ctx.ends_at_g else y.chunk(2, block.dim)
        grad_first, grad_second = grad_y.chunk(2, block.dim)
        of_f, of_g = slice(ctx.count), slice(ctx.count, None)
        # in the dtypes in which they ran, wherever the backward pass is run
        with torch.autocast(*ctx.autocast, cache_enabled=False):
            pulled, grad, g_grads = _pull(block.g, first, grad_second, parameters[of_g], needs[of_g], between)
        if ctx.ends_at_g:
            return None, None, *(None for _ in needs[of_f]), *g_grads
        grad_first, second = grad_first + grad, second - pulled
        with torch.autocast(*ctx.autocast, cache_enabled=False):
            _, grad, f_grads = _pull(block.f, second, grad_first, parameters[of_f], needs[of_f], start)
        grad_x = torch.cat((grad_first, grad_second + grad), block.dim) if needs_x else None
        return grad_x, None, *f_grads, *g_grads


def _pull(
    function: Module,
    x: Tensor,
    grad: Tensor,
    parameters: list[Tensor],
    needs: list[bool],
    state: Tensor,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The value of a function again, and the gradients of its input and parameters."""
    # a graph is recorded, that of the first run's inputs, only if this pass is to be differentiated itself
    again = torch.is_grad_enabled()
    if again:
        # under names of their own: through x, which is recovered from the output, there is a way back to here
        # unless g alone is to learn
        x = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        parameters = [p.view_as(p) for p in parameters]
    else:
        x = x.detach().requires_grad_()
        parameters = [p.detach().requires_grad_(need) for p, need in zip(parameters, needs, strict=True)]
    names = [name for name, _ in function.named_parameters()]
    values = dict(zip(names, parameters, strict=True))
    values |= {name: buffer.clone() for name, buffer in function.named_buffers()}
    with torch.enable_grad(), _replayed(state):
        y = functional_call(function, values, (x,))
    wanted = [p for p, need in zip(parameters, needs, strict=True) if need]
    found = torch.autograd.grad(y, [x, *wanted], grad, create_graph=again, materialize_grads=True)
    grads = iter(found[1:])
    return y if again else y.detach(), found[0], [next(grads) if need else None for need in needs]


@contextmanager
def _replayed(state: Tensor) -> Iterator[None]:
    """The random numbers drawn from this state, and afterwards the state as it was."""
    with torch.random.fork_rng(devices=[], enabled=state.numel() > 0):
        if state.numel():
            torch.set_rng_state(state)
        yield


class PlainReversibleBlock(Module):
    """The reference: autograd holds what f and g hold."""

    def __init__(self, f: Module, g: Module, dim: int = -1) -> None:
        super().__init__()
        self.f, self.g, self.dim = f, g, dim

    def _get_name(self) -> str:
        return "ReversibleBlock"

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, 2 C, *)`` to the same shape."""
        first, second = x.chunk(2, self.dim)
        first = first + self.f(second)
        return torch.cat((first, second + self.g(first)), self.dim)


class ReversibleBlock(PlainReversibleBlock):
    """A residual block that holds its output alone, from which its input is recovered.

    Under ``torch.func``, forward mode, compilation and a tape it is an ordinary block. Random numbers are
    replayed that f and g draw from the CPU's default generator. The backward pass runs f and g again, with
    their parameters, of which there is no copy: one that was written into since raises a RuntimeError.

    Args:
        f: maps ``(*, C, *)`` to the same shape.
        g: the same.
        dim: the dimension of the features, which is halved.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(*, 2 C, *)`` to the same shape."""
        parameters = (*self.f.parameters(), *self.g.parameters())
        # a tape keeps what f and g keep: the recovery of x differentiates them by autograd
        if (
            recorder() is not None
            or forward_ad._current_level >= 0
            or not all(map(is_plain, (x, *parameters)))
        ):
            return super().forward(x)
        # y is what is held: whoever writes into the output gets another
        return private(ReversibleRule.call(x, self, *parameters)[0])


def _network() -> Module:
    return torch.nn.Sequential(Linear(4, 4), Tanh())


SPECS = (
    LayerSpec(
        ReversibleBlock,
        PlainReversibleBlock,
        (case((3, 8), f=partial(_network), g=partial(_network)),),
        frozenset({"inverted"}),
    ),
)
