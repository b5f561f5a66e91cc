"""The options of the sweep."""

from dataclasses import dataclass, replace
from typing import Any

from experiments.compare import options as compare
from experiments.options import TrainingOptions, listing, maybe, one_of, option, positive, several, whole

RATES = (0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Options(TrainingOptions):
    """One sweep's settings: each of its runs is a comparison of one contender at one rate and seed."""

    variants: tuple[str, ...] = option(
        compare.VARIANTS,
        several(one_of(compare.VARIANTS)),
        f"Variants, between commas: {listing(compare.VARIANTS)}.",
        "NAMES",
    )
    batch_size: tuple[int, ...] = option(
        (8, 32), several(whole(1, 10**6)), "Examples in one mini-batch.", "N,...", fast=(32,)
    )
    lr: tuple[float, ...] = option(
        RATES, several(compare.rate), "Learning rates.", "RATE,...", fast=(0.03, 0.3)
    )
    repeats: int = option(3, whole(1, 1000), "Seeds of each: of start, order and split.", fast=1)
    epochs: int | None = option(
        None, maybe(whole(1, 10**6)), "Budget: passes over the training part; as in compare by default."
    )
    updates: int | None = option(None, maybe(whole(1, 10**9)), "Budget: updates of the parameters.")
    seconds: float | None = option(
        None, maybe(positive("time in seconds")), "Budget: seconds of training.", "SECONDS"
    )
    processes: int | None = option(
        None, maybe(whole(1, 10**4)), "Runs at the same time; by default as many as processors."
    )

    def check(self) -> None:
        """Allow one budget."""
        super().check()
        self.of_run("batch", 1, 1.0, 0).check()

    def of_run(self, variant: str, batch_size: int, lr: float, seed: int) -> compare.Options:
        """Return the options of one of the runs."""
        shared = {name: getattr(self, name) for name in ("fast", "model", "data", "trainer")}
        budget: dict[str, Any] = {name: getattr(self, name) for name in ("epochs", "updates", "seconds")}
        own = {"variants": (variant,), "batch_size": (batch_size,), "lr": {variant: lr}, "seed": seed}
        return replace(compare.Options(), **shared, **budget, **own)
