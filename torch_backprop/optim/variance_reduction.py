r"""Stochastic variance reduced gradients. Johnson & Zhang (2013), NIPS 26, figure 1.

At a snapshot theta~ the mean gradient mu over all examples is computed in a pass of its own; each example of
the next passes then moves the parameters against

    grad l_i(theta) - grad l_i(theta~) + mu

whose mean is that of grad l_i(theta), and whose variance falls to 0 with theta and theta~ at the minimum.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torch_backprop.optim.open_group import Gradients, OpenGroup
from torch_backprop.optim.state import pack_open_group, unpack_open_group

State = dict[Tensor, dict[str, Any]]


class VarianceReduction:
    """Alternates between one pass for the snapshot and `passes` passes of updates.

    Attributes:
        number: the number of passes done.
        full: sums the gradient at the snapshot.
    """

    def __init__(self, passes: int) -> None:
        self.passes, self.number, self.full = passes, 0, OpenGroup()

    @property
    def measures(self) -> bool:
        """Whether the present pass is for the snapshot, without updates."""
        return self.number % (self.passes + 1) == 0

    def end_pass(self, parameters: list[Tensor], state: State, denominator: float) -> None:
        """Go to the next pass, and keep snapshot and gradient if they are complete."""
        # A pass without a row that counts leaves nothing to start from.
        if self.measures and not self.full:
            return
        if self.measures:
            gradients, self.full = self.full.mean(denominator), OpenGroup()
            for theta in parameters:
                if theta in gradients:
                    state[theta]["snapshot"] = theta.detach().clone()
                    state[theta]["full_gradient"] = gradients[theta]
        self.number += 1

    def corrected(self, gradients: Gradients, state: State) -> Gradients:
        """Return `gradients` plus the mean gradient at the snapshot, which may have more parameters."""
        if not gradients:
            return gradients
        full = {theta: kept["full_gradient"] for theta, kept in state.items() if "full_gradient" in kept}
        added = {
            theta: full[theta] + gradients[theta] if theta in gradients else full[theta] for theta in full
        }
        return {**gradients, **added}

    def pack(self, parameters: list[Tensor]) -> dict[str, Any]:
        """Return everything that a state dict needs."""
        return {"passes": self.number, "full": pack_open_group(self.full, parameters)}

    def unpack(self, packed: dict[str, Any], parameters: list[Tensor]) -> None:
        """Continue from `packed`."""
        self.number, self.full = packed["passes"], unpack_open_group(packed["full"], parameters)


def difference(new: Gradients, old: Gradients) -> Gradients:
    """Return `new` minus `old`, where a gradient that there is not is 0."""
    changed = {theta: gradient - old[theta] if theta in old else gradient for theta, gradient in new.items()}
    return {**changed, **{theta: -gradient for theta, gradient in old.items() if theta not in new}}


@contextmanager
def at_snapshot(parameters: list[Tensor], state: State) -> Iterator[None]:
    """Put the parameters at the snapshot inside the block."""
    here = {theta: theta.detach().clone() for theta in parameters if "snapshot" in state[theta]}
    try:
        with torch.no_grad():
            for theta in here:
                theta.copy_(state[theta]["snapshot"])
        yield
    finally:
        with torch.no_grad():
            for theta, value in here.items():
                theta.copy_(value)
