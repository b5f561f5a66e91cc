"""What the numbers say, in sentences; each is written from the measurements, and only if they support it."""

from collections.abc import Sequence
from statistics import median

from experiments.compare.contender import Contender
from experiments.compare.noise import Noise
from experiments.compare.rates import Trial
from experiments.compare.result import Result, Spent, over_seeds
from experiments.words import series

THEORY = {
    "updates": "the more examples in an update, the nearer it points downhill",
    "examples": "the fewer examples in an update, the more updates for the same examples",
    "seconds": "one pass over several examples at once costs little more than over one, and is an update",
}
"""Why a group's size should win by each budget. Bottou, Curtis & Nocedal (2018), section 3.3 and 4.2."""


LEAST = {
    "updates": "took the fewest updates",
    "examples": "the fewest examples",
    "seconds": "the least time",
}


def amount(budget: str, value: float) -> str:
    """Write what was spent.

    >>> amount("updates", 1200), amount("seconds", 0.1234)
    ('1,200', '0.123')
    """
    return f"{value:,.0f}" if budget in ("updates", "examples") else f"{value:.3g}"


def headline(results: Sequence[Result], score: str) -> str:
    """Say in one or two sentences what the comparison found."""
    sound = [result for result in results if result.sound]
    if not sound:
        return "No training has come to its end yet."
    costs = {result.name: median(result.last("cost")) for result in sound}
    best = min(costs, key=lambda name: costs[name])
    scores = sorted((median(result.scores), result.name) for result in sound)
    cost = f"<b>{best}</b> ends at the lowest training cost, {costs[best]:.4f}"
    if len(sound) == 1:
        return f"{cost}, with a {score} of {scores[0][0]:.3f}."
    low, high = (f"{value:.3f} ({name})" for value, name in (scores[0], scores[-1]))
    return f"Given the same budget, {cost}. The {score} lies between {low} and {high}."


def predicted(budget: str, contenders: Sequence[Contender]) -> list[str]:
    """Name those of whom the theory says that one of them needs the least."""
    sizes = [contender.size for contender in contenders]
    if budget == "updates":
        return [contender.name for contender in contenders if contender.size == max(sizes)]
    if budget == "examples":
        return [contender.name for contender in contenders if contender.size == min(sizes)]
    return [contender.name for contender in contenders if min(sizes) < contender.size < max(sizes)]


def winners(results: Sequence[Result], cost: float, spent: Spent) -> str:
    """Say in one sentence who came down to a cost by the least of each budget."""
    if len(spent) < 2:
        return ""
    names = [f"<b>{series(firsts(budget, spent))}</b> {least}" for budget, least in LEAST.items()]
    agree = [_agrees(budget, results, spent) for budget in LEAST]
    verdict = "as the theory predicts" if all(agree) else "not all of it as the theory predicts"
    return f"On the way down to {cost:.3g}, {series(names)}: {verdict}."


def race(results: Sequence[Result], cost: float, spent: Spent) -> list[str]:
    """Say for each budget who came down to a cost by the least of it, and what the theory says."""
    if len(spent) < 2:
        return []
    contenders = [result.contender for result in results if result.name in spent]
    return [_verdict(budget, contenders, spent) for budget in THEORY]


def _verdict(budget: str, contenders: Sequence[Contender], spent: Spent) -> str:
    # In order, so that the sentence reads like a race.
    middle = {name: median(values[budget]) for name, values in spent.items()}
    first, *others = sorted(middle, key=lambda name: middle[name])
    winners = firsts(budget, spent)
    unit = " s" if budget == "seconds" else ""
    rest = [f"{amount(budget, middle[name])}{unit} of {name}" for name in others if name not in winners]
    against = f", against {series(rest)}" if rest else ""
    sentence = (
        f"By {budget}, <b>{series(winners)}</b> won with {amount(budget, middle[first])}{unit}{against}."
    )
    if rest and any(min(spent[n][budget]) <= max(spent[first][budget]) for n in others if n not in winners):
        sentence += " Their seeds overlap."
    expected = predicted(budget, contenders)
    # Of two sizes, none is between the others.
    if not expected:
        return sentence
    why = THEORY[budget]
    if set(expected) & set(winners):
        return f"{sentence} So the theory predicts: {why}."
    return f"{sentence} The theory predicts {' or '.join(expected)} ({why}): not so here."


def firsts(budget: str, spent: Spent) -> list[str]:
    """Name those who spent the least of a budget, in the median of their seeds; two can tie."""
    middle = {name: median(values[budget]) for name, values in spent.items()}
    return [name for name in middle if middle[name] == min(middle.values())]


def _agrees(budget: str, results: Sequence[Result], spent: Spent) -> bool:
    expected = predicted(budget, [result.contender for result in results if result.name in spent])
    return not expected or bool(set(expected) & set(firsts(budget, spent)))


def missed(results: Sequence[Result], cost: float, spent: Spent) -> str:
    """Name those who did not reach a cost that was set as the target."""
    names = [result.name for result in results if result.sound and result.name not in spent]
    return f"{series(names)} did not reach a cost of {cost:.3g}." if names and spent else ""


def rate_order(chosen: dict[str, float], trials: Sequence[Trial], contenders: Sequence[Contender]) -> str:
    """Name the rates that won, and say whether larger groups took larger ones."""
    tried = {trial.name for trial in trials}
    found = series([f"{rate:g} for {name}" for name, rate in chosen.items() if name in tried])
    by_size = sorted(contenders, key=lambda contender: contender.size)
    rates = [chosen[contender.name] for contender in by_size if contender.name in tried]
    lost = sum(trial.cost is None for trial in trials)
    parts = [f"{found}."]
    # The theory says so; this run may not.
    if len(rates) > 2 and rates == sorted(set(rates)):
        parts.append("The more examples an update averages over, the larger the step it can be trusted with.")
    # Silence would make the figure's crosses a riddle.
    if lost:
        parts.append(f"{lost} of {len(trials)} trials diverged (crosses).")
    return " ".join(parts)


def noise(found: Sequence[Noise]) -> str:
    """Say how the noise falls with the size, and up to which size larger mini-batches pay."""
    slopes = series([f"b<sup>−{-each.slope:.2f}</sup> {each.where}" for each in found])
    scales = series([f"{each.scale:,.0f} examples {each.where}" for each in found])
    # A tenth of the exponent is what so few draws leave uncertain.
    close = all(abs(each.slope + 1) < 0.1 for each in found)
    return (
        f"The variance of a mini-batch's gradient about that of all examples goes as {slopes};"
        f" {'as' if close else 'not quite as'} the theory has it, 1/b (lines). It is as large as the squared"
        f" gradient itself, the dashed line, in mini-batches of {scales}: beyond about that size,"
        " more examples make an update little better."
    )


def divergences(results: Sequence[Result]) -> list[str]:
    """Name each training whose cost ceased to be finite, and each that is unfinished."""
    lines = []
    for result in results:
        for outcome in result.outcomes:
            who = result.name if len(result.outcomes) == 1 else f"{result.name}, seed {outcome.seed},"
            if outcome.diverged:
                lines.append(
                    f"{who} diverged at learning rate {outcome.lr:g}:"
                    f" its last finite update is number {outcome.last_finite_update:,}."
                )
            elif not outcome.finished:
                lines.append(f"{who} was interrupted: its figures are those measured until then.")
    return lines


def ends(result: Result, spread: bool = True) -> list[str]:
    """Write a result's last figures under `heads`: medians over the seeds, and their spread if wanted."""

    def over(values: Sequence[float], form: str) -> str:
        return over_seeds(values if spread else [median(values)], f"{{:{form}}}".format)

    if not result.last("cost"):
        return [""] * 7
    rate, counts = (
        f"{result.outcomes[0].lr:g}",
        [over(result.last(name), form) for name, form in COUNTS.items()],
    )
    if result.diverged:
        return [rate, *counts, "diverged", "–"]
    cost = over(result.last("cost"), ".4f")
    if len(result.scores) < len(result.outcomes):
        return [rate, *counts, cost, "interrupted"]
    return [rate, *counts, cost, over(result.scores, ".4f")]


COUNTS = {"epoch": ".4g", "updates": ",.0f", "examples": ",.0f", "seconds": ".1f"}


def heads(score: str) -> tuple[str, ...]:
    """Name the columns of the table of results, for the terminal and for the report."""
    return "variant", "rate", "epochs", "updates", "examples", "seconds", "final cost", score
