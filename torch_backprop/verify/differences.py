"""Derivatives by extrapolated differences, for what autograd cannot see through."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .outcome import Cotangent
from .sample import CUT, GIVEN, Sample
from .settings import seed
from .target import Target

_SHRINK = 1.4
_ROWS = 9
_STEPS = {torch.float64: 0.02, torch.float32: 0.2}
EXTRAPOLATED = {torch.float64: 1e-9, torch.float32: 1e-4}
"""The relative error that a converged difference may have, by the dtype of the function."""
MANY, FEW = 200, 8
"""Elements of a tensor by which differences are taken, some eleven calls each; of more, these are spread.

Few on the many samples that are derived from the given one.
"""


def ridders(value: Callable[[float], Tensor], step: float = _STEPS[torch.float64]) -> tuple[Tensor, Tensor]:
    """The derivative of ``value`` at 0, element by element, with an estimate of its error.

    Ridders (1982), Advances in Engineering Software 4(2), 75-76: central differences at shrinking steps,
    extrapolated to step 0; the pair of neighbours in the tableau that differ least is the answer.
    """
    row = [(value(step) - value(-step)) / (2 * step)]
    best, error = torch.full_like(row[0], math.nan), torch.full_like(row[0], math.inf)
    going = torch.ones_like(row[0], dtype=torch.bool)
    for _ in range(_ROWS - 1):
        previous, step = row, step / _SHRINK
        row = [(value(step) - value(-step)) / (2 * step)]
        for j, coarse in enumerate(previous):
            factor = _SHRINK ** (2 * (j + 1))
            row.append((row[j] * factor - coarse) / (factor - 1))
            change = torch.maximum((row[-1] - row[j]).abs(), (row[-1] - coarse).abs())
            better = going & (change <= error)
            best, error = torch.where(better, row[-1], best), torch.where(better, change, error)
        going &= ~((row[-1] - previous[-1]).abs() >= 2 * error)
        if not going.any():
            break
    return best, error


def pairing(target: Target, sample: Sample, cotangent: Cotangent, live: Iterable[int]) -> Tensor:
    """The inner product of outputs and cotangents; its real part."""
    outputs = _outputs(target, sample)
    terms = [(outputs[i] * cotangent(outputs[i], i).conj()).sum().real for i in live]
    return torch.stack([term.double() for term in terms]).sum()


@dataclass
class Jacobian:
    """The derivatives of the live outputs of a sample by each leaf, taken when first asked for."""

    target: Target
    sample: Sample
    live: tuple[int, ...]
    _known: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def pulled_back(self, name: str, cotangents: Iterable[Tensor]) -> Tensor:
        """The gradient of a leaf; not a number where no difference was taken, or differences do not converge.

        At a kink they do not: there is no truth to hold anything against.
        """
        if name not in self._known:
            self._known[name] = self._columns(name)
        places, slopes, errors = self._known[name]
        weights = _flat(cotangents)
        used = weights != 0
        found, doubt = slopes[:, used] @ weights[used], errors[:, used] @ weights[used].abs()
        leaf = self.sample.tensors[name]
        # by relative steps: of what varies within a step, differences are small, and converge to nothing
        size = _flat([leaf])[places].abs().clamp_min(1)
        digits = EXTRAPOLATED[self.sample.dtype.to_real()]
        limit = digits * (found * size).abs().nan_to_num().max().clamp_min(digits) if len(found) else doubt
        gradient = _flat([torch.zeros_like(leaf)]).fill_(math.nan)
        gradient[places] = torch.where(doubt * size <= limit, found, math.nan)
        if leaf.is_complex():
            return torch.view_as_complex(gradient.view(*leaf.shape, 2))
        return gradient.view(leaf.shape)

    def _columns(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Places in the flat leaf, the slopes of all outputs there, and their errors."""
        leaf = self.sample.tensors[name]
        count = _flat([leaf]).numel()
        # what is given, or that moved by rounding, which has no name
        most = MANY if self.sample.name.removesuffix(CUT) in (GIVEN, "") else FEW
        places = torch.linspace(0, count - 1, min(count, most)).long()
        columns = [self._column(name, leaf, int(place)) for place in places]
        if not columns:
            none = leaf.new_empty(0, _flat(self._live(self.sample)).numel(), dtype=torch.float64)
            return places, none, none
        slopes, errors = zip(*columns, strict=True)
        return places, torch.stack(slopes), torch.stack(errors)

    def _column(self, name: str, leaf: Tensor, place: int) -> tuple[Tensor, Tensor]:
        direction = _flat([torch.zeros_like(leaf)])
        direction[place] = 1
        shape = (*leaf.shape, 2) if leaf.is_complex() else leaf.shape
        along = direction.view(shape)
        along = (torch.view_as_complex(along) if leaf.is_complex() else along).to(leaf.dtype)

        def value(step: float) -> Tensor:
            return _flat(self._live(self.sample.changed("", "", lambda _, x: x + step * along, (name,))))

        step = _STEPS[self.sample.dtype.to_real()]
        return ridders(value, step * max(1.0, float(_flat([leaf])[place].abs())))

    def _live(self, sample: Sample) -> list[Tensor]:
        outputs = _outputs(self.target, sample)
        return [outputs[i] for i in self.live]


def _outputs(target: Target, sample: Sample) -> tuple[Tensor, ...]:
    call = sample.fresh((), target.spare)
    seed()
    return tuple(y.detach() for y in target.outputs(call.args, call.state, sample.training))


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    """All real coordinates, one after the other."""
    wide = [x.detach().resolve_conj() for x in tensors]
    real = [torch.view_as_real(x) if x.is_complex() else x for x in wide]
    return torch.cat([x.double().reshape(-1) for x in real])
