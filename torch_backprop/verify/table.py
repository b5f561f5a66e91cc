"""Findings as a table for the terminal, in plain text."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from .faults import CAPABILITY, CONTRACT, CRASH, PRECISION, WRONG
from .finding import Finding

_GAP = "  "
_COLUMNS = ("verdict", "fault", "seen", "expected", "diagnosis")
_NARROW = ("verdict", "fault", "diagnosis")
_WORST_FIRST = (WRONG, CRASH, CONTRACT, PRECISION, CAPABILITY)
_WIDE = 100
_NUMBERS = 18


def counts(findings: Sequence[Finding]) -> str:
    """How many of each verdict, the worst first."""
    number = Counter(finding.verdict for finding in findings)
    return ", ".join(_counted(number[verdict], verdict) for verdict in _WORST_FIRST if number[verdict])


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """The worst first."""
    return sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.verdict))


def table(findings: Sequence[Finding], width: int) -> list[str]:
    """A head, and for each finding, worst first, a row with its sample beneath, in ``width`` columns.

    Where that is narrow, what was seen and expected stands beneath, too.
    """
    if not findings:
        return []
    columns, beneath = (_COLUMNS, ()) if width >= _WIDE else (_NARROW, ("seen", "expected"))
    widths = _widths(findings, columns, width)
    lines = [*_row(columns, widths), _GAP.join("-" * part for part in widths)]
    for finding in ranked(findings):
        words = [f"{name}: {getattr(finding, name)}" for name in beneath]
        words.append(f"sample: {finding.sample} (probe {finding.probe})")
        lines += _row(_cells(finding, columns), widths)
        lines += [line for each in words for line in _beneath(each, widths[0], width)]
        lines.append("")
    return lines[:-1]


def _counted(number: int, verdict: str) -> str:
    return f"{number} {'capabilities' if verdict == CAPABILITY and number > 1 else verdict}"


def _cells(finding: Finding, columns: Sequence[str]) -> list[str]:
    return [getattr(finding, column) for column in columns]


def _widths(findings: Sequence[Finding], columns: Sequence[str], width: int) -> list[int]:
    """As wide as the widest cell, numbers up to a limit; the diagnosis, which is a sentence, has the rest."""
    rows = [list(columns), *(_cells(finding, columns) for finding in findings)]
    verdict, fault, *numbers, diagnosis = (max(map(len, column)) for column in zip(*rows, strict=True))
    widths = [verdict, fault, *(min(number, _NUMBERS) for number in numbers)]
    return [*widths, min(diagnosis, width - sum(widths) - len(_GAP) * len(widths))]


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    wrapped = [textwrap.wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    for line in zip_longest(*wrapped, fillvalue=""):
        yield _GAP.join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip()


def _beneath(words: str, indent: int, width: int) -> list[str]:
    margin = " " * (indent + len(_GAP))
    return textwrap.wrap(words, width, initial_indent=margin, subsequent_indent=margin + " " * 8)
