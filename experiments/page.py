"""The pieces of the report's HTML: sections, tables, names in colour, figures side by side."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template

# The same shapes as at the ends of the curves.
SYMBOLS = {"batch": "●", "stochastic": "▲", "mini-batch": "■"}


def page(title: str, subtitle: str, sections: Iterable[str], footer: str) -> str:
    """Return the whole page; it asks nothing of any other file or machine."""
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    texts = {"title": escape(title), "subtitle": escape(subtitle), "footer": escape(footer)}
    return template.substitute(texts, body="\n".join(sections))


def section(title: str, text: str, *content: str) -> str:
    """Return a heading, what there is to say, and what there is to see."""
    return "\n".join([f"<h2>{escape(title)}</h2>", f"<p>{text}</p>", *content])


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose cells are HTML already."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def name(variant: str) -> str:
    """Return a variant's name in its colour, behind its symbol."""
    return f'<span class="{variant}">{SYMBOLS[variant]} {variant}</span>'


def legend(variants: Iterable[str]) -> str:
    """Return the names of the variants, each once."""
    return f'<div class="legend">{"".join(map(name, dict.fromkeys(variants)))}</div>'


def grid(figures: Iterable[str]) -> str:
    """Return small figures side by side, as many as the page is wide."""
    return f'<div class="figures">{"".join(f"<div>{figure}</div>" for figure in figures)}</div>'


def wide(figure: str) -> str:
    """Return a figure that takes the whole width."""
    return f'<div class="wide">{figure}</div>'


def bullets(items: Iterable[str]) -> str:
    """Return a list whose items are HTML already."""
    return f"<ul>{''.join(f'<li>{item}</li>' for item in items)}</ul>"
