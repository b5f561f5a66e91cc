"""Batch gradient descent. Cauchy (1847), Comptes rendus 25, 536-538."""

import math

from torch_backprop.optim.descent import Descent


class BatchGD(Descent):
    r"""Batch gradient descent: one update per pass, from the exact gradient over all N examples.

        theta <- theta - lr * sum_{i=1}^{N} w_i grad l_i(theta) / sum_{i=1}^{N} w_i

    The update is made at the end of the pass, by `epoch` or `flush`. The arguments are those of `Descent`.

    Example:
        >>> import torch
        >>> theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> optimizer = BatchGD([theta], lr=0.5)
        >>> loader = torch.tensor([1.0, 2.0, 3.0, 6.0]).split(3)
        >>> for y in optimizer.epoch(loader):
        ...     cost = optimizer.step(lambda y: ((theta - y) ** 2).mean() / 2, y)
        >>> theta.item(), optimizer.updates, optimizer.examples_seen
        (1.5, 1, 4)
    """

    group_size = math.inf
