"""The group of examples whose gradients are being summed, and the parts that it is made of."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

Gradients = dict[Tensor, Tensor]


@dataclass
class Part:
    """What one slice of rows contributes to a group.

    Attributes:
        gradients: for each parameter a gradient; the sum of w_i grad l_i is `share` times it.
        weight: the sum of w_i.
        cost: the sum of w_i l_i; not a number if the closure does not tell.
        examples: the number of examples.
    """

    gradients: Gradients = field(default_factory=dict)
    share: float = 1.0
    weight: float = 0.0
    cost: float = 0.0
    examples: int = 0


class OpenGroup:
    """The unnormalised sums of a group: both add up over slices, and are divided once, when the group closes.

    Attributes:
        weight: the sum of w_i.
        cost: the sum of w_i l_i.
        examples: the number of examples.
    """

    def __init__(
        self, sums: Gradients | None = None, weight: float = 0.0, cost: float = 0.0, examples: int = 0
    ) -> None:
        self._sums, self._first = sums or {}, Part()
        self.weight, self.cost, self.examples = weight, cost, examples

    @property
    def sums(self) -> Gradients:
        """For each parameter the sum of w_i grad l_i over the examples so far, in float32 or wider."""
        part, self._first = self._first, Part()
        self._include(part)
        return self._sums

    def add(self, part: Part) -> None:
        """Add a slice of examples."""
        if self._sums or self._first.gradients:
            self._include(self._first)
            self._include(part)
            self._first = Part()
        else:
            # It may stay the only one, and its gradient the mean as it is.
            self._first = part
        self.weight += part.weight
        self.cost += part.cost
        self.examples += part.examples

    def mean(self, denominator: float) -> Gradients:
        """Return the sums over `denominator`, empty if nothing has weight; uses the sums up."""
        if self._first.gradients and self._first.share == denominator:
            return self._first.gradients
        return {
            parameter: total.div_(denominator).to(parameter.dtype) for parameter, total in self.sums.items()
        }

    def _include(self, part: Part) -> None:
        for parameter, gradient in part.gradients.items():
            if parameter in self._sums:
                self._sums[parameter].add_(gradient, alpha=part.share)
            else:
                # Not in bfloat16, where 256 + 1 is 256. A copy, since autograd may hand out one tensor twice.
                wide = torch.promote_types(gradient.dtype, torch.float32)
                self._sums[parameter] = gradient.to(wide) * part.share

    def __bool__(self) -> bool:
        """Whether anything in it has weight."""
        return bool(self._first.gradients or self._sums)


def mean_cost(costs: list[tuple[float, float]], reduction: str) -> float | None:
    """Return the mean (or sum) of the cost over all rows, from the (cost, weight) of each of their parts.

    None if no row has weight, or a closure did not tell.
    """
    # A cost of weight 0 may be 0 / 0, and 0 times that is not 0.
    counted = [(cost, weight) for cost, weight in costs if weight and not math.isnan(cost)]
    if not counted:
        return None
    total = math.fsum(cost for cost, _ in counted)
    return total if reduction == "sum" else total / math.fsum(weight for _, weight in counted)
