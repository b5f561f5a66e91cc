"""What the verifier hands back: findings, and the report that holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from textwrap import wrap

from .faults import CAPABILITY
from .finding import Finding
from .page import COLUMNS, page, section
from .table import counts, ranked, table

_NARROWEST = 72


@dataclass(frozen=True)
class Report:
    """The findings on one candidate.

    Attributes:
        candidate: the candidate's name.
        findings: every fault and every missing capability.
        notes: what was not judged, and why.
        seconds: what the verification took, without what torch imports late, once a process.
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
        """The headline, the table of the findings, and the notes, in a hundred columns."""
        return self.text()

    def text(self, width: int = 100) -> str:
        """The same in so many columns, at least seventy-two."""
        width = max(width, _NARROWEST)
        notes = [
            line for note in self.notes for line in wrap(f"note: {note}", width, subsequent_indent=" " * 6)
        ]
        parts = [[self._headline()], table(self.findings, width), notes]
        return "\n\n".join("\n".join(part) for part in parts if part)

    def to_markdown(self) -> str:
        """A heading, a table of the findings, and their snippets."""
        lines = [f"### {self._headline()}", ""]
        if self.findings:
            lines += [_row(COLUMNS), _row("---" for _ in COLUMNS)]
            lines += [_row(_cells(finding)) for finding in self.findings]
        for finding in self.findings:
            lines += ["", f"`{finding.fault}`:", "", "```python", finding.snippet, "```"]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def to_json(self) -> str:
        """One object: candidate, ok, seconds, findings, notes."""
        return json.dumps(asdict(self) | {"ok": self.ok}, indent=2)

    def to_html(self) -> str:
        """A page of its own, with no style sheet to fetch."""
        return page([self.section()])

    def section(self) -> str:
        """The report as a section of an HTML page."""
        return section(self._headline(), self.ok, ranked(self.findings), self.notes)

    def _headline(self) -> str:
        verdict = "ok" if self.ok else "not ok"
        found = counts(self.findings) or "nothing found"
        return f"{self.candidate}: {verdict}, {found}, {self.seconds:.2f} s"


def _cells(finding: Finding) -> list[str]:
    return [getattr(finding, column) for column in COLUMNS]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
