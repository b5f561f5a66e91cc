"""Options as configurations: flat names, the values that were given, and what a YAML file says."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

from experiments.options import CHOSEN, READS, Options

T = TypeVar("T", bound=Options)


def flat(options: Any, prefix: str = "") -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
    """Yield name, default and metadata of every option of a dataclass, those of groups as ``group.name``."""
    for each in fields(options):
        value = getattr(options, each.name)
        if is_dataclass(value):
            yield from flat(value, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, value, each.metadata


def build(kind: type[T], given: Mapping[str, Any]) -> T:
    """Make options of what was given, by its flat name, and of the defaults, which `fast` shortens.

    Raises:
        argparse.ArgumentTypeError: If one does not go with another.
    """
    given = dict(given)
    # One of the two says what the other must be.
    if "text" in READS.get(given.get("model.name", ""), ()):
        given.setdefault("data.name", "text")
    elif str(given.get("data.name")).startswith("text"):
        given.setdefault("model.name", "recurrent")
    # Who names a model or data means these, and none of the costs that an experiment has of its own.
    if given.keys() & {"model.name", "data.name"}:
        given.setdefault("problems", (CHOSEN,))
    options = _build(kind(), given, given.get("fast", False), "")
    options.check()
    return options


def given_in(kind: type[Options], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a configuration says, by its flat name, each value read as its option reads it.

    Raises:
        KeyError: If there is no such option.
        argparse.ArgumentTypeError: If a value is none that the option takes.
    """
    readers = {name: about["parse"] for name, _, about in flat(kind())}
    return {name: readers[name](value) for name, value in flatten(config, readers).items()}


def flatten(config: Mapping[str, Any], whole: Container[str] = ()) -> dict[str, Any]:
    """Return a configuration's values by their flat names.

    Args:
        config: Values and groups of values.
        whole: Names whose value may itself be a mapping.

    >>> flatten({"seed": 0, "model": {"name": "linear"}})
    {'seed': 0, 'model.name': 'linear'}
    """
    found: dict[str, Any] = {}
    for key, value in config.items():
        # Rates by variant are a mapping too, and one option.
        group = isinstance(value, dict) and key not in whole
        found.update({f"{key}.{name}": each for name, each in value.items()} if group else {key: value})
    return found


def plain(options: Any) -> dict[str, Any]:
    """Return the options as a configuration file has them."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()
    }


def _build(default: Any, given: Mapping[str, Any], fast: bool, prefix: str) -> Any:
    values = {}
    for each in fields(default):
        name, value, short = prefix + each.name, getattr(default, each.name), each.metadata.get("fast")
        if is_dataclass(value):
            values[each.name] = _build(value, given, fast, f"{name}.")
        else:
            values[each.name] = given.get(name, short if fast and short is not None else value)
    return type(default)(**values)
