"""Gives the error of a gradient its shape, so that a reader knows the line to mend."""

from __future__ import annotations

from torch import Tensor

from .sample import CUT, Sample
from .shapes import RECOGNISERS, SAME, ratio_of
from .trial import Difference, Evidence, Trial

UNRECOGNISED = "no recognised shape"
_KINKS = ("zero-values", "tied-values", "mask-by-closeness")
_SIZED = ("batch-of-one", "transposed-gradient", "large-input", "extra-dimension")


def diagnose(trial: Trial, difference: Difference) -> Evidence:
    """The evidence for a difference: class of fault, numbers, and the shape of the error."""
    if difference.leaf is None:
        fault, words = _of_output(trial, difference)
    elif trial.sample.fault == "wrong-gradient":
        found = (recognise(trial, difference) for recognise in RECOGNISERS)
        fault, words = next((item for item in found if item), ("wrong-gradient", UNRECOGNISED))
    else:
        fault, words = _of_sample(trial.sample, difference)
    expected = excerpt(difference.expected)
    sized = f"{difference.what}: {words}; off by {difference.error:.3g} of {difference.scale:.3g}"
    return Evidence(fault, excerpt(difference.seen), expected, sized)


def excerpt(tensor: Tensor | None) -> str:
    """The first few numbers."""
    if tensor is None:
        return "None"
    flat = [f"{x:.6g}" for x in tensor.detach().resolve_conj().reshape(-1)[:4].tolist()]
    shape = "x".join(map(str, tensor.shape)) or "0-dim"
    return f"[{', '.join(flat)}{', ...' if tensor.numel() > 4 else ''}] ({shape})"


def _of_output(trial: Trial, difference: Difference) -> tuple[str, str]:
    if trial.sample.fault == "wrong-gradient":
        return "wrong-forward", "differs from the reference's; gradients are not judged before it agrees"
    return _of_sample(trial.sample, difference)


def _of_sample(sample: Sample, difference: Difference) -> tuple[str, str]:
    """What fails on a derived sample alone is named after the sample, and after where it leads."""
    fault, where = sample.fault, sample.name.removesuffix(CUT)
    seen = difference.expected * 0 if difference.seen is None else difference.seen
    if seen.shape != difference.expected.shape:
        return fault, f"has shape {tuple(seen.shape)}, expected {tuple(difference.expected.shape)}"
    odd = difference.expected.isfinite() & ~seen.isfinite()
    if odd.any():
        name = {"untaken-branch": "overflow-nan", "cancellation": "overflow-nan"}.get(fault, fault)
        name = "nan-at-kink" if fault in _KINKS else name
        return name, f"not finite in {int(odd.sum())} elements, on the sample {where} alone"
    ratio = ratio_of(seen, difference.expected)
    if fault in _SIZED and ratio is not None and abs(ratio - 1) > 1e-3:
        return "size-factor", f"right on the sample as given, {ratio:.6g} times the truth at this size"
    zero = (seen == 0) & (difference.expected.abs() > SAME * difference.scale)
    if fault == "untaken-branch" and zero.any():
        return "saturated-zero", f"zero in {int(zero.sum())} elements, on the sample {where} alone"
    return fault, f"right on the sample as given, wrong on the sample {where}"
