"""Findings as a table for the terminal: plain text, a hundred columns."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from .faults import CAPABILITY, CONTRACT, CRASH, PRECISION, WRONG
from .finding import Finding

_WIDTH = 100
_GAP = "  "
_COLUMNS = ("verdict", "fault", "seen", "expected", "diagnosis")
_WORST_FIRST = (WRONG, CRASH, CONTRACT, PRECISION, CAPABILITY)
_NUMBERS = 18


def counts(findings: Sequence[Finding]) -> str:
    """How many of each verdict, the worst first."""
    number = Counter(finding.verdict for finding in findings)
    return ", ".join(_counted(number[verdict], verdict) for verdict in _WORST_FIRST if number[verdict])


def table(findings: Sequence[Finding]) -> list[str]:
    """The lines: a head, and for each finding a row with its sample beneath, the worst first."""
    if not findings:
        return []
    ranked = sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict))
    widths = _widths(ranked)
    lines = [*_row(_COLUMNS, widths), _GAP.join("-" * width for width in widths)]
    for finding in ranked:
        lines += [*_row(_cells(finding), widths), *_beneath(finding, widths[0]), ""]
    return lines[:-1]


def _counted(number: int, verdict: str) -> str:
    return f"{number} {'capabilities' if verdict == CAPABILITY and number > 1 else verdict}"


def _cells(finding: Finding) -> list[str]:
    return [getattr(finding, column) for column in _COLUMNS]


def _widths(findings: Sequence[Finding]) -> list[int]:
    """As wide as the widest cell, numbers up to a limit; the diagnosis, which is a sentence, has the rest."""
    rows = [list(_COLUMNS), *map(_cells, findings)]
    verdict, fault, *numbers, diagnosis = (max(map(len, column)) for column in zip(*rows, strict=True))
    widths = [verdict, fault, *(min(width, _NUMBERS) for width in numbers)]
    return [*widths, min(diagnosis, _WIDTH - sum(widths) - len(_GAP) * len(widths))]


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for line in zip_longest(*wrapped, fillvalue=""):
        yield _GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()


def _beneath(finding: Finding, indent: int) -> list[str]:
    margin = " " * (indent + len(_GAP))
    words = f"sample: {finding.sample} (probe {finding.probe})"
    return textwrap.wrap(words, _WIDTH, initial_indent=margin, subsequent_indent=margin + " " * 8)
