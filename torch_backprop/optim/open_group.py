"""The group of examples whose gradients are being summed."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

Gradients = dict[Tensor, Tensor]


@dataclass
class OpenGroup:
    """The unnormalised sums of a group: both add up over slices, and are divided once, when the group closes.

    Attributes:
        sums: for each parameter the sum of w_i grad l_i over the examples so far, in float32 or wider.
        weight: the sum of w_i.
        examples: the number of examples.
    """

    sums: Gradients = field(default_factory=dict)
    weight: float = 0.0
    examples: int = 0

    def add(self, gradients: Gradients, share: float, weight: float, examples: int) -> None:
        """Add a slice of examples whose gradient sum is `share` times `gradients`."""
        for parameter, gradient in gradients.items():
            if parameter in self.sums:
                self.sums[parameter].add_(gradient, alpha=share)
            else:
                # Not in bfloat16, where 256 + 1 is 256. A copy, since autograd may hand out one tensor twice.
                wide = torch.promote_types(gradient.dtype, torch.float32)
                self.sums[parameter] = gradient.to(wide) * share
        self.weight += weight
        self.examples += examples

    def mean(self, fraction: float = 1.0) -> Gradients:
        """Return `fraction` of the weighted mean gradient, empty if nothing has weight; uses the sums up."""
        return {
            parameter: total.div_(self.weight / fraction).to(parameter.dtype)
            for parameter, total in self.sums.items()
        }
