r"""Mini-batch gradient descent. Bottou, Curtis & Nocedal (2018), SIAM Review 60, 223-311, algorithm 4.1.

A learning rate lr that is right for groups of b_0 examples is carried over to groups of b, at update t:

    linear   lr b / b_0            Goyal et al. (2017), arXiv:1706.02677, section 2.1
    sqrt     lr sqrt(b / b_0)      Krizhevsky (2014), arXiv:1404.5997, section 5
    warm-up over T updates: times min(1, (t + 1) / T)               Goyal et al., section 2.2
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from torch_backprop.optim.arguments import Rate, Settings, check_choice, check_count, check_lr, require
from torch_backprop.optim.open_group import OpenGroup
from torch_backprop.optim.whole_pass import WholePass


class MiniBatchGD(WholePass):
    r"""Mini-batch gradient descent: one update per b examples, whatever the loader's batch size.

        theta <- theta - lr * sum_{i in G} w_i grad l_i(theta) / sum_{i in G} w_i        |G| = b

    Args:
        params: see `Descent`.
        lr: learning rate per update.
        batch_size: b, the number of examples per update.
        last: what becomes of a last group of r < b examples. "own": divide by its own weight, as a loader
            with drop_last=False would. "drop": make no update. "expected": as "own", times r / b, as if the
            missing gradients were zero. "carry": fill it up from the next pass (`flush` does as "own").
        scale_lr: carry `lr` over from groups of `base_batch_size` examples to those of b, by the "linear" or
            the "sqrt" rule.
        base_batch_size: b_0; see `scale_lr`.
        warmup: T, the number of updates over which lr grows to its value. A scheduler of torch cannot set lr
            as well; with one let SequentialLR start with LinearLR instead.
        settings: see `Descent`: momentum, dampening, nesterov, weight_decay, maximize, max_norm, reduction,
            normalize.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> optimizer = MiniBatchGD([theta], lr=0.5, batch_size=2)
        >>> loader = torch.tensor([1.0, 2.0, 3.0, 6.0]).split(3)
        >>> for y in optimizer.epoch(loader):
        ...     cost = optimizer.step(lambda y: ((theta - y) ** 2).mean() / 2, y)
        >>> theta.item(), optimizer.updates, optimizer.examples_seen
        (2.625, 2, 4)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor | Rate,
        batch_size: int,
        *,
        last: str = "own",
        scale_lr: str | None = None,
        base_batch_size: int | None = None,
        warmup: int = 0,
        **settings: Unpack[Settings],
    ) -> None:
        check_count("batch_size", batch_size)
        check_choice("last", last, ("own", "drop", "expected", "carry"))
        # Kept out of the parameter groups: one group of examples spans them all.
        self.group_size = self.batch_size = int(batch_size)
        self.last = last
        check_choice("scale_lr", scale_lr, (None, "linear", "sqrt"))
        check_count("warmup", warmup, 0)
        # A rule without the size that lr is meant for, or the other way round, is half a request.
        given = (scale_lr is None) == (base_batch_size is None)
        require(given, "base_batch_size", base_batch_size, "given if and only if scale_lr is")
        self._factor = 1.0
        if base_batch_size is not None:
            check_count("base_batch_size", base_batch_size)
            ratio = batch_size / base_batch_size
            self._factor = ratio if scale_lr == "linear" else math.sqrt(ratio)
        self.warmup, self.scheduled = warmup, warmup > 0
        super().__init__(params, lr, **settings)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; their `lr` is scaled too."""
        lr = param_group.get("lr", self.defaults["lr"])
        check_lr(lr)
        if self._factor != 1.0:
            param_group = {**param_group, "lr": _scaled(lr, self._factor)}
        super().add_param_group(param_group)

    def rate(self, group: Mapping[str, Any]) -> float:
        """Return the lr of a parameter group for the next update, by the warm-up."""
        return group["eta0"] * min(1.0, (self.updates + 1) / self.warmup)

    def flush(self) -> None:
        """Close the open group as `last` says. Does nothing if it has no examples."""
        if self.last == "drop":
            self._group = OpenGroup()
        elif self._group.examples:
            self._set_rates()
            self._close(self._group.examples / self.batch_size if self.last == "expected" else 1.0)

    def _end_pass(self) -> None:
        if self.last != "carry":
            self.flush()

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "batch_size": self.batch_size}


def _scaled(lr: Any, factor: float) -> Any:
    if callable(lr):
        function: Any = lr
        return lambda update: factor * function(update)
    return factor * lr
