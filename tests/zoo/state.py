"""Right once: state that outlives the call, randomness, threads, a second pass."""

import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from .plant import HandWritten, Plant, Square


class Noisy(Square):
    """Sums in an order of its own at every call: here, as noise."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        generator = torch.Generator()
        generator.seed()
        return 2 * x.conj() * g * (1 + 1e-9 * torch.rand(x.shape, generator=generator, dtype=x.dtype))


class Drop(HandWritten):
    """Dropout, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        mask = torch.empty_like(x).bernoulli_(0.5) * 2
        return x * mask, mask

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        (mask,) = ctx.saved_tensors
        return g * mask, None


class DrawsAgain(Drop):
    """Draws another mask for the backward pass."""

    @staticmethod
    def backward(ctx: Any, g: Any, _: Any) -> Any:
        return g * torch.empty_like(g).bernoulli_(0.5) * 2


class Centre(HandWritten):
    """x less its mean, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, running: Tensor) -> Tensor:
        return x - x.mean(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return g - g.mean(0), None


class UpdatesAgain(Centre):
    """Takes the backward pass for another batch."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, running = ctx.saved_tensors
        running.lerp_(x.detach().mean(0), 0.1)
        return g - g.mean(0), None


class Centring(nn.Module):
    """A layer around a Function, which keeps a running mean."""

    def __init__(self, rule: type[Function]) -> None:
        super().__init__()
        self.rule = rule
        self.running: Tensor
        self.register_buffer("running", torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.running.lerp_(x.detach().mean(0), 0.1)
        return self.rule.apply(x, self.running)


class OnClass(Square):
    """Keeps x on the class."""

    x: Tensor

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        OnClass.x = inputs[0]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * OnClass.x.conj() * g


class InGlobal(Square):
    """Keeps x in a list of the module, last in, first out."""

    stack: list[Tensor] = []

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        InGlobal.stack[:] = [*InGlobal.stack[-8:], inputs[0]]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 2 * InGlobal.stack[-1].conj() * g


class Once(Square):
    """Frees what it kept as soon as it has used it."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.factors = [2]

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.factors.pop() * x.conj() * g


class Growing(Once):
    """Doubles its factor at every pass."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        ctx.factors[0] *= 2
        return ctx.factors[0] / 2 * x.conj() * g


class OfThread(Square):
    """Keeps its factor where no other thread can see it."""

    local = threading.local()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        OfThread.local.factor = 2

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return OfThread.local.factor * x.conj() * g


class OfThreadOr1(OfThread):
    """Takes 1 for the factor where no other thread can see it."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return getattr(OfThread.local, "factor", 1) * x.conj() * g


class DoubleByDefault(Square):
    """Leaves float64 as the default dtype."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        torch.set_default_dtype(torch.float64)
        return Square.backward(ctx, g)


def drop(x: Tensor) -> Tensor:
    return Drop.apply(x)[0]  # pyright: ignore[reportOptionalSubscript]


def draw_again(x: Tensor) -> Tensor:
    return DrawsAgain.apply(x)[0]  # pyright: ignore[reportOptionalSubscript]


PLANTS = (
    Plant("sum in any order", "nondeterministic", Noisy, Square, ((4, 3),)),
    Plant("dropout with two masks", "redrawn-randomness", draw_again, drop, ((4, 5),)),
    Plant("running mean fed twice", "buffers", Centring(UpdatesAgain), Centring(Centre), ((4, 3),)),
    Plant("input kept on the class", "state-outside-ctx", OnClass, Square, ((4, 3),)),
    Plant("input kept in a list", "state-outside-ctx", InGlobal, Square, ((4, 3),)),
    Plant("second backward finds nothing", "second-backward", Once, Square, ((4, 3),)),
    Plant("second backward is twice the first", "second-backward", Growing, Square, ((4, 3),)),
    Plant("factor in a threading.local", "thread-dependent", OfThread, Square, ((4, 3),)),
    Plant("factor of one thread, 1 in others", "thread-dependent", OfThreadOr1, Square, ((4, 3),)),
    Plant("default dtype left changed", "global-state", DoubleByDefault, Square, ((4, 3),)),
)
