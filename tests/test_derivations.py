"""Every file of a layer opens with its derivation, or says whose it serves."""

import ast
import re
from pathlib import Path

import pytest

from torch_backprop import layers

ROOT = Path(layers.__file__).parent
FILES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py")) if path.stem != "__init__"}
ANY_CELL = {"recurrent/layer.py", "recurrent/step.py"}
"""Files with a rule, but no derivation: their rules serve every cell, which derives its own."""
PARTS = {
    "the forward": r"^.*\bforward\b.*(=|\|)",
    "the backward": r"^.*\bbackward\b.*(=|\||that of ``)",
    "the one non-obvious step": r"\bsince\b|\bnon-obvious\b",
    "the year of a source": r"\((1[789]|20)\d\d\)",
    "the number of an equation": r"\beqs?\.\s+\d",
}


def header(path: Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def served(text: str) -> list[str]:
    """The files named in the sentences about a derivation elsewhere."""
    sentences = [part for part in re.split(r"\.(?:\s|$)", text) if re.search(r"\bderivations?\b", part)]
    return [name.rsplit("layers.")[-1] for part in sentences for name in re.findall(r"`([\w.]+)`", part)]


def lacks(text: str) -> list[str]:
    return [part for part, pattern in PARTS.items() if not re.search(pattern, text, re.MULTILINE)]


HEADERS = {name: header(path) for name, path in FILES.items()}
OWN = [name for name, text in HEADERS.items() if not served(text)]


@pytest.mark.parametrize("name", OWN)
def test_a_derivation_is_whole(name: str) -> None:
    assert not lacks(HEADERS[name])


def test_a_file_with_a_rule_has_a_derivation() -> None:
    rules = {
        name for name, path in FILES.items() if re.search(r"^\s*class \w+\(.*Rule\)", path.read_text(), re.M)
    }
    assert rules - set(OWN) == ANY_CELL


@pytest.mark.parametrize("name", sorted(set(FILES) - set(OWN)))
def test_the_derivation_that_a_file_serves_is_there(name: str) -> None:
    for target in served(HEADERS[name]):
        file = target.replace(".", "/")
        assert [own for own in OWN if re.search(rf"(^|/){file}(\.py$|/)", own)], target


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("forward", "", "the forward"),
        ("backward", "", "the backward"),
        ("since", "", "the one non-obvious step"),
        ("(2016)", "", "the year of a source"),
        ("eq. 6.44", "section 6.5", "the number of an equation"),
    ],
)
def test_what_a_header_lacks_is_named(old: str, new: str, part: str) -> None:
    text = "Goodfellow (2016), eq. 6.44.\n\n    forward   y = x^2\n    backward  dL/dx = 2 x g\n\nsince so."
    assert not lacks(text)
    assert lacks(text.replace(old, new)) == [part]
