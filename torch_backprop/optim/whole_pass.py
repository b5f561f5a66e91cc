"""A whole pass over tensors in memory, by whichever path is the fastest."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from torch_backprop.optim.descend import Descending
from torch_backprop.optim.descent import Descent


class WholePass(Descent):
    """Descends without a loader.

    Attributes:
        paths: how many examples of the last `descend` went by each path.
        why_not: by path, why the last `descend` could not take it, if it tried.
    """

    paths: dict[str, int] = {}
    why_not: dict[str, str] = {}

    def descend(
        self,
        model: Any,
        loss: Callable[[Any, Any], Tensor],
        inputs: Any,
        targets: Any,
        *,
        path: str | None = None,
        quiet: bool = False,
    ) -> Tensor | None:
        """Make one whole pass over tensors in memory, by the fastest path that ends in the same parameters.

        "compiled" runs a stretch of examples in one call of compiled code, as loops in C on the CPU;
        "unrolled" does so by Inductor, on CUDA, and where there is no translation into C; "vectors" takes one
        example at a time through Linear and elementwise layers by vectors. These are for `StochasticGD`; the
        first two are compiled once for a model, its options and the shapes, where a compiler is found and the
        work ahead repays the seconds. Else "tape" takes any model by `Backpropagation`; and "autograd", where
        an update is of many examples, by autograd and the model's own layers, which is then faster.

        Args:
            model: any module of this package's layers, or converted to them, and ordinary operations.
            loss: a module or function of output and targets, that returns their mean or sum (`reduction`).
            inputs: of shape (N, *), in the order of the pass; or a tuple of the model's arguments of such a
                shape, or a dict of named ones, for which the paths of single tensors are not open.
            targets: of shape (N, *) too, one tensor or several.
            path: one of these, instead of the fastest.
            quiet: show no progress bar, which else appears on a terminal after two seconds.

        Returns:
            As `step`: the mean (or sum) of the costs, each at the parameters it was computed at.

        Raises:
            TypeError: if an argument is of a wrong kind, or the model does not take integers.
            ValueError: if there are not as many targets as inputs, the path is not possible, or a cost is
                not finite; the message names the example, and the parameters are those before it.
        """
        descending = Descending(self, model, loss, inputs, targets, path)
        # The same, that they may be asked after a failure too.
        self.paths, self.why_not = descending.course.taken, descending.why_not
        return descending.run(quiet)
