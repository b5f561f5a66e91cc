"""The numbers in formulas, as functions; they serve the derivations of ``gated``, ``gaussian`` and others.

Compiled with ``dynamic=True`` a global number, ``math.pi`` among them, becomes a symbol of the graph in which
Dynamo meets it first. If that is the graph of a Function, no other Function can have it: compilation fails.
"""


def root_two_pi() -> float:
    """(2 pi)^(1/2), which makes a density of exp(-x^2 / 2)."""
    return 2.5066282746310002


def gelu_polynomial() -> tuple[float, float]:
    """(8 / pi)^(1/2) and 0.044715 times it: the coefficients of x and x^3 in u of GELU by tanh."""
    return 1.5957691216057308, 0.07135481627260025


def selu_slopes() -> tuple[float, float]:
    """SELU's scale and alpha. Klambauer et al. (2017), arXiv:1706.02515, section 2."""
    return 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def selu_limit() -> float:
    """Minus SELU's limit at minus infinity: the product of its two slopes."""
    return 1.7580993408473766


def least() -> float:
    """torch's bound against division by zero: 1e-12 as a float32 number, in float64 too."""
    return 9.999999960041972e-13


def cubic() -> float:
    """The slope of the cubic kernel at distance 1, a of Keys (1981), as torch chooses it."""
    return -0.75
