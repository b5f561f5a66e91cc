"""A run's folder: settings, state, measurements and checkpoints, each written whole or not at all."""

import argparse
import csv
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from experiments.configuration import build, flat, given_in, plain
from experiments.options import CHOSEN, Options

# Seconds, where milliseconds would do, after which a half-made folder is that of a process that was killed.
ABANDONED = 60.0


class RunError(Exception):
    """A folder that cannot serve as a run; the message names the option and what would work."""


@dataclass(frozen=True)
class Run:
    """The folder of one run of one experiment.

    Attributes:
        fresh: whether this process has made the folder.
    """

    folder: Path
    options: Any
    fresh: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes to the folder; of several that train together only the first does."""
        trainer = getattr(self.options, "trainer", None)
        return trainer is None or trainer.devices * trainer.num_nodes == 1 or _rank(trainer.devices) == 0

    @classmethod
    def create(cls, experiment: str, out: str, options: Options) -> "Run":
        """Make a new folder under `out`.

        Raises:
            RunError: If `out` cannot be written.
        """
        follower = cls(Path(out) / experiment / "of-another-process", options)
        if not follower.leads:
            return follower
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        # What none of its problems is made of does not name it.
        chosen = CHOSEN in getattr(options, "problems", (CHOSEN,))
        names = [value for name, value, _ in flat(options) if chosen and name.endswith(".name")]
        # Of the data's name, which may hold a path, only what a folder can be called.
        own = "-".join([stamp, *(re.sub(r"\W+", "_", name) for name in names)])
        config = yaml.safe_dump({"experiment": experiment, **plain(options)}, sort_keys=False)
        try:
            return cls(_new_folder(Path(out) / experiment, own, config), options, fresh=True)
        except OSError as error:
            why = f"cannot be written ({error.strerror or error}); give a folder that can be"
            raise RunError(f"--out: {out!r} {why}") from error

    @classmethod
    def reopen(cls, experiment: str, kind: type[Options], folder: str, settings: dict[str, Any]) -> "Run":
        """Open the folder of a run that was stopped.

        Args:
            experiment: The experiment that it must be a run of.
            kind: The class of its options.
            folder: The run's folder.
            settings: Options given once more; they must agree with the run's own.

        Raises:
            RunError: If the folder is no run of this experiment, or a setting differs.
        """
        try:
            text = (Path(folder) / "config.yaml").read_text()
            config = yaml.safe_load(text)
            found = config.pop("experiment")
            own = build(kind, given_in(kind, config)) if found == experiment else kind()
            run = cls(Path(folder), own)
            # To be told now, and not after an hour, that the folder cannot be written.
            run.write("config.yaml", text)
        except argparse.ArgumentTypeError as error:
            raise RunError(f"--resume: {folder!r} cannot go on here: {error}") from error
        except (OSError, ValueError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            why = "is not a run; give the folder that an interrupted run named"
            raise RunError(f"--resume: {folder!r} {why}") from error
        if found != experiment:
            raise RunError(f"--resume: {folder!r} is a run of {found}; use python -m experiments {found}")
        # Given again they are harmless; changed, the run would no longer be the one that was begun.
        values = {name: value for name, value, _ in flat(own)}
        for name, value in settings.items():
            if value != values[name]:
                why = f"differs from the run's {values[name]!r}"
                raise RunError(f"--{name}: {value!r} {why}; leave --{name} out to resume")
        return run

    def discard(self) -> bool:
        """Take away a fresh folder that nothing but its settings is in, and say whether it is gone."""
        if not self.fresh or any(path.name != "config.yaml" for path in self.folder.iterdir()):
            return False
        (self.folder / "config.yaml").unlink(missing_ok=True)
        self.folder.rmdir()
        # Other runs of the experiment may be beside it.
        with suppress(OSError):
            self.folder.parent.rmdir()
        return True

    def checkpoint(self, name: str) -> Path:
        """Return where the checkpoint of this name belongs."""
        return self.folder / "checkpoints" / f"{name}.ckpt"

    def write(self, name: str, text: str) -> Path:
        """Write a text file of the run."""
        if not self.leads:
            return self.folder / name
        with replacing(self.folder / name) as path:
            path.write_text(text, encoding="utf-8")
        return self.folder / name

    def write_rows(self, name: str, columns: Sequence[str], rows: list[dict[str, Any]]) -> None:
        """Write a CSV file."""
        if not self.leads:
            return
        with replacing(self.folder / name) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)

    def load_state(self) -> dict[str, Any]:
        """Return what `save_state` kept last, or nothing."""
        path = self.folder / "state.json"
        try:
            return dict(json.loads(path.read_text())) if path.exists() else {}
        # What is finished is in the checkpoints too.
        except (ValueError, TypeError):
            kept = set_aside(path).name
            sys.stderr.write(
                f"state.json cannot be read: kept as {kept}; the run goes on from its checkpoints.\n"
            )
            return {}

    def save_state(self, state: dict[str, Any]) -> None:
        """Keep what is finished, for a later resume."""
        self.write("state.json", json.dumps(state, indent=1))


def _rank(devices: int) -> int:
    """Return which process this is, by what launchers put into the environment."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    return int(os.environ.get("NODE_RANK", "0")) * devices + int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to, and put it in place of `path` only once it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since os.replace is atomic only within one file system.
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _new_folder(parent: Path, name: str, config: str) -> Path:
    """Make a folder that no other run has, even one started in the same second.

    It appears with its settings in it: a kill in between leaves nothing that looks like a run and is none.
    """
    _clear(parent)
    partial = parent / f".{name}-{uuid.uuid4().hex}.partial"
    try:
        partial.mkdir(parents=True)
        (partial / "config.yaml").write_text(config, encoding="utf-8")
        return _rename(partial, name)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        # Other runs of the experiment may be beside it.
        with suppress(OSError):
            parent.rmdir()
        raise


def _clear(parent: Path) -> None:
    """Take away the half-made folders of processes that were killed."""
    for left in parent.glob(f".*-{'[0-9a-f]' * 32}.partial"):
        # It may just be becoming a run; and what holds anything else is not ours to take away.
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                (left / "config.yaml").unlink(missing_ok=True)
                left.rmdir()


def _rename(partial: Path, name: str) -> Path:
    for number in range(1, 1000):
        folder = partial.with_name(name if number == 1 else f"{name}-{number}")
        try:
            os.replace(partial, folder)
            return folder
        except OSError:
            # What is wrong with anything but the name would be wrong with the next one too.
            if not folder.exists():
                raise
    raise OSError(f"more than 999 runs named {name}")


def set_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that nothing is lost, and return its new name."""
    other = path.with_name(f"{path.name}.set-aside")
    os.replace(path, other)
    return other
