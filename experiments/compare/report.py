"""The report: what was measured, what it says, and what was held equal, on one page."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from experiments import report
from experiments.compare import plots, words
from experiments.compare.contender import Contender, contenders
from experiments.compare.measurement import start_and_order
from experiments.compare.noise import Noise
from experiments.compare.options import Options
from experiments.compare.rates import Trial
from experiments.compare.result import BUDGETS, Result, Spent, finish_line
from experiments.compare.train import learner_for
from experiments.data.module import Data
from experiments.model.learner import Learner
from experiments.model.networks import describe
from experiments.page import bullets, grid, lead, legend, name, note, section, table, wide
from experiments.run import Run
from experiments.words import series

TITLE = "Three ways down the same slope"


@dataclass
class Findings:
    """All that a comparison has measured so far."""

    run: Run
    data: Data
    results: Sequence[Result]
    trials: Sequence[Trial]
    chosen: dict[str, float]
    noises: Sequence[Noise]
    environments: Sequence[dict[str, Any]]
    cost: float = field(init=False)
    spent: Spent = field(init=False)

    def __post_init__(self) -> None:
        self.cost, self.spent = finish_line(self.results, self.options.target)

    @property
    def options(self) -> Options:
        """The options of the run."""
        return self.run.options

    @property
    def contenders(self) -> list[Contender]:
        """Those who have begun."""
        return [result.contender for result in self.results]

    @cached_property
    def learner(self) -> Learner:
        """The model at the start of the first seed."""
        return learner_for(self.options, self.data, self.options.seed)

    @property
    def legend(self) -> str:
        """Their names, as the figures show them."""
        return legend(_named(contender) for contender in self.contenders)


def write(found: Findings) -> Path:
    """Write report.html from whatever has been measured.

    Returns:
        Its path.
    """
    options = found.options
    sections = [_summary(found)]
    if found.results:
        sections += [_costs(found), _race(found), _scores(found)]
    if found.noises:
        text = words.noise(found.noises)
        where = legend(name(each.where, plots.NOISE + i) for i, each in enumerate(found.noises))
        sections.append(section("Gradient noise", text, where, wide(plots.noise(found.noises))))
    if found.trials:
        sections.append(_sweep(found))
    sections.append(_equal(found))
    unit, amount = options.budget
    seeds = f"seed {options.seed}" if options.repeats == 1 else f"seeds {options.seed} to {_last(options)}"
    subtitle = f"{options.data.name} · {options.model.name} · {amount:g} {unit} · {seeds}"
    return report.write_report(found.run, TITLE, subtitle, sections, found.environments)


def _last(options: Options) -> int:
    return options.seed + options.repeats - 1


def _named(contender: Contender) -> str:
    return name(contender.name, contender.series)


def _summary(found: Findings) -> str:
    score = found.data.score
    said = f"{words.headline(found.results, score)} {words.winners(found.results, found.cost, found.spent)}"
    rows = [[_named(result.contender), *map(escape, words.ends(result))] for result in found.results]
    notes = [note(line) for line in words.divergences(found.results)]
    return "\n".join([lead(said), *notes, table(words.heads(score), rows) if rows else ""])


def _costs(found: Findings) -> str:
    text = (
        "The same descents, measured four ways: a pass over the data, a change of the parameters, an example"
        " and a second are four different prices. The cost is the mean over the whole training part."
    )
    if found.options.repeats > 1:
        text += (
            f" Each line is the median of {found.options.repeats} seeds, its band from the least to the most."
        )
    if any(result.diverged for result in found.results):
        text += " A cross at the edge of a figure marks the last finite update of a variant that diverged."
    unit = found.learner.unit
    # Epochs stay linear, to show how fast the first ones are; the other three span decades.
    target = found.cost if found.spent else None
    figures = [
        plots.curves(found.results, x, "cost", f"training cost, {unit}", x != "epoch", True, target)
        for x in plots.UNITS
    ]
    return section("Cost", text, found.legend, grid(figures))


def _race(found: Findings) -> str:
    """Tabulate what each contender spent until it reached the cost, and say who won."""
    if not found.spent:
        return ""
    middle = {who: {b: median(values[b]) for b in BUDGETS} for who, values in found.spent.items()}
    least = {budget: min(each[budget] for each in middle.values()) for budget in BUDGETS}

    def cell(spent: dict[str, float], budget: str) -> str:
        text = words.amount(budget, spent[budget])
        return f"<b>{text}</b>" if spent[budget] == least[budget] else text

    reached = [contender for contender in found.contenders if contender.name in middle]
    rows = [[_named(each), *(cell(middle[each.name], budget) for budget in BUDGETS)] for each in reached]
    which = "the lowest that all of them reach" if found.options.target is None else "the target"
    text = f"What each had spent when it was first measured at a training cost of {found.cost:.3g}, {which}."
    names = ("variant", "epochs", "updates", "examples", "seconds")
    verdicts = bullets(words.race(found.results, found.cost, found.spent))
    gap = words.missed(found.results, found.cost, found.spent)
    return section(
        f"The way to a cost of {found.cost:.3g}", text, table(names, rows), note(gap) if gap else "", verdicts
    )


def _scores(found: Findings) -> str:
    quantity = found.data.score.removeprefix("test ")
    text = "On examples that no update has seen. The test part is looked at once, after the last update."
    figures = (
        plots.curves(found.results, x, "validation_score", f"validation {quantity}", True, False)
        for x in ("epoch", "seconds")
    )
    return section(quantity[0].upper() + quantity[1:], text, found.legend, grid(figures))


def _sweep(found: Findings) -> str:
    epochs = {trial.name: trial.epochs for trial in found.trials}
    lengths = series([f"{number} of {each}" for each, number in epochs.items()])
    tried = [each for each in contenders(found.options) if each.name in epochs]
    text = (
        f"Found by trial and error: a short training from the same start at each rate (epochs: {lengths}),"
        f" and the lowest validation cost wins: {words.rate_order(found.chosen, found.trials, tried)}"
    )
    figure = wide(plots.sweep(found.trials, tried, found.chosen, found.learner.unit))
    return section("Learning rates", text, legend(map(_named, tried)), figure)


def _equal(found: Findings) -> str:
    options, data = found.options, found.data
    start, order = start_and_order(outcome for result in found.results for outcome in result.outcomes)
    sizes = series([f"{len(part.y):,} {key}" for key, part in data.parts.items()])
    network, parameters = describe(found.learner.network, options.model.name)
    unit, amount = options.budget
    dealt = "as they follow in the text" if data.kind == "text" else "stratified"
    scaled = "" if data.kind == "text" else "; standardized by the training part's mean and deviation"
    items = (
        f"<b>Model:</b> {network}, {parameters:,} parameters, backward passes derived by hand.",
        f"<b>Start:</b> the same initial parameters, bit for bit; digest <code>{start}</code>.",
        f"<b>Order:</b> the same examples in the same order in every epoch; digest <code>{order}</code>.",
        f"<b>Data:</b> {sizes} examples, {dealt}{scaled}.",
        f"<b>Budget:</b> {amount:g} {unit} each.",
    )
    text = (
        "Each training takes these digests, which must agree. What differs is the learning rate, and when"
        f" the parameters move: {series([_moves(each) for each in contenders(options)])}."
        " Seconds are those of the training loop; measuring, checkpoints and the test are not on the clock."
    )
    return section("What was held equal", text, bullets(items))


def _moves(contender: Contender) -> str:
    every = {"batch": "every pass", "stochastic": "every example"}
    return f"{contender.name} after {every.get(contender.variant, f'every {contender.size:g} examples')}"
