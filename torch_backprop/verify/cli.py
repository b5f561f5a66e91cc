"""The command line."""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .check import check
from .isolate import preload
from .layers import every_case
from .page import page
from .progress import progress
from .report import Report
from .workers import Job, run_all

_DESCRIPTION = """\
Holds backward passes against autograd. Without a target: every layer of this package against its built-in.
Exit status: 0 nothing but capabilities found, 1 faults found, 2 bad usage."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        jobs = list(_jobs(options))
    except _UsageError as error:
        parser.error(str(error))
    # of many targets, one or another needs what torch imports late
    preload(options.quick and options.target is not None)
    names = [name for name, _ in jobs]
    try:
        reports = list(progress(names, run_all(jobs, options.jobs), quiet=options.quiet))
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    _write(reports, options)
    return int(not all(report.ok for report in reports))


class _UsageError(Exception):
    """Bad usage, in words that name the argument."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m torch_backprop.verify",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("target", nargs="?", metavar="pkg.module:name", help="a function, an autograd.Function or a module")
    add("--input", action="append", default=[], metavar="4x8", help="shape of an input, once for each input")
    add("--reference", metavar="pkg.module:name", help="what is right; default: the target's own forward")
    add("--layer", action="append", default=[], metavar="NAME", help="of this package, these layers alone")
    add("--device", default="cpu", help="where the inputs are (default: cpu)")
    add("--quick", action="store_true", help="only the probes that find most")
    add("--no-compile", action="store_true", help="leave out torch.compile")
    add("--limit", type=float, default=60.0, metavar="SECONDS", help="for each target (default: 60)")
    add("--jobs", type=int, default=0, help="targets at a time (default: one for each core)")
    add("--seed", type=int, default=0, help="of the inputs' numbers (default: 0)")
    add("--json", type=Path, metavar="FILE", help="write the reports as JSON")
    add("--html", type=Path, metavar="FILE", help="write the reports as a page")
    add("--quiet", action="store_true", help="no progress bar")
    return parser


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    _refuse_bad(options)
    device = _device(options.device)
    settings: dict[str, Any] = {
        "quick": options.quick,
        "limit": options.limit,
        "seed": options.seed,
        "compile": not options.no_compile,
    }
    if options.target is None:
        if options.input or options.reference:
            raise _UsageError("--input and --reference need a target: pass pkg.module:name before them")
        yield from every_case(options.layer, device, settings, _UsageError)
        return
    target = _imported(options.target, "target")
    reference = _imported(options.reference, "--reference") if options.reference else None
    if not options.input:
        raise _UsageError("--input: the target needs at least one, its shape as in --input 4x8")
    inputs = list(_drawn(options.input, options.seed, device))
    yield options.target, partial(check, target, *inputs, reference=reference, **settings)


def _refuse_bad(options: argparse.Namespace) -> None:
    if options.limit <= 0:
        raise _UsageError(f"--limit: {options.limit:g} is no time; pass seconds above 0")
    if options.jobs < 0:
        raise _UsageError(f"--jobs: {options.jobs} is no number of targets; pass 0 or more")
    if options.target is not None and options.layer:
        raise _UsageError("--layer: names a layer of this package; leave it out, or the target")
    for argument in ("json", "html"):
        path = getattr(options, argument)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise _UsageError(f"--{argument}: {str(path)!r} cannot be written; pass a file of a folder")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise _UsageError(f"--device: {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def _imported(path: str, argument: str) -> Any:
    module, colon, name = path.partition(":")
    if not colon or not module or not name:
        raise _UsageError(f"{argument}: {path!r} is no pkg.module:name, as in torch.nn.functional:gelu")
    sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise _UsageError(f"{argument}: {path!r} cannot be imported: {error}") from error
    finally:
        sys.path.remove("")
    return found


def _drawn(shapes: Sequence[str], seed: int, device: torch.device) -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for text in shapes:
        try:
            shape = tuple(int(size) for size in text.split("x")) if text != "0-dim" else ()
            drawn = torch.randn(shape, generator=generator)
        except (ValueError, RuntimeError) as error:
            raise _UsageError(f"--input: {text!r} is no shape, as in 4x8, 8 or 0-dim") from error
        yield drawn.to(device)


def _write(reports: list[Report], options: argparse.Namespace) -> None:
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    for report in reports:
        if report.findings or len(reports) == 1:
            print(report.text(columns))
    faulty = sum(not report.ok for report in reports)
    print(f"{len(reports)} verified, {faulty} with faults, {sum(r.seconds for r in reports):.1f} s")
    if options.json:
        options.json.write_text("[" + ",\n".join(report.to_json() for report in reports) + "]\n")
    if options.html:
        options.html.write_text(page(report.section() for report in reports))
