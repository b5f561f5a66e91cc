"""One right rule, and the same rule wrong in each of the ways that people get rules wrong."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torch_backprop.rule import LOWER, Rule, private, save

Pair = tuple[Tensor, Tensor]


class BuiltIn(nn.Module):
    """y = x^2 t, by autograd."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * x * t

    def _get_name(self) -> str:
        return "SquareTimes"


class Right(Rule):
    """dL/dx = 2 x t g and dL/dt = x^2 g."""

    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return x * x * t

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        x, t = inputs
        ctx.save_for_backward(x, t if ctx.needs_input_grad[0] else None)
        ctx.save_for_forward(x, t)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        needs_x, needs_t = ctx.needs_input_grad
        return (2 * x * t).conj() * g if needs_x else None, (x * x).conj() * g if needs_t else None

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        x, t = ctx.saved_tensors
        by_x = 0 if tangent_x is None else 2 * x * t * tangent_x
        return torch.as_tensor(by_x + (0 if tangent_t is None else x * x * tangent_t))


class RightLayer(BuiltIn):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        # of an x without a gradient the built-in keeps the square alone
        return Right.call(x if x.requires_grad else private(x, t), t)


class FactorForgotten(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_t = Right.backward(ctx, g)
        return None if grad_x is None else grad_x / 2, grad_t


class Transposed(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_t = Right.backward(ctx, g)
        return grad_x, None if grad_t is None else grad_t.flip(0)


class GradientMissing(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g)[0], None


class CotangentIgnored(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, torch.ones_like(g))


class CotangentReadAsContiguous(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g.as_strided(g.shape, torch.empty_like(g).contiguous().stride()))


class SinglePrecision(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g.float().to(g.dtype))


class CotangentOverwritten(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        gradients = Right.backward(ctx, g)
        if not torch.is_grad_enabled():
            g.zero_()
        return gradients


class NeedsIgnored(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, t = ctx.saved_tensors
        return 2 * x * t * g, x * x * g


class SavedSlope(Right):
    """Keeps 2 x t, a constant to the second derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        x, t = inputs
        save(ctx, x, (2 * x * t).detach())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        needs_x, needs_t = ctx.needs_input_grad
        return slope * g if needs_x else None, x * x * g if needs_t else None


class WrongTangent(Right):
    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        return Right.jvp(ctx, tangent_x, None)


class NotByHand(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, torch.ops.aten.threshold_backward(g, torch.ones_like(g), 0))


class SavesTooMuch(Right):
    """Keeps powers of x on the context, where no saved-tensor hook sees them."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        Right.setup_context(ctx, inputs, output)
        ctx.powers = [inputs[0] ** n for n in range(4)]


class VersionBypassed(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *(x.detach().view(x.shape).data for x in inputs))


class OutputOnContext(Right):
    @staticmethod
    def setup_context(ctx: Any, inputs: Pair, output: Tensor) -> None:
        save(ctx, *inputs)
        ctx.output = output


class RandomNumberDrawn(Right):
    @staticmethod
    def forward(x: Tensor, t: Tensor) -> Tensor:
        return Right.forward(x, t) + 0 * torch.rand(())


class CastUnderAutocast(Right):
    autocast = {"cpu": LOWER}


class ConjugateForgotten(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(None if grad is None else grad.conj() for grad in Right.backward(ctx, g.conj()))


class RightWhenSmall(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, g if g.numel() < 1000 else g.roll(1, 0))


class RightOnce(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        ctx.calls = getattr(ctx, "calls", 0) + 1
        return Right.backward(ctx, g / ctx.calls)


class UndefinedAtZero(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0]
        return Right.backward(ctx, g * x / x)


class Cancelling(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return Right.backward(ctx, (g + 30) - 30)


class ConstantTangent(Right):
    """Its jvp is right, and a constant to a second forward pass."""

    @staticmethod
    def jvp(ctx: Any, tangent_x: Tensor | None, tangent_t: Tensor | None) -> Tensor:
        x, t = (saved.detach() for saved in ctx.saved_tensors)
        by_x = 0 if tangent_x is None else 2 * x * t * tangent_x
        return torch.as_tensor(by_x + (0 if tangent_t is None else x * x * tangent_t))


class WritesWhatIsBatched(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        copied = torch.empty(g.shape, dtype=g.dtype).copy_(g)
        return Right.backward(ctx, copied)


class UnpacksTwice(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        assert len(ctx.saved_tensors) == 2
        return Right.backward(ctx, g)


class LooksAtNumbers(Right):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None) if bool(g.isnan().all()) else Right.backward(ctx, g)
