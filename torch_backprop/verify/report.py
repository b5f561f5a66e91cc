"""What the verifier hands back: findings, and the report that holds them."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from textwrap import wrap

from .faults import CAPABILITY
from .finding import Finding
from .table import counts, table

_COLUMNS = ("verdict", "fault", "probe", "sample", "seen", "expected", "diagnosis")


@dataclass(frozen=True)
class Report:
    """The findings on one candidate.

    Attributes:
        candidate: the candidate's name.
        findings: every fault and every missing capability.
        notes: what was not judged, and why.
        seconds: what the verification took.
    """

    candidate: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was found but capabilities."""
        return all(finding.verdict == CAPABILITY for finding in self.findings)

    def __str__(self) -> str:
        """The headline, the table of the findings, and the notes."""
        notes = [
            line for note in self.notes for line in wrap(f"note: {note}", 100, subsequent_indent=" " * 6)
        ]
        parts = [[self._headline()], table(self.findings), notes]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def to_markdown(self) -> str:
        """A heading, a table of the findings, and their snippets."""
        lines = [f"### {self._headline()}", ""]
        if self.findings:
            lines += [_row(_COLUMNS), _row("---" for _ in _COLUMNS)]
            lines += [_row(_cells(finding)) for finding in self.findings]
        for finding in self.findings:
            lines += ["", f"`{finding.fault}`:", "", "```python", finding.snippet, "```"]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def to_json(self) -> str:
        """One object: candidate, ok, seconds, findings, notes."""
        return json.dumps(asdict(self) | {"ok": self.ok}, indent=2)

    def to_html(self) -> str:
        """A page of its own, with no style sheet to fetch."""
        return page([self])

    def section(self) -> str:
        """The report as a section of an HTML page."""
        rows = "".join(_html_row(finding) for finding in self.findings)
        head = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        mark = "ok" if self.ok else "bad"
        return f'<section><h2 class="{mark}">{html.escape(self._headline())}</h2>{table}{notes}</section>'

    def _headline(self) -> str:
        verdict = "ok" if self.ok else "not ok"
        found = counts(self.findings) or "nothing found"
        return f"{self.candidate}: {verdict}, {found}, {self.seconds:.2f} s"


def page(reports: list[Report]) -> str:
    """An HTML page of several reports."""
    style = (
        "body{font:15px system-ui;margin:2em;max-width:90em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
        ".ok{color:#176617}.bad{color:#a11}pre{background:#f5f5f5;padding:.6em}"
    )
    body = "".join(report.section() for report in reports)
    title = "torch_backprop.verify"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style><h1>{title}</h1>{body}</html>\n"
    )


def _cells(finding: Finding) -> list[str]:
    return [getattr(finding, column) for column in _COLUMNS]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _html_row(finding: Finding) -> str:
    cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(finding))
    snippet = f"<details><summary>reproduce</summary><pre>{html.escape(finding.snippet)}</pre></details>"
    return f'<tr>{cells}</tr><tr><td colspan="{len(_COLUMNS)}">{snippet}</td></tr>'
