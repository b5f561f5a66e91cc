"""The pieces of the report's HTML: sections, tables, names in colour, figures side by side."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

# The same shapes, in the same order, as the markers of the figures.
SYMBOLS = "●▲■◆▼✚✖"


def page(title: str, subtitle: str, sections: Iterable[str], footer: str) -> str:
    """Return the whole page; it asks nothing of any other file or machine."""
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    texts = {"title": escape(title), "subtitle": escape(subtitle), "footer": escape(footer)}
    return template.substitute(texts, body="\n".join(sections))


def section(title: str, text: str, *content: str) -> str:
    """Return a heading, what there is to say, and what there is to see."""
    return "\n".join([f"<h2>{escape(title)}</h2>", f"<p>{text}</p>", *content])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are HTML already: columns of words to the left, of numbers to the right."""
    marks = [_mark([row[number] for row in rows]) for number in range(len(heads))]
    # The first has a style of its own.
    marks[0] = ""
    head = "".join(f"<th{mark}>{escape(text)}</th>" for mark, text in zip(marks, heads, strict=True))
    lines = ("".join(f"<td{mark}>{cell}</td>" for mark, cell in zip(marks, row, strict=True)) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def name(text: str, series: int) -> str:
    """Return the name of a series of the figures, in its colour and behind its symbol."""
    place = series % len(SYMBOLS)
    return f'<span class="series-{place}">{SYMBOLS[place]} {escape(text)}</span>'


def legend(names: Iterable[str]) -> str:
    """Return the names of the series, whose HTML `name` has made."""
    return f'<div class="legend">{"".join(names)}</div>'


def lead(text: str) -> str:
    """Return the paragraph that says what was found."""
    return f'<p class="lead">{text}</p>'


def note(text: str) -> str:
    """Return a remark."""
    return f'<p class="note">{escape(text)}</p>'


def grid(figures: Iterable[str]) -> str:
    """Return small figures side by side, as many as the page is wide."""
    return f'<div class="figures">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'


def wide(figure: str) -> str:
    """Return a figure that takes the whole width."""
    return f'<div class="wide">{figure}</div>'


def bullets(items: Iterable[str]) -> str:
    """Return a list whose items are HTML already."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"


def bare(sentence: str) -> str:
    """Take the HTML out, for the terminal.

    >>> bare("<b>batch</b> won")
    'batch won'
    """
    return re.sub(r"</?\w+>", "", sentence)


def _mark(column: Sequence[str]) -> str:
    if any(map(_is_number, column)):
        return ""
    # A word is not broken at its hyphen; several may stand below each other.
    several = any(" " in bare(cell) for cell in column)
    return ' class="text phrase"' if several else ' class="text"'


def _is_number(cell: str) -> bool:
    return re.match(r"[\d.,+−–-]+(e[+-]?\d+)?%?( |$)", bare(cell)) is not None
