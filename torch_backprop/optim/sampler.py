"""Which examples come in which loader batch, in which order, on which process."""

from collections.abc import Iterator, Sized
from itertools import pairwise

import torch
from torch.utils.data import Sampler

from torch_backprop.optim.arguments import check_choice, check_count, require
from torch_backprop.optim.processes import place

# Odd and large, so that neighbouring seeds do not share passes.
STRIDE = 0x9E3779B97F4A7C15


class WindowSampler(Sampler[list[int]]):
    r"""Cuts a pass over N examples into windows, and each window into one loader batch for each process.

    Every example comes exactly once in a pass: none is added to make the processes even, none is left out.
    Process r of P gets every P-th example of a window, from the r-th on, so that the optimizers of this
    package put them back into the order of the pass. Windows hold P times `batch_size` examples; a last one
    with fewer examples than processes is joined to the one before.

    Args:
        examples: the data set, or N.
        batch_size: the number of examples in a loader batch of one process.
        order: "sequential"; "reshuffle", another order in each pass; or "replacement", N independent draws.
        seed: of a random generator of its own, which every process must have the same.
        rank: r, by default that of this process in torch.distributed.
        processes: P, by default those of torch.distributed, or 1.

    Pass p is drawn from (seed, p) alone. Passes count by themselves, and `set_epoch`, which Lightning calls,
    says which one is next. With Lightning set ``Trainer(use_distributed_sampler=False)``.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> [list(WindowSampler(7, 2, "sequential", rank=rank, processes=2)) for rank in (0, 1)]
        [[[0, 2], [4, 6]], [[1, 3], [5]]]
    """

    def __init__(
        self,
        examples: int | Sized,
        batch_size: int,
        order: str = "reshuffle",
        *,
        seed: int = 0,
        rank: int | None = None,
        processes: int | None = None,
    ) -> None:
        own_rank, own_processes = place()
        self.examples = len(examples) if isinstance(examples, Sized) else examples
        self.batch_size, self.order, self.pass_number = batch_size, order, 0
        self.rank = own_rank if rank is None else rank
        self.processes = own_processes if processes is None else processes
        check_count("batch_size", batch_size)
        check_count("seed", seed, 0)
        # Python's own: numpy's would overflow where STRIDE is added.
        self.seed = int(seed)
        check_count("processes", self.processes)
        check_choice("order", order, ("sequential", "reshuffle", "replacement"))
        require(0 <= self.rank < self.processes, "rank", self.rank, f"from 0 to below {self.processes}")
        check_count("examples", self.examples, self.processes)

    @property
    def sampler(self) -> "WindowSampler":
        """This sampler, where Lightning looks for what to tell the epoch."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Make pass number `epoch` the next one."""
        self.pass_number = int(epoch)

    def __len__(self) -> int:
        """Return the number of loader batches in a pass."""
        return len(self._starts()) - 1

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the examples of each loader batch of the next pass."""
        order = self._draw(self.pass_number)
        self.pass_number += 1
        starts = self._starts()
        for start, stop in pairwise(starts):
            yield order[start + self.rank : stop : self.processes]

    def _draw(self, pass_number: int) -> list[int]:
        # A generator of its own: what the model draws must not depend on the data's order, nor the other way.
        generator = torch.Generator().manual_seed((self.seed + pass_number * STRIDE) % 2**63)
        if self.order == "reshuffle":
            return torch.randperm(self.examples, generator=generator).tolist()
        if self.order == "replacement":
            return torch.randint(self.examples, (self.examples,), generator=generator).tolist()
        return list(range(self.examples))

    def _starts(self) -> list[int]:
        starts = [*range(0, self.examples, self.batch_size * self.processes), self.examples]
        # A loader cannot make a batch of no examples.
        if len(starts) > 2 and starts[-1] - starts[-2] < self.processes:
            del starts[-2]
        return starts
