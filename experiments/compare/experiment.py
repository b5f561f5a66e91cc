"""Train one model by each variant of gradient descent, all else held equal."""

from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from experiments import interrupt
from experiments.compare import noise, rates, report, words
from experiments.compare.contender import Contender, contenders
from experiments.compare.measurement import COLUMNS, Limit, Outcome
from experiments.compare.noise import Noise
from experiments.compare.options import EPOCHS
from experiments.compare.rates import Trial
from experiments.compare.result import Result
from experiments.compare.tables import result_table, sweep_table
from experiments.compare.train import Leg, learner_for, train
from experiments.data.module import Data
from experiments.environment import device, environment
from experiments.page import bare
from experiments.processes import together
from experiments.report import say_where
from experiments.run import Run
from experiments.terminal import Bar

# What an update costs beside the rows it sums over, in rows; it only steers the bar.
UPDATE_WORK = 40


def main(run: Run) -> None:
    """Run the experiment, and report whatever it has come to even when it is interrupted.

    Raises:
        interrupt.Interrupted: After the report, if someone asked for a stop.
        DataError: If the data cannot be had or used.
    """
    # The models are too small to be worth sharing, and sums cut for one thread are the same on any machine.
    torch.set_num_threads(1)
    comparison = Comparison(run, Console(quiet=not run.leads))
    # The report is in the same block: a stop while it is written must not leave half of what there is to see.
    try:
        with together("compare", run):
            comparison.run_all()
        comparison.report()
    except interrupt.Interrupted:
        comparison.report()
        raise


class Comparison:
    """The state of one comparison, which its run folder keeps."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.console, self.options = run, console, run.options
        data = self.options.data
        self.data = Data(data.name, data.examples, data.context, self.options.seed)
        self.contenders = contenders(self.options)
        self.finals = [
            self._final(who, self.options.seed + i)
            for i in range(self.options.repeats)
            for who in self.contenders
        ]
        state = run.load_state()
        self.trials = [Trial(**trial) for trial in state.get("trials", [])]
        self.outcomes = {name: Outcome(**outcome) for name, outcome in state.get("outcomes", {}).items()}
        self.noises = [Noise(**each) for each in state.get("noises", [])]
        here = environment(self.options.seed, device(self.options.trainer.accelerator))
        self.environments = [*state.get("environments", []), here]

    def run_all(self) -> None:
        """Sweep, then train; what an earlier process has finished is not done again."""
        self.save()
        examples = self.data.order.examples
        sweep = [leg for who in self.contenders for leg in rates.legs(self.options, who, examples)]
        points = 1 + bool(self.finals)
        work = self._work(sweep[-1] if sweep else self.finals[-1])
        with Bar(self.console, sum(map(self._work, sweep + self.finals)) + points * work) as bar:
            for number, leg in enumerate(sweep, 1):
                phase = f"Sweep {number}/{len(sweep)} · {leg.contender.name} · rate {leg.lr:g}"
                bar.begin(self._work(leg), phase)
                self._try(leg, bar)
            if self.trials:
                self.console.print(sweep_table(self.trials, self.contenders, self.chosen()), "")
            for number, leg in enumerate(self.finals, 1):
                bar.begin(self._work(leg), f"Training {number}/{len(self.finals)} · {leg.contender.name}")
                self._train(leg, bar)
            for where, leg in (("at the start", None), ("at the end", self._best())):
                bar.begin(work, f"Gradient noise {where}")
                self._measure_noise(where, leg, bar)

    def save(self) -> None:
        """Write state and measurements as they are now."""
        trials = [trial.row() for trial in self.trials]
        outcomes = {name: asdict(outcome) for name, outcome in self.outcomes.items()}
        noises = [asdict(each) for each in self.noises]
        # The state first: it alone is read again, the others are for people.
        state = {"trials": trials, "outcomes": outcomes, "noises": noises, "environments": self.environments}
        self.run.save_state(state)
        self.run.write_rows("sweep.csv", Trial.COLUMNS, trials)
        points = [
            {**point, "variant": each["name"], "seed": each["seed"]}
            for each in outcomes.values()
            for point in each["points"]
        ]
        self.run.write_rows("metrics.csv", COLUMNS, points)

    def chosen(self) -> dict[str, float]:
        """Return each contender's learning rate, given or found, by its name."""
        pairs = [
            (who.name, rates.given(self.options, who) or rates.best(self.trials, who.name))
            for who in self.contenders
        ]
        return {name: rate for name, rate in pairs if rate}

    def results(self) -> list[Result]:
        """Gather the trainings of each contender that has begun."""
        begun = [(leg.contender, self.outcomes[leg.name]) for leg in self.finals if leg.name in self.outcomes]
        gathered = [Result(who, [each for mine, each in begun if mine == who]) for who in self.contenders]
        return [result for result in gathered if result.outcomes]

    def report(self) -> None:
        """Write everything, print the table, and say where the report is."""
        if not self.run.leads:
            return
        self.save()
        results, chosen = self.results(), self.chosen()
        found = report.Findings(
            self.run, self.data, results, self.trials, chosen, self.noises, self.environments
        )
        path = report.write(found)
        if results:
            self.console.print(result_table(results, self.data.score), "")
        elif self.trials:
            self.console.print(sweep_table(self.trials, self.contenders, chosen), "")
        verdicts = words.race(results, found.cost, found.spent)
        for line in [*words.divergences(results), *verdicts]:
            self.console.print(bare(line), highlight=False, markup=False)
        say_where(self.console, self.run, path)

    def _final(self, who: Contender, seed: int) -> Leg:
        unit, amount = self.options.budget
        seen = who.budget(self.options, self.data.order.examples)
        limit = Limit(seen) if unit != "seconds" else Limit(seconds=amount)
        name = who.key if self.options.repeats == 1 else f"{who.key}-seed-{seed}"
        # The rate is known only after the sweep.
        return Leg(name, who, 0.0, seed, limit, events=True)

    def _work(self, leg: Leg) -> float:
        rows = self.data.order.examples
        seen = leg.limit.examples or EPOCHS * rows
        return seen * (1 + UPDATE_WORK / leg.contender.group(rows))

    def _try(self, leg: Leg, bar: Bar) -> None:
        if any((trial.name, trial.lr) == (leg.contender.name, leg.lr) for trial in self.trials):
            return
        outcome = Outcome(leg.contender.name, leg.seed, leg.lr)
        train(leg, self.data, self.run, outcome, lambda share, epoch, cost: bar.move(share))
        self.trials.append(Trial.of(outcome, (leg.limit.examples or 0) // self.data.order.examples))
        self.save()
        # Only after the trial is on record: a stop in between costs nothing.
        self.run.checkpoint(leg.name).unlink(missing_ok=True)

    def _train(self, leg: Leg, bar: Bar) -> None:
        leg = Leg(leg.name, leg.contender, self.chosen()[leg.contender.name], leg.seed, leg.limit, leg.events)
        # Stopped before its first checkpoint, a training begins anew, and so do its measurements.
        if leg.name not in self.outcomes or not self.outcomes[leg.name].finished:
            self.outcomes[leg.name] = Outcome(leg.contender.name, leg.seed, leg.lr)
        outcome = self.outcomes[leg.name]

        def progress(share: float, epoch: float, cost: float) -> None:
            bar.move(share, f"epoch {epoch:.1f} · cost {cost:.3f}")

        if not outcome.finished:
            train(leg, self.data, self.run, outcome, progress)
            self.save()

    def _best(self) -> Leg | None:
        """Return the sound training that ended lowest, of the first seed."""
        sound = [leg for leg in self.finals[: len(self.contenders)] if self.outcomes[leg.name].sound]
        return min(sound, key=lambda leg: self.outcomes[leg.name].points[-1]["cost"], default=None)

    def _measure_noise(self, where: str, leg: Leg | None, bar: Bar) -> None:
        if not self.run.leads or any(each.where.startswith(where) for each in self.noises):
            return
        learner = learner_for(self.options, self.data, self.options.seed)
        if where == "at the end":
            if leg is None:
                return
            where = f"{where} of {leg.contender.name}"
            kept: Any = torch.load(self.run.checkpoint(leg.name), weights_only=True)
            learner.load_state_dict(kept["state_dict"])
        part, fast = self.data.parts["train"], self.options.fast
        self.noises.append(noise.measure(where, learner, part, self.options.seed, fast, bar.move))
        self.save()
