"""The report: one HTML page that needs nothing but itself."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from experiments import plots, words
from experiments.data import Table
from experiments.measurement import Outcome, start_and_order
from experiments.model import describe
from experiments.rates import Trial
from experiments.run import Run
from experiments.terminal import cells

SYMBOLS = {"batch": "●", "stochastic": "▲", "mini-batch": "■"}
TITLE = "Three ways down the same slope"


def write_report(
    run: Run, data: Table, trials: Sequence[Trial], outcomes: Sequence[Outcome], chosen: dict[str, float],
    environment: dict[str, Any],
) -> Path:  # fmt: skip
    """Write report.html from whatever has been measured.

    Returns:
        Its path.
    """
    options = run.options
    sections = [_summary(outcomes, data), _costs(outcomes), _race(outcomes), _scores(outcomes, data),
                _sweep(trials, chosen), _equal(run, data, outcomes)]  # fmt: skip
    epochs = f"{options.epochs} epoch{'' if options.epochs == 1 else 's'}"
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    facts = [f"{name} {value}" for name, value in environment.items() if value is not None]
    return run.write("report.html", page.substitute(
        title=TITLE, subtitle=escape(f"{options.data} · {options.model} · {epochs} · seed {options.seed}"),
        body="\n".join(sections), footer=escape(" · ".join(facts)),
    ))  # fmt: skip


def _summary(outcomes: Sequence[Outcome], data: Table) -> str:
    heads = ("variant", "rate", "epochs", "updates", "examples", "seconds", "final cost", data.score)
    rows = [[_name(outcome.variant), *map(escape, cells(outcome))] for outcome in outcomes]
    notes = [f'<p class="note">{line}</p>' for line in words.divergences(outcomes)]
    lead = f'<p class="lead">{words.headline(outcomes, data.score)} {words.race(outcomes)}</p>'
    return "\n".join([lead, *notes, _table(heads, rows) if rows else ""])


def _costs(outcomes: Sequence[Outcome]) -> str:
    if not outcomes:
        return ""
    figures = [plots.curves(outcomes, x, "cost", "training cost", log_x=x != "epoch", log_y=True) for x in plots.UNITS]
    text = ("The same descents, measured four ways. By epochs and by examples, many small updates win; by updates, "
            "each update of batch descent is the better informed one; by seconds, it counts what an update costs. "
            "The cost is the mean over the whole training part.")  # fmt: skip
    return f"<h2>Cost</h2><p>{text}</p>{_legend(outcomes)}{_grid(figures)}"


def _race(outcomes: Sequence[Outcome]) -> str:
    """Tabulate what each variant spent until it reached the cost that all reach."""
    cost = words.target(outcomes)
    if cost is None:
        return ""
    firsts = {outcome.variant: words.reaching(outcome, cost) for outcome in outcomes}
    found = {variant: point for variant, point in firsts.items() if point}
    least = {budget: min(point[budget] for point in found.values()) for budget in words.BUDGETS}
    rows = []
    for variant, point in found.items():
        texts = {budget: f"{point[budget]:,.3g}" if budget in ("epoch", "seconds") else f"{point[budget]:,}"
                 for budget in words.BUDGETS}  # fmt: skip
        rows.append([_name(variant), *(f"<b>{text}</b>" if point[budget] == least[budget] else text
                                       for budget, text in texts.items())])  # fmt: skip
    heads = ("until the first measurement at that cost", "epochs", "updates", "examples", "seconds")
    return f"<h2>The way to a cost of {cost:.3g}</h2>{_table(heads, rows)}"


def _scores(outcomes: Sequence[Outcome], data: Table) -> str:
    if not outcomes:
        return ""
    label = data.score.replace("test", "validation")
    figures = [plots.curves(outcomes, x, "validation_score", label, log_x=True, log_y=False) for x in ("epoch", "seconds")]
    text = "On examples that no update has seen. The test part is looked at once, after the last epoch."
    return f"<h2>{data.score.removeprefix('test ').capitalize()}</h2><p>{text}</p>{_legend(outcomes)}{_grid(figures)}"


def _sweep(trials: Sequence[Trial], chosen: dict[str, float]) -> str:
    if not trials:
        return ""
    epochs = {trial.variant: trial.epochs for trial in trials}
    lengths = words.series([f"{variant} {count}" for variant, count in epochs.items()])
    text = (f"Found by trial and error: a short training from the same start at each rate (epochs: {lengths}), and the "
            f"lowest validation cost wins. {words.rate_order(chosen, trials)}")  # fmt: skip
    return f"<h2>Learning rates</h2><p>{text}</p>{plots.sweep(trials, chosen)}"


def _equal(run: Run, data: Table, outcomes: Sequence[Outcome]) -> str:
    start, order = start_and_order(list(outcomes))
    sizes = words.series([f"{len(part.y):,} {name}" for name, part in data.parts.items()])
    network, parameters = describe(run.options.model, data.features, data.outputs)
    items = [
        f"<b>Model:</b> {network}, {parameters:,} parameters, backward passes derived by hand.",
        f"<b>Start:</b> the same initial parameters, bit for bit; digest <code>{start or 'none yet'}</code>.",
        f"<b>Order:</b> the same examples in the same order in every epoch; digest <code>{order}</code>.",
        f"<b>Data:</b> {sizes} examples, stratified; standardized with the training part's mean and deviation.",
        f"<b>Epochs:</b> {run.options.epochs} each. Seconds are those of the training loop alone: measuring, checkpoints "
        "and the test are not on the clock.",
    ]
    text = "What differs is when the parameters move: after every pass, after every example, or after every "
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<h2>What was held equal</h2><ul>{listed}</ul><p>{text}{run.options.batch_size} examples.</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _name(variant: str) -> str:
    return f'<span class="{variant}">{SYMBOLS[variant]} {variant}</span>'


def _legend(outcomes: Sequence[Outcome]) -> str:
    return f'<div class="legend">{"".join(_name(outcome.variant) for outcome in outcomes)}</div>'


def _grid(figures: Sequence[str]) -> str:
    return f'<div class="figures">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'
