"""Sweep a grid of trainings in parallel processes, one folder a run."""

import os

from rich.console import Console

from experiments import interrupt
from experiments.environment import device, environment
from experiments.report import say_where
from experiments.run import Run, RunError
from experiments.sweep import report
from experiments.sweep.grid import Job, grid
from experiments.sweep.pool import last_words, work_off
from experiments.sweep.result import COLUMNS, Finished, cells
from experiments.terminal import Bar


def main(run: Run) -> None:
    """Run what is not yet finished, and report whatever it has come to even when it is interrupted.

    Raises:
        interrupt.Interrupted: After the report, if someone asked for a stop.
        RunError: After the report, if runs have failed.
    """
    sweep = Sweep(run, Console())
    try:
        sweep.run_all()
        sweep.report()
    except interrupt.Interrupted:
        sweep.report()
        raise
    sweep.complain()


class Sweep:
    """The state of one sweep, which its run folder keeps; that of each run is in the run's own."""

    def __init__(self, run: Run, console: Console) -> None:
        self.run, self.console, self.options = run, console, run.options
        self.jobs = grid(self.options, run.folder)
        self.finished = {job.name: found for job in self.jobs if (found := Finished.of(job))}
        self.failures: dict[str, str] = {}
        here = environment(self.options.seed, device(self.options.trainer.accelerator))
        self.environments = [*run.load_state().get("environments", []), here]

    def run_all(self) -> None:
        """Work the grid off; a run that failed in an earlier process is tried again."""
        self.save()
        waiting = [job for job in self.jobs if job.name not in self.finished]
        processes = self.options.processes or os.cpu_count() or 1
        with Bar(self.console, len(self.jobs)) as bar:
            bar.begin(len(self.finished), "Sweep")

            def ended(job: Job, code: int) -> None:
                self._take(job, code)
                failed = f" · {len(self.failures)} failed" if self.failures else ""
                bar.begin(1, f"Sweep {len(self.finished)}/{len(self.jobs)}{failed}")

            work_off(waiting, processes, ended)

    def save(self) -> None:
        """Write state and measurements as they are now."""
        self.run.save_state({"failures": self.failures, "environments": self.environments})
        rows = [self.finished[job.name].row() for job in self.jobs if job.name in self.finished]
        self.run.write_rows("metrics.csv", COLUMNS, rows)

    def report(self) -> None:
        """Write everything, print the table, and say where the report is."""
        self.save()
        finished = [self.finished[job.name] for job in self.jobs if job.name in self.finished]
        path = report.write(self.run, len(self.jobs), finished, self.failures, self.environments)
        if finished:
            self.console.print(report.terminal_table(finished), "")
        for line in report.edges(cells(finished)):
            self.console.print(line, highlight=False)
        for name, why in self.failures.items():
            self.console.print(f"{name} failed: {why}", highlight=False, markup=False, soft_wrap=True)
        say_where(self.console, self.run, path)

    def complain(self) -> None:
        """Raise if runs have failed.

        Raises:
            RunError: Naming the first of them.
        """
        if self.failures:
            name, why = next(iter(self.failures.items()))
            count = f"{len(self.failures)} of {len(self.jobs)} runs failed"
            raise RunError(f"{count}, the first {name}: {why.rstrip('.')}.")

    def _take(self, job: Job, code: int) -> None:
        found = Finished.of(job) if code == 0 else None
        if found:
            self.finished[job.name] = found
        else:
            ended = f"ended by signal {-code}" if code < 0 else last_words(job)
            self.failures[job.name] = ended
        self.save()
