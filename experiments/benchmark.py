"""What this package costs in time, against what PyTorch has; one part of the package after the other."""

import argparse
import csv
import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Each has rows(only, quick, console), columns COLUMNS and a TITLE.
PARTS = {"optimizers": "The three optimizers against a plain loop with torch.optim.SGD."}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table for each part, and write it as a CSV file.

    Returns:
        0, or 2 where nothing is called as ``--only`` says.
    """
    options = parse(arguments)
    console = Console()
    chosen = [part for part in PARTS if getattr(options, part)] or list(PARTS)
    for part in chosen:
        module = importlib.import_module(f"experiments.benchmark_{part}")
        rows = module.rows(re.compile(options.only), options.quick, console)
        if not rows:
            console.print(f"benchmark: --only {options.only} matches nothing", style="red", highlight=False)
            return 2
        console.print(table(module.TITLE, module.COLUMNS, rows))
        path = Path(options.out) / f"benchmark-{part}.csv"
        write(path, module.COLUMNS, rows)
        console.print(f"Table  {path}", highlight=False, markup=False)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments benchmark", description=__doc__)
    for part, sentence in PARTS.items():
        parser.add_argument(f"--{part}", action="store_true", help=f"{sentence} Without such a choice, all.")
    parser.add_argument("--only", default="", metavar="PATTERN", help="A regular expression; what it finds.")
    parser.add_argument("--quick", action="store_true", help="Fewer repetitions: seconds, for rough figures.")
    parser.add_argument("--out", default="runs", metavar="FOLDER", help="Where the CSV goes (runs).")
    options = parser.parse_args(arguments)
    try:
        re.compile(options.only)
    except re.error as error:
        parser.error(f"--only {options.only}: {error}")
    return options


def table(title: str, columns: Sequence[str], rows: list[dict[str, Any]]) -> Table:
    """Lay out rows by column, numbers to the right."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row[column], (int, float)) for row in rows)
        found.add_column(column, justify="right" if numbers else "left")
    for row in rows:
        found.add_row(*(cell(row[column]) for column in columns))
    return found


def cell(value: object) -> str:
    """Write a value as a person reads it.

    >>> cell(0.98765), cell(1234.5), cell(32), cell("mini-batch")
    ('0.99', '1,234', '32', 'mini-batch')
    """
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write(path: Path, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
    """Write rows to a CSV file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)
