"""What makes equality impossible, found in passing: layers and costs that couple examples or draw at random.

A cost couples examples if its gradient with respect to one row depends on another row, that is, if a mixed
second derivative is not zero. Two backward passes through the graph of the first cost tell, and no row is
computed twice. Rows of whole numbers, and operators without second derivatives, cannot be looked at.
"""

import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

CONSEQUENCE = "the trajectory depends on how the rows are cut into loader batches"


class Observation:
    """What is seen while a slice of rows is computed.

    Args:
        unseen: of "layers" and "rows", what has not been looked at yet; whatever is, is taken out.
    """

    def __init__(self, unseen: set[str]) -> None:
        self.unseen = unseen
        # A compiled model would be compiled again for rows that require grad: layers() looks for one first.
        compiled = "layers" in unseen and "torch._dynamo" in sys.modules
        self.watches = "rows" in unseen and not compiled
        self.rows: list[Tensor] = []
        self.inexact: set[str] = set()
        self.drawn = self.coupled = False

    def watched(self, rows: Any) -> Any:
        """Return `rows` so that derivatives with respect to them can be taken."""
        if isinstance(rows, Tensor):
            if not (self.watches and rows.is_floating_point()) or rows.requires_grad:
                return rows
            # The same memory, for other alignment would be other rounding.
            self.rows.append(rows.detach().requires_grad_())
            return self.rows[-1]
        if isinstance(rows, Mapping):
            return {key: self.watched(value) for key, value in rows.items()}
        parts = [self.watched(value) for value in rows]
        return type(rows)(*parts) if hasattr(rows, "_fields") else type(rows)(parts)

    def look(self, cost: Tensor) -> None:
        """Find out whether `cost` couples the rows that were watched."""
        # A layer that couples rows has a warning of its own.
        if not self.rows or self.inexact:
            return
        self.unseen.discard("rows")
        # Not every operator has a second derivative, and then nobody can tell.
        with suppress(RuntimeError, NotImplementedError):
            self.coupled = couples(cost, self.rows)

    def warn(self) -> None:
        """Warn of what was found."""
        names = ", ".join(sorted(self.inexact))
        if names or self.drawn:
            self.unseen.discard("rows")
            cause = f"{names} in training mode" if names else "The cost draws random numbers"
            warnings.warn(f"{cause}: {CONSEQUENCE}, since groups see other rows or numbers.", stacklevel=2)
        elif self.coupled:
            warnings.warn(f"The cost couples the examples of a group: {CONSEQUENCE}.", stacklevel=2)

    @contextmanager
    def layers(self) -> Iterator[None]:
        """Note layers that run forward in the block and couple rows or draw random numbers."""
        if "layers" not in self.unseen:
            yield
            return

        def note(module: nn.Module, _: Any) -> None:
            parts = list(module.modules())
            if any(map(is_compiled, parts)):
                # Nothing may be compiled with the hook in it, nor once more for rows that require grad.
                handle.remove()
                self.unseen.discard("rows")
            else:
                parts = [module]
            self.inexact.update(type(part).__name__ for part in parts if couples_or_draws(part))

        handle = register_module_forward_pre_hook(note)
        state = torch.get_rng_state()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks")
                yield
        finally:
            handle.remove()
        self.unseen.discard("layers")
        self.drawn = not torch.equal(state, torch.get_rng_state())


def couples(cost: Tensor, rows: list[Tensor]) -> bool:
    """Whether the gradient of `cost` for the first half of `rows` depends on the second half."""
    first = torch.autograd.grad(cost, rows, create_graph=True, allow_unused=True)
    half = len(rows[0]) // 2
    used = [gradient[:half] for gradient in first if gradient is not None and gradient.requires_grad]
    # A direction without symmetry, for a plain sum may cancel.
    probes = [
        (part * torch.linspace(1, math.pi, part.numel()).to(part).view(part.shape)).sum() for part in used
    ]
    if not probes:
        return False
    # The graph is the caller's, whose own backward is yet to come.
    probe = torch.stack(probes).sum()
    second = torch.autograd.grad(probe, rows, retain_graph=True, allow_unused=True)
    # Not a number is no evidence.
    return any(bool(value[half:].nan_to_num().any()) for value in second if value is not None)


def is_compiled(module: nn.Module) -> bool:
    """Whether `module` came from torch.compile, or was compiled in place."""
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def couples_or_draws(module: nn.Module) -> bool:
    """Whether the output of `module` for a row depends on the other rows, or on random numbers."""
    rate = 0.0
    if isinstance(module, nn.modules.dropout._DropoutNd):
        rate = module.p
    elif isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        rate = module.dropout
    return module.training and (rate > 0 or isinstance(module, (nn.RReLU, nn.modules.batchnorm._BatchNorm)))
