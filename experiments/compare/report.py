"""The report: what was measured, what it says, and what was held equal, on one page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from experiments import plots, words
from experiments.data import Table
from experiments.measurement import Outcome, start_and_order
from experiments.model import describe
from experiments.page import bullets, grid, legend, name, page, section, table, wide
from experiments.rates import Trial
from experiments.run import Run
from experiments.terminal import cells, heads

TITLE = "Three ways down the same slope"


def write_report(
    run: Run,
    data: Table,
    trials: Sequence[Trial],
    outcomes: Sequence[Outcome],
    chosen: dict[str, float],
    environment: dict[str, Any],
) -> Path:
    """Write report.html from whatever has been measured.

    Returns:
        Its path.
    """
    options = run.options
    sections = [_summary(outcomes, data)]
    if outcomes:
        sections += [_costs(outcomes), _race(outcomes), _scores(outcomes, data)]
    if trials:
        sections.append(_sweep(trials, chosen))
    sections.append(_equal(run, data, outcomes))
    # Of a run in several pieces, the last machine is named; environment.yaml has them all.
    subtitle = (
        f"{options.data} · {options.model} · {words.count(options.epochs, 'epoch')} · seed {options.seed}"
    )
    facts = [f"{key} {value}" for key, value in environment.items() if value is not None]
    return run.write("report.html", page(TITLE, subtitle, sections, " · ".join(facts)))


def _summary(outcomes: Sequence[Outcome], data: Table) -> str:
    rows = [[name(outcome.variant), *map(escape, cells(outcome))] for outcome in outcomes]
    notes = [f'<p class="note">{escape(line)}</p>' for line in words.divergences(outcomes)]
    lead = f'<p class="lead">{words.headline(outcomes, data.score)} {words.race(outcomes)}</p>'
    return "\n".join([lead, *notes, table(heads(data.score), rows) if rows else ""])


def _costs(outcomes: Sequence[Outcome]) -> str:
    text = (
        "The same descents, measured four ways: a pass over the data, a change of the parameters, an example"
        " and a second are four different prices. The cost is the mean over the whole training part."
    )
    if any(outcome.diverged for outcome in outcomes):
        text += " A cross at the edge of a figure marks the last finite update of a variant that diverged."
    # Epochs stay linear, to show how fast the first ones are; the other three span decades.
    figures = (plots.curves(outcomes, x, "cost", "training cost", x != "epoch", True) for x in plots.UNITS)
    return section("Cost", text, legend(outcome.variant for outcome in outcomes), grid(figures))


def _race(outcomes: Sequence[Outcome]) -> str:
    """Tabulate what each variant spent until it reached the cost that all reach."""
    cost, spent = words.finish_line(outcomes)
    if not spent:
        return ""
    least = {budget: min(point[budget] for point in spent.values()) for budget in words.BUDGETS}

    def cell(point: dict[str, Any], budget: str) -> str:
        text = f"{point[budget]:,}" if budget in ("updates", "examples") else f"{point[budget]:.3g}"
        return f"<b>{text}</b>" if point[budget] == least[budget] else text

    rows = [[name(variant), *(cell(point, b) for b in words.BUDGETS)] for variant, point in spent.items()]
    text = "What each had spent when it was first measured at the lowest cost that all of them reach."
    names = ("variant", "epochs", "updates", "examples", "seconds")
    return section(f"The way to a cost of {cost:.3g}", text, table(names, rows))


def _scores(outcomes: Sequence[Outcome], data: Table) -> str:
    quantity = data.score.removeprefix("test ")
    text = "On examples that no update has seen. The test part is looked at once, after the last epoch."
    figures = (
        plots.curves(outcomes, x, "validation_score", f"validation {quantity}", True, False)
        for x in ("epoch", "seconds")
    )
    title = quantity[0].upper() + quantity[1:]
    return section(title, text, legend(outcome.variant for outcome in outcomes), grid(figures))


def _sweep(trials: Sequence[Trial], chosen: dict[str, float]) -> str:
    epochs = {trial.variant: trial.epochs for trial in trials}
    lengths = words.series([f"{variant} {number}" for variant, number in epochs.items()])
    text = (
        f"Found by trial and error: a short training from the same start at each rate (epochs: {lengths}),"
        f" and the lowest validation cost wins: {words.rate_order(chosen, trials)}"
    )
    figure = wide(plots.sweep(trials, chosen))
    return section("Learning rates", text, legend(trial.variant for trial in trials), figure)


def _equal(run: Run, data: Table, outcomes: Sequence[Outcome]) -> str:
    start, order = start_and_order(outcomes)
    sizes = words.series([f"{len(part.y):,} {key}" for key, part in data.parts.items()])
    network, parameters = describe(run.options.model, data.features, data.outputs)
    items = (
        f"<b>Model:</b> {network}, {parameters:,} parameters, backward passes derived by hand.",
        f"<b>Start:</b> the same initial parameters, bit for bit; digest <code>{start}</code>.",
        f"<b>Order:</b> the same examples in the same order in every epoch; digest <code>{order}</code>.",
        f"<b>Data:</b> {sizes} examples, stratified; standardized by the training part's mean and deviation.",
        f"<b>Budget:</b> {words.count(run.options.epochs, 'epoch')} each.",
    )
    text = (
        "Each training takes these digests, which must agree. What differs is the learning rate, and when"
        f" the parameters move: after every pass, every example, or every {run.options.batch_size} examples."
        " Seconds are those of the training loop; measuring, checkpoints and the test are not on the clock."
    )
    return section("What was held equal", text, bullets(items))
