"""SyncBatchNorm in two processes: what batch normalization of the two batches together is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn
from torch.nn import functional as F

import torch_backprop
from torch_backprop.layers.normalization.sync import sync_batch_norm
from torch_backprop.nn import SyncBatchNorm

SIZES = (4, 3)
"""Samples of each process."""


def drawn(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def derivatives(function: Any, rank: int | None) -> list[Tensor]:
    """The output, first and second gradients, and the running statistics; of a process or of both."""
    part = slice(None) if rank is None else slice(sum(SIZES[:rank]), sum(SIZES[: rank + 1]))
    x, g, v = (drawn(sum(SIZES), 3, 2, seed=seed).detach()[part].requires_grad_() for seed in (0, 1, 2))
    w, b = drawn(3, seed=3), drawn(3, seed=4)
    mean, var = torch.zeros(3).double(), torch.ones(3).double()
    y = function(x, mean, var, w, b, True, 0.1, 1e-5)
    (fast,) = torch.autograd.grad(y, x, g, retain_graph=True)
    first = torch.autograd.grad(y, (x, w, b), g, create_graph=True)
    second = torch.autograd.grad(first[0], (x, w, g), v)
    return [tensor.detach() for tensor in (y, fast, *first, *second, mean, var)]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)

    def synchronized(*arguments: Any) -> Tensor:
        return sync_batch_norm(*arguments, group=dist.group.WORLD)

    words = []
    for kind in (torch.nn.SyncBatchNorm, SyncBatchNorm):
        with pytest.raises(ValueError, match="expected input tensor to be on GPU") as caught:
            kind(3)(torch.ones(2, 3))
        words.append(str(caught.value))
        kind(3).eval()(torch.ones(2, 3))
    torch.save((derivatives(synchronized, rank), words), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_one_batch(tmp_path: Path) -> None:
    spawn(work, (str(tmp_path),), nprocs=2)
    (a, words), (b, _) = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert words[0] == words[1]
    expected = derivatives(F.batch_norm, None)
    names = ("y", "fast x", "x", "w", "b", "second x", "second w", "second g", "mean", "var")
    for name, ours, theirs, truth in zip(names, a, b, expected, strict=True):
        if name in ("mean", "var"):
            seen = theirs
            torch.testing.assert_close(ours, theirs)
        elif name in ("w", "b", "second w"):
            # each process has the part of its own samples
            seen = ours + theirs
        else:
            seen = torch.cat((ours, theirs))
        torch.testing.assert_close(
            seen, truth, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_batch_norms_of_a_model_are_converted_to_ours() -> None:
    def model(names: Any) -> torch.nn.Module:
        layers = names.BatchNorm1d(3, affine=False), names.BatchNorm2d(3).eval(), names.SyncBatchNorm(3, None)
        return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Sequential(*layers))

    group = object()
    for names in (torch.nn, torch_backprop.nn):
        given = model(names)
        state = {name: id(value) for name, value in given.state_dict(keep_vars=True).items()}
        ours = SyncBatchNorm.convert_sync_batchnorm(given, group)
        assert ours is given
        builtin = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model(names), group)
        assert [type(layer) for layer in ours[1]] == [SyncBatchNorm] * 3  # pyright: ignore[reportIndexIssue]
        assert repr(ours) == repr(builtin)
        assert {name: id(value) for name, value in ours.state_dict(keep_vars=True).items()} == state
        for layer, expected in zip(ours.modules(), builtin.modules(), strict=True):
            assert layer.training == expected.training
            assert getattr(layer, "process_group", None) is getattr(expected, "process_group", None)
    assert type(SyncBatchNorm.convert_sync_batchnorm(torch.nn.BatchNorm3d(2))) is SyncBatchNorm
