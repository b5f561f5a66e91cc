"""Built-ins whose derivative is at fault or missing: what they compute, with the derivative of that.

Each file says what is at fault, and lists under ``FIRST`` what stands in for the built-in everywhere, under
``SECOND`` what does so for derivatives of higher order alone.
"""

from . import activation, attention, convolution, embedding, loss, normalization, window
from .table import Corrections

__all__ = ["CORRECTED", "CORRECTED_SECOND_ORDER", "Corrections"]

_FILES = activation, attention, convolution, embedding, loss, normalization, window

CORRECTED: Corrections = {kind: stand_in for file in _FILES for kind, stand_in in file.FIRST.items()}
CORRECTED_SECOND_ORDER: Corrections = CORRECTED | {
    kind: stand_in for file in _FILES for kind, stand_in in file.SECOND.items()
}
