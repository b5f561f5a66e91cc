"""Every row of the table of operators, against autograd; and writes in place, also through views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_backprop.algorithm import Tape

Program = Callable[..., Any]
weight_norm: Any = getattr(torch, "_weight_norm")  # noqa: B009
INDEX = torch.tensor([[0, 2], [1, 0]])
ROWS = torch.tensor([2, 0, 2])
MASK = torch.tensor([[True, False, True, False], [False, False, True, True], [True, True, False, False]])

ONE: dict[str, Program] = {
    "neg": lambda x: -x,
    "scalars": lambda x: 2 - 3 * x / 4 + x * 2,
    "rdiv": lambda x: 1 / (x * x + 1),
    "alpha": lambda x: torch.add(x, x * x, alpha=3) - torch.sub(x, x.exp(), alpha=2),
    "powers": lambda x: x**3 + x**0 + 2**x + (x * x + 1) ** x + (x - x) ** 2,
    "absolute": lambda x: x.abs() + x.sign() * x,
    "exponentials": lambda x: x.exp() + x.exp2() + x.expm1() + x.sigmoid() + x.tanh(),
    "logarithms": lambda x: (y := x * x + 0.1).log() + y.log2() + y.log10() + y.log1p(),
    "roots": lambda x: (y := x * x + 0.1).sqrt() + y.rsqrt() + y.reciprocal() + y.square(),
    "trigonometry": lambda x: x.sin() + x.cos() + x.tan() + x.atan() + x.sinh() + x.cosh(),
    "inverse": lambda x: (x.tanh() / 2).asin() + (x.tanh() / 2).acos(),
    "errors": lambda x: torch.erf(x) + torch.erfc(x),
    "units": lambda x: torch.relu(x) + torch.nn.functional.silu(x) + x.frac(),
    "steps": lambda x: x * (x.floor() + x.ceil() + x.trunc() + x.round() + torch.round(x, decimals=1)),
    "nan_to_num": lambda x: (x.log() * MASK).nan_to_num(),
    "clamps": lambda x: x.clamp(-0.5, 0.5) + x.clamp_min(0.1) + x.clamp_max(0.2) + x.clamp(min=x.mean()),
    "softmax": lambda x: torch.softmax(x, 1) + torch.log_softmax(x, 0),
    "where": lambda x: torch.where(x > 0, x * x, -x) + torch.where(MASK, x, 0.0) + x.masked_fill(MASK, 3.0),
    "views": lambda x: x.view(2, 6).reshape(12).unsqueeze(0).squeeze(0).unflatten(0, (3, 4)).flatten(),
    "squeezes": lambda x: x[None, :, None].squeeze() * x[None].squeeze(0) + x[:, None].squeeze((0, 1)),
    "transposes": lambda x: x.t() @ x + x.mT @ x.T.mT + x.transpose(0, 1).permute(1, 0).movedim(0, 1) @ x,
    "expand": lambda x: x.expand(2, 3, 4) * x[:, :1].expand(3, 4),
    "slices": lambda x: x[1:, ::2] * x[:-1, 1::2] + x[-1, 0] + x[..., 3:].sum(),
    "cat": lambda x: torch.cat((x, x[:1] * x), 0) + torch.cat((torch.ones(4, 1), x.T), 1)[:, :1].T,
    "stack": lambda x: torch.stack((x, x * x), 1),
    "splits": lambda x: x.split(2, 1)[0] * x.chunk(2, 1)[1] + x.split((1, 3), 1)[0] + x.unbind(1)[2][:, None],
    "padding": lambda x: torch.constant_pad_nd(x, (1, 2, 0, -1), 3.0),
    "repeat": lambda x: x.repeat(2, 3) + x.repeat(2, 1, 3).flatten(0, 1) + x.repeat_interleave(6).view(6, 12),
    "roll": lambda x: x.roll(1, 1) * x.roll((1, 2), (0, 1)) * x.flip(0) * x.roll(2),
    "triangles": lambda x: x.tril() * x + x.triu(1),
    "diagonal": lambda x: x.diagonal() * x.diagonal(1) + torch.diag_embed(x).diagonal(0, 0, 2)[:3].sum(),
    "unfold": lambda x: x.unfold(1, 3, 1) * x.unfold(1, 3, 1).flip(2) + x.unfold(0, 2, 2).sum(),
    "unfold from the end": lambda x: x.unfold(-1, 2, 1) * x.unfold(-2, 2, 2).sum(),
    "as_strided": lambda x: x.as_strided((3, 2), (4, 2), 1) * 2,
    "sums": lambda x: x.sum() * x.sum(0) + x.sum((0, 1)) + x.sum(1, keepdim=True).mean(),
    "means": lambda x: x.mean() * x.mean(0, keepdim=True) * x.mean((1,))[:, None],
    "extremes": lambda x: x.amax(1) * x.amin((0, 1)) * x.max(1).values * x.min(1)[0] + x.max() * x.min(),
    "ties": lambda x: torch.relu(x).amin(1) * x[:, :1].expand(3, 4).amax(1) + torch.relu(x).min(),
    "spread": lambda x: x.var() * x.std(0).sum() * x.var(1, correction=0) + x[:1].std(0, correction=0).sum(),
    "moments": lambda x: torch.stack(torch.var_mean(x, 1)).prod(0) + torch.std_mean(x, 0)[1].sum(),
    "products": lambda x: x.prod(1) * x.prod() + (x * MASK).prod(0).sum(),
    "norms": lambda x: x.norm() * x.norm(dim=1) * x.norm(1) + torch.linalg.vector_norm(x, 3, 1),
    "norms at 0": lambda x: torch.relu(x).norm(dim=1) * (x * 0).norm() + torch.linalg.vector_norm(x, 1.5),
    "infinite norms": lambda x: torch.linalg.vector_norm(x, torch.inf, 1) + x.norm(-torch.inf) + x.norm(0),
    "cumulative": lambda x: x.cumsum(1) * x.cumsum(0) + x.logsumexp((0, 1)) + x.logsumexp(1, True),
    "orders": lambda x: x.sort(1, descending=True).values * x + x.topk(2, 1)[0].sum() + x.median(1)[0].sum(),
    "kthvalue": lambda x: x.kthvalue(2, 1).values * x.msort()[:, 0],
    "einsum": lambda x: torch.einsum("ij,kj,kl->il", x, x, x) + torch.einsum("ij->j", x),
    "matmul": lambda x: x @ x.T @ x + x @ x[0] @ x[:, :1] + (x[0] @ x[1]) * torch.outer(x[:, 0], x[0]),
    "batches": lambda x: x.expand(2, 3, 4) @ x.T + torch.baddbmm(x[:, :3], x[None], x.T[None], beta=2),
    "added": lambda x: torch.addmm(x[0, :3], x, x.T, alpha=2) + torch.addmv(x[:, 0], x, x[0], beta=3),
    "outer": lambda x: torch.addr(x, x[:, 1], x[1], alpha=2),
    "fused": lambda x: torch.addcmul(x, x, x, value=2) + torch.addcdiv(x, x, x * x + 1) + x.lerp(x * x, 0.3),
    "linear": lambda x: torch.nn.functional.linear(x[None], x, x[:, 0]),
    "indices": lambda x: x[INDEX] * x[INDEX, INDEX][..., None, None] + x[:, ROWS].sum() + x[MASK].prod(),
    "picks": lambda x: x.gather(1, INDEX) * x.index_select(0, ROWS)[:2, :2] + x[1:].take_along_dim(INDEX, 1),
    "takes": lambda x: x.masked_select(MASK) * x.masked_select(MASK[:, :1]).sum(),
    "puts": lambda x: x.index_put((ROWS[:2],), x[:2] * 2) + x.index_put((ROWS,), x * 3, accumulate=True),
    "scatters": lambda x: x.scatter(1, INDEX, x[1:, :2] * 3) + x.scatter(1, INDEX, 2.0),
    "sums by index": lambda x: x.scatter_add(1, INDEX, x[1:, :2]) + x.index_add(0, ROWS, x, alpha=2),
    "index": lambda x: x.index_copy(0, ROWS[:2], x[:2]) + x.index_fill(0, ROWS, 1),
    "casts": lambda x: x.float().double() * x.to(torch.float64) + x.half().float().sum(),
    "clones": lambda x: x.clone() * x.contiguous() * x.T.contiguous().T,
    "modulo": lambda x: torch.remainder(x, 0.7) * torch.fmod(x, 0.3) + torch.remainder(x, x * x + 1) + x % 2,
    "division": lambda x: torch.div(x, 0.3, rounding_mode="floor") * x + torch.fmod(x, x * x + 1),
    "detached": lambda x: x * x.detach() + x.data,
    "constants": lambda x: x * torch.zeros_like(x) + x.new_ones(()) + x.argmax() + (x > 0) * x,
    "numbers": lambda x: x * x.detach().sum().item() + float(x[0, 0].detach()),
    "weight norm": lambda x: weight_norm(x, x[:, :1], 0) + weight_norm(x, x[:1], 1),
    "complex": lambda x: torch.complex(x, x * x).abs(),
    "conjugates": lambda x: (torch.complex(x, x + 1).conj() * torch.complex(x * x, x)).imag,
    "polar": lambda x: torch.polar(x * x, x).real,
}  # fmt: skip

TWO: dict[str, Program] = {
    "broadcast": lambda x, y: x + y[0] - y[:, :1] * x / (y * y + 1)[None],
    "powers": lambda x, y: (x * x) ** y + x.abs().pow(y[0]),
    "angles": lambda x, y: torch.atan2(x, y) + torch.hypot(x, y) + torch.logaddexp(x, y[:1]),
    "extremes": lambda x, y: torch.maximum(x, y) * torch.minimum(x, y) + torch.maximum(x, x * 1),
    "clamps": lambda x, y: x.clamp(y, y + 1) + x.clamp_min(y) + x.clamp_max(y[0]) + x.clamp(max=y),
    "lerp": lambda x, y: x.lerp(y, 0.3) + x.lerp(y, y * y),
    "where": lambda x, y: torch.where(MASK, x, y[0]) * torch.where(MASK[:1], x, y),
    "fills": lambda x, y: x.masked_fill(MASK, y[0, 0]),
    "products": lambda x, y: x @ y.T + torch.vdot(x[0], y[0]) + torch.einsum("bi,bj->ij", x, y)[:3, :3],
    "types": lambda x, y: x * y.float() + x.to(torch.float16) * y.double(),
    "untouched": lambda x, y: x + 0,
}

WRITES: dict[str, Program] = {
    "itself": lambda x: (x * 2).mul_(x).add_(x, alpha=2).exp_(),
    "a slice": lambda x: _do(x * 2, lambda y: y[:, 1].mul_(x[:, 0])),
    "an item": lambda x: _do(torch.zeros(3, 4), lambda y: _set(y, (0, slice(2)), x[1, :2])),
    "rows of zeros": lambda x: _do(torch.zeros(2, 4), lambda y: [y[i].copy_(x[i] * x[2]) for i in range(2)]),
    "a view of a view": lambda x: _do(x * 3, lambda y: y.view(2, 6)[1].view(3, 2).T[0].add_(x[0, 0])),
    "the whole, a view read": lambda x: _both(x * 2, lambda y: (y, y[1]), x),
    "a view, a view read": lambda x: _both(x + 1, lambda y: (y[0], y.T[1]), x.sum()),
    "an index": lambda x: _do(x * 2, lambda y: _set(y, ROWS[:2], x[:2] * x[1:])),
    "a mask": lambda x: _do(x * 2, lambda y: (y.masked_fill_(MASK, 1.0), _set(y, ~MASK, x[~MASK] ** 2))),
    "constants": lambda x: _do(x * x, lambda y: (y[0].zero_(), y[1, 1].fill_(2.0), y[2].fill_(x[0, 0]))),
    "a sum": lambda x: _do(torch.zeros(3, 4), lambda y: [y.add_(x**k) for k in range(3)]),
    "scatter": lambda x: _do(x * 2, lambda y: y.scatter_add_(1, INDEX, x[1:, 1:3]).index_add_(0, ROWS, x)),
    "units": lambda x: torch.relu_(x * 2) + torch.sigmoid_(x * 3) + (x * 1).clamp_(0, 1),
    "a shape": lambda x: _do((x * 2)[None], lambda y: (y.squeeze_(0), y.t_(), y.mul_(x.T))),
    "a dtype": lambda x: _do(torch.zeros(3, 4, dtype=torch.float32), lambda y: (y.copy_(x), y.mul_(2))),
    "ahead of noise": lambda x: _do(x * 2, lambda y: y[0].uniform_()) * MASK,
    "under no_grad": lambda x: _do(x * 2, _doubled_quietly) * x,
    "a view made quietly": lambda x: _quiet_view(x * x) * x.flatten(),
}  # fmt: skip


def _do(y: Tensor, write: Callable[[Tensor], Any]) -> Tensor:
    write(y)
    return y * y


def _set(y: Tensor, place: Any, numbers: Tensor) -> None:
    y[place] = numbers


def _both(y: Tensor, views: Callable[[Tensor], tuple[Tensor, Tensor]], by: Tensor) -> Tensor:
    """One view is written into, and both are read."""
    written, read = views(y)
    written.mul_(by)
    return read * written.sum()


def _doubled_quietly(y: Tensor) -> None:
    with torch.no_grad():
        y.mul_(2)


def _quiet_view(y: Tensor) -> Tensor:
    with torch.no_grad():
        return y.view(-1)


def _draw(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(count)]


def _cost(program: Program, tensors: list[Tensor]) -> Tensor:
    torch.manual_seed(0)
    y = program(*tensors)
    return (y * torch.linspace(0.5, 1.5, y.numel(), dtype=torch.float64).reshape(y.shape)).sum()


def _assert_exact(program: Program, count: int) -> None:
    tensors = _draw(count)
    with Tape() as tape:
        for i, x in enumerate(tensors):
            tape.learn(str(i), x)
        cost = _cost(program, tensors)
    with torch.no_grad():
        seen = dict(tape.pull_back(cost))
    leaves = [x.requires_grad_() for x in _draw(count)]
    expected = torch.autograd.grad(_cost(program, leaves), leaves, allow_unused=True)
    for i, gradient in enumerate(expected):
        assert (gradient is None) == (str(i) not in seen)
        if gradient is not None:
            torch.testing.assert_close(seen[str(i)], gradient, rtol=1e-11, atol=1e-11, equal_nan=True)


@pytest.mark.parametrize("program", ONE.values(), ids=ONE)
def test_functions_of_one_tensor(program: Program) -> None:
    _assert_exact(program, 1)


@pytest.mark.parametrize("program", TWO.values(), ids=TWO)
def test_functions_of_two_tensors(program: Program) -> None:
    _assert_exact(program, 2)


@pytest.mark.parametrize("program", WRITES.values(), ids=WRITES)
def test_writes_in_place(program: Program) -> None:
    _assert_exact(program, 1)
