"""Stochastic gradient descent. Robbins & Monro (1951), Annals of Mathematical Statistics 22, 400-407."""

from torch_backprop.optim.descent import Descent


class StochasticGD(Descent):
    r"""Stochastic gradient descent: one update per example, whatever the loader's batch size.

        theta <- theta - lr * grad l_i(theta)        i = 1, 2, ... in the loader's order

    A weight scales nothing here, for each example is divided by its own; one of 0 skips its example. Feed
    loader batches of many rows: they are walked one by one. The arguments are those of `Descent`.

    Example:
        >>> import torch
        >>> theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        >>> optimizer = StochasticGD([theta], lr=0.5)
        >>> cost = optimizer.step(lambda y: ((theta - y) ** 2).mean() / 2, torch.tensor([1.0, 2.0, 3.0, 6.0]))
        >>> theta.item(), optimizer.updates, optimizer.examples_seen
        (4.0625, 4, 4)
    """

    group_size = 1
