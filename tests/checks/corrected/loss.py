"""Losses.

* ``BCELoss`` adds 1e-12 to the denominators of its second derivative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .table import Corrections


class BCELoss(torch.nn.BCELoss):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        loss = -(target * torch.log(input) + (1 - target) * torch.log1p(-input))
        loss = loss if self.weight is None else loss * self.weight
        return {"none": loss, "mean": loss.mean(), "sum": loss.sum()}[self.reduction]


FIRST: Corrections = {}
SECOND: Corrections = {
    torch.nn.BCELoss: BCELoss,
}
