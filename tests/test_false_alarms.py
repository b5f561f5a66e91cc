"""What is right is not flagged: torch's functions against themselves, and against plain operators.

Written with plain operators, a function may really differ from the built-in: at a kink, at an infinity, in
half precision. ``DIFFERENCES`` lists every such difference; anything else is a false alarm.
"""

import pytest
import torch

from tests.plain import TWINS, Twin
from torch_backprop.verify import check

KILLERS = {"pdist"}
"""Builtins that end the interpreter on some input."""

AUTOCAST = {"autocast"}  # a bias added to a product in bfloat16 gives float32

DIFFERENCES: dict[str, set[str]] = {
    "relu6": {"tied-values", "zero-values"},  # clamp passes the gradient on at its bounds, relu6 does not
    "hardtanh": {"tied-values"},  # as relu6
    "softshrink": {"tied-values"},  # where all values are 1/2, clamp passes the gradient on
    "sigmoid": {"overflow-nan"},  # exp(800) in the second derivative
    "tanh": {"saturated-zero"},  # 2 s - 1 is 0 for tiny x
    "logsigmoid": {"overflow-nan"},  # exp(800) in the second derivative
    "elu": {"saturated-zero"},  # expm1(x) + 1, its derivative, is 0 at -40
    "selu": {"saturated-zero"},  # as elu
    "celu": {"saturated-zero"},  # as elu
    "prelu": {"autocast", "overflow-nan"},  # no autocast policy; 0 times infinity where x > 0
    "smooth_l1_loss": {"overflow-nan"},  # infinity in the branch that is not taken
    "huber_loss": {"overflow-nan"},  # as smooth_l1_loss
    "nll_loss": {"all-masked", "masked-index"},  # knows no ignore_index
    "cross_entropy": {"all-masked", "masked-index"},  # as nll_loss
    "binary_cross_entropy": {"nan-at-kink", "untaken-branch"},  # log 0 is not held at -100
    "gaussian_nll_loss": {"saturated-zero", "tied-values", "zero-values"},  # torch's clamp has a gradient
    "cosine_embedding_loss": {"untaken-branch", "zero-values"},  # another epsilon
    "multi_margin_loss": {
        "empty-input",  # mean of nothing is NaN
        "overflow-nan",  # infinity less infinity
        "tied-values",  # clamp passes the gradient on at a margin of 0
        "zero-dim-input",  # has no dimension of classes
    },
    "cosine_similarity": {"overflow-nan", "refuses-input"},  # squares of 1e200; sums over dimension 1 first
    "conv1d": AUTOCAST,
    "conv2d": AUTOCAST,
    "conv3d": AUTOCAST,
    "conv_transpose1d": AUTOCAST | {"overflow-nan"},  # pads with zeros, times infinity
    "conv_transpose2d": AUTOCAST | {"overflow-nan"},  # as conv_transpose1d
    "lp_pool1d": {"nan-at-kink", "overflow-nan"},  # the root of 0, which torch's sign and relu hide
    "lp_pool2d": {"nan-at-kink", "overflow-nan"},  # as lp_pool1d
    "linear": AUTOCAST,
    "bilinear": AUTOCAST,
    "group_norm": {"extra-dimension"},  # names its axes
    "instance_norm": {"extra-dimension"},  # as group_norm
    "local_response_norm": {"refuses-input"},  # names its axes
    "pixel_shuffle": {"refuses-input"},  # as local_response_norm
    "pixel_unshuffle": {"refuses-input"},  # as local_response_norm
    "interpolate nearest": {"extra-dimension"},  # repeats one axis only
}

each_twin = pytest.mark.parametrize("twin", TWINS, ids=lambda twin: twin.name)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_at_least_80_functions():
    assert len({twin.name for twin in TWINS}) == len(TWINS) >= 80


@each_twin
def test_a_builtin_equals_itself(twin: Twin):
    report = check(twin.builtin, *twin.sample(), reference=twin.builtin, isolate=twin.name in KILLERS)
    assert not report.findings, str(report)


@each_twin
def test_plain_operators_differ_only_as_explained(twin: Twin):
    # compiled, a function is held against itself: that was done above
    alone = twin.name in KILLERS
    report = check(twin.plain, *twin.sample(), reference=twin.builtin, isolate=alone, compile=False)
    assert {finding.fault for finding in report.findings} == DIFFERENCES.get(twin.name, set()), str(report)
