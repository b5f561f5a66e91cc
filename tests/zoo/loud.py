"""Loud: an error, a hang, the end of the process; or the clean refusal of what the reference can do."""

import os
import signal
import time
from typing import Any

import torch
from torch import Tensor

from .plant import HandWritten, Plant, Square, rule


class Pooled(Square):
    """Takes a workspace from a pool of one and never gives it back: there is no second call."""

    pool = [torch.empty(0)]

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        workspace = Pooled.pool.pop().to(x)
        return torch.mul(x, x, out=workspace)


class Power(HandWritten):
    """y = x^n, as it should be written."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, n: int) -> Tensor:
        return x**n

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.n = inputs[1]
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.n * x.conj() ** (ctx.n - 1) * g, None


class ForgetsNone(Power):
    """Returns no None for the exponent."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return Power.backward(ctx, g)[0]


class Dies(Square):
    """Ends the process, as the system does where memory ends."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


class Waits(Square):
    """Waits for a signal that nobody sends."""

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        while True:
            time.sleep(1)


class NoBatchRule(Square):
    """Neither a vmap nor a generated one."""

    generate_vmap_rule = False


class LooksAtNumbers(Square):
    """Saves itself the work where all is zero, which a compiler cannot know."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x * x if x.any() else x.clone()


def sum_rows(x: Tensor) -> Tensor:
    return x.sum(-1)


def sum_matrix(x: Tensor) -> Tensor:
    if x.dim() != 2:
        raise ValueError(f"a matrix is expected, not {x.dim()} dimensions")
    return x.sum(-1)


def pull_sum(g: Tensor, x: Tensor) -> Tensor:
    return g.unsqueeze(-1).expand_as(x)


def pull_cube(g: Tensor, x: Tensor) -> Tensor:
    return 3 * g * x * x


PLANTS = (
    Plant(
        "no workspace for a second call",
        "forward-crash",
        Pooled,
        Square,
        ((4, 3),),
        torch.square,
        isolate=True,
    ),
    Plant("no None for the exponent", "backward-crash", ForgetsNone, Power, ((4, 3), 3)),
    Plant("death in backward", "kills-process", Dies, Square, ((4, 3),), isolate=True),
    Plant("endless wait in backward", "hangs", Waits, Square, ((4, 3),), isolate=True, limit=3.0),
    Plant("no batch rule", "no-vmap", NoBatchRule, Square, ((4, 3),)),
    Plant("a branch on the numbers", "no-compile", LooksAtNumbers, Square, ((4, 3),)),
    Plant(
        "a cube clamped against rounding below zero",
        "no-complex",
        rule(lambda x: x**3, lambda g, x: 3 * g * (x * x).clamp(min=0)),
        rule(lambda x: x**3, pull_cube),
        ((4, 3),),
    ),
    Plant(
        "matrices alone",
        "refuses-input",
        rule(sum_matrix, pull_sum),
        rule(sum_rows, pull_sum),
        ((4, 3),),
        sum_rows,
    ),
)
