"""``open RUN`` and ``report RUN [RUN ...]``: what is in the folders of runs that were made before."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import yaml

from experiments.configuration import flatten
from experiments.run import RunError, replacing

# By what the cost can be drawn, and what each series of a run is told apart by.
UNITS = {
    "epoch": "epochs",
    "updates": "updates",
    "examples": "examples seen",
    "seconds": "seconds of training",
}


@dataclass(frozen=True)
class Record:
    """What a run's folder says.

    Attributes:
        name: Its folder's name.
        options: By their flat names.
        rows: Of metrics.csv.
    """

    name: str
    options: dict[str, Any]
    rows: list[dict[str, str]]

    @classmethod
    def of(cls, folder: Path) -> "Record":
        """Read a run's folder.

        Raises:
            RunError: If it is none.
        """
        try:
            config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
            options = flatten(config)
            with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
                return cls(folder.resolve().name, options, list(csv.DictReader(file)))
        except (OSError, ValueError, AttributeError, yaml.YAMLError) as error:
            raise RunError(f"{str(folder)!r} is no run with measurements; give a run's folder.") from error

    def series(self) -> dict[str, list[dict[str, str]]]:
        """Return the rows of each series, by what its columns of words say."""
        words = (
            [key for key, value in self.rows[0].items() if not _number(value) or key == "seed"]
            if self.rows
            else []
        )
        found: dict[str, list[dict[str, str]]] = {}
        # The runs of a sweep have names that say it all.
        words = ["run"] if "run" in words else words
        for row in self.rows:
            said = (f"seed {row[key]}" if key == "seed" else row[key] for key in words)
            found.setdefault(", ".join(said), []).append(row)
        return found


def open_run(arguments: Sequence[str]) -> int:
    """Print the path of a run's report.

    Raises:
        RunError: If there is none.
    """
    if len(arguments) != 1:
        raise RunError("give one run's folder.")
    path = Path(arguments[0]) / "report.html"
    if not path.is_file():
        raise RunError(f"{arguments[0]!r} has no report.html; give the folder that a run named.")
    print(path.resolve())
    return 0


def report(arguments: Sequence[str]) -> int:
    """Compare any runs on one page beside the first of them, and print its path.

    Raises:
        RunError: If a folder is no run, or the page cannot be written.
    """
    if not arguments:
        raise RunError("give the folders of runs.")
    folders = [Path(argument) for argument in arguments]
    records = [Record.of(folder) for folder in folders]
    # Beside the runs and in none of them: it belongs to all.
    path = folders[0].resolve().parent / f"report-{datetime.now():%Y%m%d-%H%M%S}.html"
    with replacing(path) as partial:
        partial.write_text(_page(records), encoding="utf-8")
    print(path)
    return 0


def differences(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return the options that the runs do not share, each with the value of every run."""
    names = dict.fromkeys(name for record in records for name in record.options)
    values = {name: [str(record.options.get(name, "–")) for record in records] for name in names}
    return {name: each for name, each in values.items() if len(set(each)) > 1}


def _page(records: Sequence[Record]) -> str:
    # Only here, so that open needs no matplotlib.
    from experiments.page import grid, lead, legend, name, page, section, table

    columns = _columns(records)
    heads = ("run", "series", *(column.replace("_", " ") for column in columns))
    rows = [row for number, record in enumerate(records) for row in _ends(record, number, columns)]
    apart = differences(records)
    options = [[escape(name), *map(escape, values)] for name, values in apart.items()]
    said = f"{len(records)} runs, {len(rows)} series. {_lowest(records)}"
    sections = [lead(said), table(heads, rows)]
    figures = list(_figures(records))
    if figures:
        text = (
            "The training cost of every series, by what it was paid with; each run has a colour of its own."
        )
        whose = legend(name(record.name, number) for number, record in enumerate(records))
        sections.append(section("Cost", text, whose, grid(figures)))
    if options:
        text = "The options that differ; all others are the same."
        sections.append(section("What differs", text, table(("option", *(r.name for r in records)), options)))
    return page("Runs compared", " · ".join(record.name for record in records), sections, "")


def _columns(records: Sequence[Record]) -> list[str]:
    rows = [record.rows[0] for record in records if record.rows]
    numbers = [[key for key, value in row.items() if _number(value) and key != "seed"] for row in rows]
    return list(dict.fromkeys(key for keys in numbers for key in keys))


def _ends(record: Record, number: int, columns: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row for the last measurement of each series; the run is named in the first of them."""
    from experiments.page import name

    whose = name(record.name, number)
    for series, rows in record.series().items():
        cells = [_short(rows[-1].get(column, "")) for column in columns]
        yield [whose, escape(series), *cells]
        whose = ""


def _lowest(records: Sequence[Record]) -> str:
    ends = [
        (float(rows[-1]["cost"]), name, record.name)
        for record in records
        for name, rows in record.series().items()
        if _number(rows[-1].get("cost", ""))
    ]
    if not ends:
        return ""
    cost, name, run = min(ends)
    return f"The lowest cost at the end is {cost:.4g}, of <b>{escape(name)}</b> in {escape(run)}."


def _figures(records: Sequence[Record]) -> Iterator[str]:
    from experiments.figure import MARKERS, SERIES, scale, sketch

    for unit, label in UNITS.items():
        drawn = {
            number: record
            for number, record in enumerate(records)
            if record.rows and {unit, "cost"} <= record.rows[0].keys()
        }
        if not drawn:
            continue
        with sketch(f"training cost against {label}") as drawing:
            axes = drawing.axes[0]
            for number, record in drawn.items():
                for rows in record.series().values():
                    pairs = [(float(row[unit]), float(row["cost"])) for row in rows if float(row[unit]) > 0]
                    xs, ys = zip(*pairs, strict=True) if pairs else ((), ())
                    # A point alone is no line.
                    marker = MARKERS[number % len(MARKERS)] if len(xs) == 1 else ""
                    axes.plot(xs, ys, marker=marker, color=SERIES[number % len(SERIES)], linewidth=1.6)
            scale(axes, True, True)
            axes.set_xlabel(label)
            axes.set_title("training cost, each in its run's unit", loc="left", fontsize=10)
        yield drawing.svg


def _number(text: str) -> bool:
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def _short(text: str) -> str:
    return f"{float(text):,.5g}" if _number(text) else escape(text)
