r"""Learning rates that fall with the number t = 0, 1, 2, ... of updates, by scikit-learn's formulas.

    constant      lr
    optimal       1 / (alpha (t_0 + t)),  1 / (alpha t_0) = lr       with alpha the weight decay
    invscaling    lr / (t + 1)^power_t
    adaptive      lr / 5^k, k counting the times that the objective had ceased to fall

"optimal" is Bottou's (2010, COMPSTAT, section 5.2), who takes lr = alpha^(-1/4); so does scikit-learn.
"""

from dataclasses import dataclass
from math import inf

from torch_backprop.optim.arguments import check_choice, check_number
from torch_backprop.optim.convergence import Convergence

SCHEDULES = ("constant", "optimal", "invscaling", "adaptive")
DIVISOR, SMALLEST = 5.0, 1e-6


@dataclass
class Schedule:
    """A schedule and where it stands.

    Attributes:
        name: one of `SCHEDULES`.
        power_t: the exponent of "invscaling".
        convergence: judges passes for "adaptive".
        divisions: how often "adaptive" has divided.
        objective: the sum over the examples of the pass of what is minimized.
        examples: their number.
    """

    name: str
    power_t: float
    convergence: Convergence
    divisions: int = 0
    objective: float = 0.0
    examples: int = 0

    def __post_init__(self) -> None:
        check_choice("schedule", self.name, SCHEDULES)
        check_number("power_t", self.power_t)

    def rate(self, lr: float, update: int, alpha: float) -> float:
        """Return the learning rate of update number `update`, counted from 0.

        Example:
            >>> schedule = Schedule("invscaling", 0.5, Convergence(1e-3, 5))
            >>> schedule.rate(0.1, 0, 0.0), schedule.rate(0.1, 3, 0.0)
            (0.1, 0.05)
        """
        if self.name == "optimal":
            return lr / (1 + alpha * lr * update)
        if self.name == "invscaling":
            return lr / (update + 1) ** self.power_t
        return lr / DIVISOR**self.divisions

    def see(self, objective: float, examples: int) -> None:
        """Add what is minimized, summed over some examples, each at its parameters."""
        self.objective += objective
        self.examples += examples

    def end_pass(self, lr: float) -> bool:
        """Judge the pass, and return whether it is the last: lr is small, and the objective does not fall."""
        mean = self.objective / self.examples if self.examples else inf
        self.objective, self.examples = 0.0, 0
        if not self.convergence.see(mean):
            return False
        if self.rate(lr, 0, 0.0) <= SMALLEST:
            return True
        self.divisions += 1
        # The lowest objective stays: the smaller rate has to get below it.
        self.convergence.stalled = 0
        return False
