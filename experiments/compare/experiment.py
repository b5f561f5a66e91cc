"""Train one model by each variant of gradient descent, all else held equal."""

import math
from dataclasses import asdict

import torch
import yaml
from rich.console import Console

from experiments import interrupt, rates, words
from experiments.data import Table
from experiments.environment import environment
from experiments.measurement import COLUMNS, Outcome
from experiments.options import VARIANTS
from experiments.rates import Trial
from experiments.report import write_report
from experiments.run import Run
from experiments.terminal import Bar, result_table, sweep_table
from experiments.train import Leg, device, train

# What an update costs beside the rows it sums over, in rows; it only steers the bar.
UPDATE_WORK = 40


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to even when it is interrupted.

    Raises:
        interrupt.Interrupted: After the report, if someone asked for a stop.
    """
    # The models are too small to be worth sharing, and sums cut for one thread are the same on any machine.
    torch.set_num_threads(1)
    comparison = Comparison(run, Console())
    # The report is in the same block: a stop while it is written must not leave half of what there is to see.
    try:
        comparison.run_all()
        comparison.report()
    except interrupt.Interrupted:
        comparison.report()
        raise


class Comparison:
    """The state of one comparison, which its run folder keeps."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.console, self.options = run, console, run.options
        self.data = Table(run.options.data, run.options.seed)
        state = run.load_state()
        self.trials = [Trial(**trial) for trial in state.get("trials", [])]
        self.outcomes = {outcome["variant"]: Outcome(**outcome) for outcome in state.get("outcomes", [])}
        here = environment(run.options.seed, device(run.options.accelerator))
        self.environments = [*state.get("environments", []), here]

    def run_all(self) -> None:
        """Sweep, then train; what an earlier process has finished is not done again."""
        self.save()
        sweep = [leg for variant in VARIANTS for leg in rates.legs(self.options, variant)]
        finals = [Leg(variant, variant, 0.0, self.options.epochs) for variant in VARIANTS]
        with Bar(self.console, sum(map(self._work, sweep + finals))) as bar:
            for number, leg in enumerate(sweep, 1):
                bar.begin(self._work(leg), f"Sweep {number}/{len(sweep)} · {leg.variant} · rate {leg.lr:g}")
                self._try(leg, bar)
            if self.trials:
                self.console.print(sweep_table(self.trials, self.chosen()), "")
            for number, leg in enumerate(finals, 1):
                bar.begin(self._work(leg), f"Training {number}/{len(finals)} · {leg.variant}")
                self._train(leg.variant, bar)

    def save(self) -> None:
        """Write state and measurements as they are now."""
        trials = [trial.row() for trial in self.trials]
        outcomes = [asdict(outcome) for outcome in self.outcomes.values()]
        points = [point for outcome in outcomes for point in outcome["points"]]
        # The state first: it alone is read again, the others are for people.
        self.run.save_state({"trials": trials, "outcomes": outcomes, "environments": self.environments})
        self.run.write_rows("sweep.csv", Trial.COLUMNS, trials)
        self.run.write_rows("metrics.csv", COLUMNS, points)
        self.run.write("environment.yaml", yaml.safe_dump(self.environments, sort_keys=False))

    def chosen(self) -> dict[str, float]:
        """Return each variant's learning rate, given or found."""
        found = {variant: rates.best(self.trials, variant) for variant in VARIANTS}
        return {variant: rate for variant, rate in {**found, **self.options.lr}.items() if rate}

    def report(self) -> None:
        """Write everything, print the table, and say where the report is."""
        self.save()
        outcomes = list(self.outcomes.values())
        here = self.environments[-1]
        path = write_report(self.run, self.data, self.trials, outcomes, self.chosen(), here)
        if outcomes:
            self.console.print(result_table(outcomes, self.data.score), "")
        elif self.trials:
            self.console.print(sweep_table(self.trials, self.chosen()), "")
        for line in words.divergences(outcomes):
            self.console.print(line, highlight=False)
        places = f"Report       {path}\nTensorBoard  tensorboard --logdir {self.run.folder}"
        self.console.print(places, soft_wrap=True, highlight=False, markup=False)

    def _work(self, leg: Leg) -> float:
        rows = self.data.order.examples
        group = {"batch": rows, "stochastic": 1, "mini-batch": self.options.batch_size}[leg.variant]
        return leg.epochs * rows * (1 + UPDATE_WORK / group)

    def _try(self, leg: Leg, bar: Bar) -> None:
        if any((trial.variant, trial.lr) == (leg.variant, leg.lr) for trial in self.trials):
            return
        outcome = Outcome(leg.variant, leg.lr)
        train(leg, self.data, self.run, outcome, lambda done, cost: bar.move(done / leg.epochs))
        self.trials.append(Trial.of(leg, outcome))
        self.save()
        # Only after the trial is on record: a stop in between costs nothing.
        self.run.checkpoint(leg.name).unlink(missing_ok=True)

    def _train(self, variant: str, bar: Bar) -> None:
        leg = Leg(variant, variant, self.chosen()[variant], self.options.epochs, events=True)
        # Stopped before its first checkpoint, a training begins anew, and so do its measurements.
        if variant not in self.outcomes or not self.run.checkpoint(variant).exists():
            self.outcomes[variant] = Outcome(variant, leg.lr)
        outcome = self.outcomes[variant]

        def progress(done: float, cost: float) -> None:
            bar.move(done / leg.epochs, f"epoch {math.ceil(done)} of {leg.epochs} · cost {cost:.3f}")

        if not outcome.finished:
            train(leg, self.data, self.run, outcome, progress)
            self.save()
