"""The runs of a sweep: one for each contender, rate and seed, in a folder of its own."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from experiments.compare import options as compare
from experiments.compare.contender import Contender, contenders
from experiments.configuration import plain
from experiments.run import Run
from experiments.sweep.options import Options


@dataclass(frozen=True)
class Job:
    """One run of the sweep."""

    contender: Contender
    lr: float
    seed: int
    folder: Path
    options: compare.Options

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def run(self) -> Run:
        """Its run."""
        return Run(self.folder, self.options)

    def prepare(self) -> list[str]:
        """Make its folder what the comparison goes on from, and return the arguments that start it."""
        if not (self.folder / "config.yaml").exists():
            config = {"experiment": "compare", **plain(self.options)}
            self.run.write("config.yaml", yaml.safe_dump(config, sort_keys=False))
        return ["compare", "--resume", str(self.folder)]


def grid(options: Options, folder: Path) -> list[Job]:
    """List the runs: all of one seed before those of the next, so that there is early something to see."""
    every = compare.Options(variants=options.variants, batch_size=options.batch_size)
    jobs = []
    for seed in range(options.seed, options.seed + options.repeats):
        for who in contenders(every):
            for lr in options.lr:
                # Of the size only mini-batches make use.
                size = int(who.size) if who.variant == "mini-batch" else 1
                own = options.of_run(who.variant, size, lr, seed)
                place = folder / "runs" / f"{who.key}-rate-{lr:g}-seed-{seed}"
                jobs.append(Job(who, lr, seed, place, own))
    return jobs
