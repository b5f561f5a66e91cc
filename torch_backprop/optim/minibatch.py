"""Mini-batch gradient descent. Bottou, Curtis & Nocedal (2018), SIAM Review 60, 223-311, algorithm 4.1."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from torch_backprop.optim.arguments import Rate, Settings, check_choice, check_count
from torch_backprop.optim.descent import Descent
from torch_backprop.optim.open_group import OpenGroup


class MiniBatchGD(Descent):
    r"""Mini-batch gradient descent: one update per b examples, whatever the loader's batch size.

        theta <- theta - lr * sum_{i in G} w_i grad l_i(theta) / sum_{i in G} w_i        |G| = b

    Args:
        params: see `Descent`.
        lr: learning rate per update.
        batch_size: b, the number of examples per update.
        last: what becomes of a last group of r < b examples. "own": divide by its own weight, as a loader
            with drop_last=False would. "drop": make no update. "expected": as "own", times r / b, as if the
            missing gradients were zero. "carry": fill it up from the next pass (`flush` does as "own").
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
        **settings: Unpack[Settings],
    ) -> None:
        check_count("batch_size", batch_size)
        check_choice("last", last, ("own", "drop", "expected", "carry"))
        # Kept out of the parameter groups: one group of examples spans them all.
        self.group_size = self.batch_size = int(batch_size)
        self.last = last
        super().__init__(params, lr, **settings)

    def flush(self) -> None:
        """Close the open group as `last` says. Does nothing if it has no examples."""
        if self.last == "drop":
            self._group = OpenGroup()
        else:
            self._close(self._group.examples / self.batch_size if self.last == "expected" else 1.0)

    def _end_pass(self) -> None:
        if self.last != "carry":
            self.flush()

    def _identity(self) -> dict[str, Any]:
        return {**super()._identity(), "batch_size": self.batch_size}
