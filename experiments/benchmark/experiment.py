"""Measure every layer, every case of the optimizers, or single examples, against what PyTorch has."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch

from experiments.benchmark import examples, floor, layers, optimizers
from experiments.benchmark.figures import bars, dots
from experiments.benchmark.layers import COLUMNS, Measurement, chosen
from experiments.benchmark.options import Options
from experiments.marked import machine
from experiments.page import section, wide
from experiments.run import Run, RunError
from experiments.study import Account, Piece, Progress, study

SECONDS, QUICK = 1.0, 0.1
"""For each layer."""
METHOD = (
    "The least processor time of a forward and a backward pass over a million elements and more, in {}, both"
    " layers in turns in one process. "
)
HEADS = ("layer", "torch ms", "time ratio", "bytes ratio", "with frozen weights")


def main(run: Run) -> None:
    """Run the benchmark, and report whatever it has come to.

    Raises:
        RunError: If the pattern is the name of nothing.
    """
    options: Options = run.options
    of, tell, noun, example = _of_layers, _tell_layers, "layer", "Conv2d"
    if options.optimizers:
        of, tell, noun, example = _of_optimizers, _tell_optimizers, "case", optimizers.cases()[0].name
    elif options.examples:
        of, tell, noun, example = _of_examples, _tell_examples, "model", "linear"
    pieces = of(options)
    if not pieces:
        raise RunError(f"--only: {options.only!r} is the name of no {noun}, such as {example!r}")
    study(run, pieces, partial(tell, options))


def _of_layers(options: Options) -> Mapping[str, Piece]:
    seconds = QUICK if options.fast or options.quick else SECONDS
    dtype = getattr(torch, options.dtype)

    def measure(spec: Any) -> Callable[[Progress], list[dict[str, Any]]]:
        def found(_: Progress) -> list[dict[str, Any]]:
            try:
                return [layers.measure(spec, seconds, options.compiled, dtype).row()]
            # A C++ compiler that breaks says so in tens of thousands of lines.
            except RuntimeError as error:
                if not options.compiled:
                    raise
                name, why = spec.layer.__name__, str(error).partition("\n")[0][:200]
                raise RunError(
                    f"--compiled: {name} cannot be compiled ({why}); choose others by --only"
                ) from error

        return found

    # A layer may have several specs.
    specs = enumerate(chosen(options.only))
    named = {f"{number} {spec.layer.__name__}": spec for number, spec in specs}
    return {name: Piece(spec.layer.__name__, seconds, measure(spec)) for name, spec in named.items()}


def _of_optimizers(options: Options) -> Mapping[str, Piece]:
    repetitions = 5 if options.fast or options.quick else 60

    def measure(case: optimizers.Case) -> Callable[[Progress], list[dict[str, Any]]]:
        return lambda _: optimizers.measure(case, repetitions)

    return {case.name: Piece(case.name, 1.0, measure(case)) for case in optimizers.matching(options.only)}


def _of_examples(options: Options) -> Mapping[str, Piece]:
    repetitions = 3 if options.fast or options.quick else 40

    def measure(name: str) -> Callable[[Progress], list[dict[str, Any]]]:
        return lambda _: examples.measure(name, repetitions)

    return {name: Piece(name, 1.0, measure(name)) for name in examples.matching(options.only)}


def _tell_layers(options: Options, found: dict[str, Any]) -> Account:
    measured = [Measurement.of(row) for rows in found.values() for row in rows]
    rows = [
        [
            f"{m.layer} {m.case}".replace(",", ", "),
            f"{m.milliseconds:.1f}",
            f"{m.time:.2f}",
            *layers.ratios(m.held),
        ]
        for m in measured
    ]
    headline, sections = "", []
    if measured:
        mean = _mean([m.time for m in measured])
        rows.append(["geometric mean", "", f"{mean:.2f}", "", ""])
        less = sum(m.held.bytes < m.held.builtin_bytes for m in measured)
        more = sum(m.held.bytes > m.held.builtin_bytes for m in measured)
        headline = (
            f"Forward and backward take <b>{mean:.2f}</b> times as long as PyTorch's, in the geometric mean"
            f" over {len(measured)} measurements. Less than by the built-in is held"
            f" between the passes in {less} of them, more in {more}. {machine()}"
        )
        method = METHOD.format(options.dtype)
        sections = [_times([(m.layer, m.time) for m in measured], "layer", method), _held(measured)]
    subtitle = f"{options.only} · {'compiled' if options.compiled else 'eager'}"
    metrics = [asdict(m) | asdict(m.held) for m in measured]
    kept = [{column: row[column] for column in COLUMNS} for row in metrics]
    ratios = [(number, m.time) for number, m in enumerate(measured)]
    return Account(
        "Layers against torch.nn",
        subtitle,
        headline,
        HEADS,
        rows,
        sections,
        COLUMNS,
        kept,
        {"layers": {"time over that of torch.nn": ratios}},
    )


def _tell_optimizers(options: Options, found: dict[str, Any]) -> Account:
    measured = [row for rows in found.values() for row in rows]
    rows = [[str(row[column]) for column in optimizers.COLUMNS] for row in measured]
    headline, sections = "", []
    if measured:
        mean = _mean([row["ratio"] for row in measured])
        headline = (
            f"An update takes <b>{mean:.2f}</b> times as long as in a plain loop with torch.optim.SGD, in the"
            f" geometric mean over {len(measured)} cases. Processor time. {machine()}"
        )
        pairs = [
            (
                f"{row['model']} {row['variant']} {row['group']} from {row['loader']} ({row['form']})",
                row["ratio"],
            )
            for row in measured
        ]
        method = (
            "Of a group of examples, from loader batches of another size, in either form of the protocol. "
        )
        sections = [_times(pairs, "case", method, "an update")]
    heads = optimizers.COLUMNS
    return Account(
        "Optimizers against a plain loop",
        options.only,
        headline,
        heads,
        rows,
        sections,
        heads,
        measured,
        {"optimizers": {"time over a plain loop": [(i, row["ratio"]) for i, row in enumerate(measured)]}},
    )


def _tell_examples(options: Options, found: dict[str, Any]) -> Account:
    measured = [row for rows in found.values() for row in rows]
    rows = [[str(row[column]) for column in examples.COLUMNS] for row in measured]
    headline, sections = "", []
    if measured:
        fastest = max(measured, key=lambda row: row["ratio"] if row["way"] != examples.FLOOR else 0)
        headline = (
            f"The fastest is {fastest['way']}, <b>{fastest['ratio']:.0f}</b> times as fast as a plain loop of"
            f" torch.optim.SGD on the {fastest['model']} model. Microseconds of processor time for one digit;"
            f" speed-up over the plain loop; floors, the time over that of raw loops in C."
            f" {floor.why_not()} {machine()}"
        )
        sections = [_ways(model, measured) for model in dict.fromkeys(row["model"] for row in measured)]
    heads = ("model", "way", "us", "speed-up", "floors", "seconds before")
    return Account(
        "One example at a time",
        options.only,
        headline,
        heads,
        rows,
        sections,
        examples.COLUMNS,
        measured,
        {"examples": {"times as fast as the plain loop": [(i, r["ratio"]) for i, r in enumerate(measured)]}},
    )


def _times(
    pairs: Sequence[tuple[str, float]], noun: str, method: str, what: str = "forward and backward"
) -> str:
    slow, fast = (f(pairs, key=lambda pair: pair[1]) for f in (max, min))
    within = sum(ratio <= 1 for _, ratio in pairs)
    text = method + (
        f"Each dot is a {noun}, from the fastest to the slowest; {within} of {len(pairs)} take no longer than"
        f" PyTorch's (the dashed line). {fast[0]} takes {fast[1]:.2f} times as long,"
        f" {slow[0]} {slow[1]:.2f}."
    )
    return section("Time", text, wide(dots(pairs, f"time of {what} over PyTorch's", noun)))


def _ways(model: str, measured: Sequence[dict[str, Any]]) -> str:
    pairs = [(row["way"], row["us"]) for row in measured if row["model"] == model]
    least = min(pairs, key=lambda pair: pair[1])
    text = (
        f"From the fastest way to the slowest; the least, {least[1]:.3g} microseconds, is that of {least[0]}."
    )
    return section(
        model.capitalize(), text, wide(bars(pairs, "microseconds of processor time for an example"))
    )


def _held(measured: Sequence[Measurement]) -> str:
    pairs = [(m.layer, m.held.bytes / m.held.builtin_bytes) for m in measured if m.held.builtin_bytes]
    if not pairs:
        return ""
    least = min(pairs, key=lambda pair: pair[1])
    text = (
        "Bytes held from the forward pass to the backward pass, over those of the built-in, of each layer"
        f" whose built-in holds any. {least[0]} holds {least[1]:.2f} of them, the least."
    )
    return section("Memory", text, wide(dots(pairs, "bytes held over PyTorch's", "layer", log=False)))


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
