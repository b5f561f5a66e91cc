"""The README's examples run as they stand, and its first two commands are those that set everything up."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
INSTALL = 'python -m pip install -c constraints.txt -e ".[all]"'


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


# Lightning's own use of PyTorch, and its advice on loaders.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers:UserWarning")
@pytest.mark.parametrize("example", blocks("python"))
def test_example_runs(example: str) -> None:
    exec(compile(example, "README.md", "exec"), {"__name__": "readme"})


def test_first_two_commands() -> None:
    assert [block.strip() for block in blocks("bash")][:2] == [
        f"{INSTALL} && python -m experiments compare",
        f"{INSTALL} && python -m pytest",
    ]
