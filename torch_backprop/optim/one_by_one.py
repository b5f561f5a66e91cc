"""An update whose gradients come one parameter at a time, each used at once and then forgotten.

The formulas of `update` move each parameter by its own gradient, so that the order makes no difference; what
looks at all gradients together, or at more than one call's examples, cannot be had in this way.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from torch_backprop.optim.open_group import OpenGroup
from torch_backprop.optim.update import Updater

REFUSED = "update={} cannot move one parameter at a time: {}. Call without update, and step as usual."
SPANS = (
    "update={} makes an update of {} examples, and inputs has {} (with {} waiting): call with as many as make"
    " an update, or without update."
)


class OneByOne(Updater):
    """Updates parameter by parameter; for a pass back through a model that updates as it goes."""

    group_size: float
    reduction: str
    examples_seen: int
    _group: OpenGroup

    def why_not_one_by_one(self) -> str:
        """Return what needs all gradients at once; nothing if nothing does."""
        if self.max_norm is not None:
            return f"max_norm={self.max_norm} bounds the norm of all gradients together"
        if self._update_pre_hooks:
            return "its update pre-hooks expect all gradients"
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks:
            return "its hooks on steps would not be called"
        return self._needs_all()

    def check_one_by_one(self) -> None:
        """Refuse what needs all gradients at once.

        Raises:
            ValueError: naming the setting that does.
        """
        if why := self.why_not_one_by_one():
            raise ValueError(REFUSED.format(type(self).__name__, why))

    @contextmanager
    def one_by_one(self, examples: int) -> Iterator[Callable[[Tensor, Tensor], None]]:
        """Within, ``move(parameter, gradient)`` updates a parameter; at the end the update is counted.

        Args:
            examples: the number of examples that the gradients are of.

        Raises:
            ValueError: these do not make one update, or a setting needs all gradients at once.
        """
        self.check_one_by_one()
        if self._group.examples or examples != self.group_size:
            size, waiting = f"{self.group_size:g}", self._group.examples
            raise ValueError(SPANS.format(type(self).__name__, size, examples, waiting))
        self._set_rates()
        share = 1 / examples if self.reduction == "sum" else 1.0
        yield lambda parameter, gradient: self._move(
            {parameter: gradient * share if share != 1 else gradient}
        )
        self.updates += 1
        self.examples_seen += examples
        for hook in list(self._update_hooks.values()):
            hook(self)

    def _needs_all(self) -> str:
        """Why not, if not."""
        return ""
