"""Reports as one HTML page: no style sheet and no script to fetch, light or dark, wide or narrow."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from .finding import Finding

COLUMNS = ("verdict", "fault", "probe", "sample", "seen", "expected", "diagnosis")
_TITLE = "torch_backprop.verify"
_STYLE = """
:root { color-scheme: light dark; --line: light-dark(#ccc, #444); --code: light-dark(#f5f5f5, #222);
  --ok: light-dark(#176617, #6fc36f); --bad: light-dark(#a11, #ff8080) }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2em auto; padding: 0 1em; max-width: 90em }
table { border-collapse: collapse; width: 100% }
td, th { border: 1px solid var(--line); padding: .3em .6em; text-align: left; vertical-align: top }
td { overflow-wrap: anywhere }
td:nth-child(-n+3) { white-space: nowrap }
.ok { color: var(--ok) }
.bad { color: var(--bad) }
pre { background: var(--code); padding: .6em; overflow-x: auto; white-space: pre-wrap }
@media (max-width: 60em) {
  h1 { font-size: 1.3em }
  h2 { font-size: 1.1em }
  th { display: none }
  tr, td { display: block }
  td { border: 0; padding: .1em .6em; white-space: normal !important }
  td[data-label]::before { content: attr(data-label) ": "; opacity: .7 }
  tr { border: 1px solid var(--line) }
  tr:nth-child(odd) { border-top: 0; margin-bottom: .8em }
}
"""


def page(sections: Iterable[str]) -> str:
    """The page of some sections."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_TITLE}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{_TITLE}</h1>{''.join(sections)}</html>\n"
    )


def section(headline: str, ok: bool, findings: Sequence[Finding], notes: Iterable[str]) -> str:
    """One report."""
    rows = "".join(map(_rows, findings))
    head = "".join(f"<th>{column}</th>" for column in COLUMNS)
    table = f"<table><tr>{head}</tr>{rows}</table>" if rows else ""
    words = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    mark = "ok" if ok else "bad"
    return f'<section><h2 class="{mark}">{html.escape(headline)}</h2>{table}{words}</section>'


def _rows(finding: Finding) -> str:
    cells = "".join(
        f'<td data-label="{column}">{html.escape(getattr(finding, column))}</td>' for column in COLUMNS
    )
    snippet = f"<details><summary>reproduce</summary><pre>{html.escape(finding.snippet)}</pre></details>"
    return f'<tr>{cells}</tr><tr><td colspan="{len(COLUMNS)}">{snippet}</td></tr>'
