"""What every experiment leaves behind: report, environment, TensorBoard events, and where they are."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from experiments.page import page
from experiments.run import Run


def write_report(
    run: Run, title: str, subtitle: str, sections: Iterable[str], environments: Sequence[Mapping[str, Any]]
) -> Path:
    """Write report.html, whose footer names the last machine; environment.yaml has them all.

    Returns:
        Its path.
    """
    run.write("environment.yaml", yaml.safe_dump([dict(each) for each in environments], sort_keys=False))
    facts = [f"{key} {value}" for key, value in environments[-1].items() if value is not None]
    return run.write("report.html", page(title, subtitle, sections, " · ".join(facts)))


def write_events(run: Run, name: str, curves: Mapping[str, Iterable[tuple[int, float]]]) -> None:
    """Write TensorBoard's events of one series anew: for each tag, pairs of step and value.

    For measurements that are kept elsewhere too; a training under Lightning has a logger.
    """
    folder = run.folder / "events" / name
    # TensorBoard would show what an earlier process wrote beside what is written now.
    shutil.rmtree(folder, ignore_errors=True)
    writer = EventFileWriter(str(folder))
    for tag, points in curves.items():
        for step, value in points:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
            writer.add_event(Event(step=step, summary=summary))
    writer.close()


def say_where(console: Console, run: Run, path: Path) -> None:
    """Print where the report and the events are."""
    places = f"Report       {path}\nTensorBoard  tensorboard --logdir {run.folder}"
    # Whole, so that a path can be copied out of the terminal.
    console.print(places, soft_wrap=True, highlight=False, markup=False)
