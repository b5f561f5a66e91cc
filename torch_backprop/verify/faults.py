"""The classes of faults that a backward pass can have, by the name under which the verifier reports them.

Two classes are one where no observation can tell them apart; the sentence says so.
"""

from __future__ import annotations

from typing import NamedTuple

WRONG = "wrong"
"""A silently wrong number."""
CRASH = "crash"
"""An error, a hang, or the end of the process, where the reference returns."""
CONTRACT = "contract"
"""Mutation, aliasing, a leak, a repair by the engine, wasted work, state outside ctx."""
PRECISION = "precision"
"""A larger error than the reference's own in the same dtype."""
CAPABILITY = "capability"
"""Something that the reference can do and the candidate cleanly refuses. No fault."""


class Fault(NamedTuple):
    """A class of faults: its stable name, one sentence, and the verdict that it carries."""

    name: str
    says: str
    verdict: str


_ALL = (
    # the formula
    Fault("wrong-gradient", "The gradient is wrong on the sample as given, in no recognised shape.", WRONG),
    Fault("missing-gradient", "The gradient of an input is None or zero; the reference's is not.", WRONG),
    Fault("constant-factor", "The gradient is a constant times the true one: 2, -1, a scale.", WRONG),
    Fault("size-factor", "The gradient is off by a size: mean for sum, batch, N for N - 1.", WRONG),
    Fault("transposed-gradient", "Axes are swapped: at best square inputs come out right.", WRONG),
    Fault("broadcast-slip", "A factor of the rows was applied to the columns, or the reverse.", WRONG),
    Fault("missing-reduction", "A gradient is not summed over broadcast axes; the engine does it.", CONTRACT),
    Fault("small-error", "Off by a part in 1e3 or less, far above rounding: an eps forgotten.", WRONG),
    Fault("wrong-forward", "The output is wrong, whether or not backward is consistent with it.", WRONG),
    Fault("second-output-ignored", "The cotangent of one of several outputs is not used.", WRONG),
    Fault("cotangent-ignored", "The gradient does not depend on grad_output.", WRONG),
    Fault("cotangent-assumed-uniform", "Right only if all elements of grad_output are equal.", WRONG),
    Fault("cotangent-nonlinear", "The gradient is not linear in grad_output: g * g, a hidden clamp.", WRONG),
    Fault("missing-conjugate", "Right over the reals, wrong over the complex numbers.", WRONG),
    Fault("extra-dimension", "Wrong with one leading dimension more.", WRONG),
    Fault("untaken-branch", "Right on the sample, wrong on values of other sign or magnitude.", WRONG),
    Fault("zero-values", "Wrong where an input is exactly zero.", WRONG),
    Fault("tied-values", "Wrong where values are tied.", WRONG),
    Fault("mask-by-closeness", "Wrong where values are close but not equal.", WRONG),
    Fault("duplicate-indices", "Wrong where an index occurs twice: overwritten, not added.", WRONG),
    Fault("masked-index", "Wrong where an index is a padding_idx or an ignore_index.", WRONG),
    Fault("all-masked", "Wrong or NaN where every index is masked.", WRONG),
    Fault("same-tensor-twice", "Wrong when one tensor is passed as two arguments.", WRONG),
    # numerics
    Fault("overflow-nan", "NaN or infinity for large inputs where the reference is finite.", WRONG),
    Fault("saturated-zero", "Zero for large inputs (saturated, overflowed); the reference is not.", WRONG),
    Fault("nan-at-kink", "NaN at zero, at a kink, or from the branch of a where not taken.", WRONG),
    Fault("rounded-gradient", "The gradient is rounded to integers.", WRONG),
    Fault("float32-inside", "A float64 gradient with the accuracy of a lower precision.", PRECISION),
    Fault("cancellation", "Digits lost for inputs far from zero, E[x^2] - E[x]^2.", PRECISION),
    Fault("low-precision", "A larger error in half precision or float32 than the reference's.", PRECISION),
    Fault("autocast", "Under autocast another dtype or number than the reference.", CONTRACT),
    Fault("wrong-dtype", "A gradient or output of the wrong dtype; the engine casts gradients.", CONTRACT),
    Fault("hard-coded-dtype", "Works in one dtype only: a float64 or float32 written in the code.", CRASH),
    Fault("hard-coded-device", "A tensor made on a fixed device: fails off that device.", CRASH),
    # sizes and layouts
    Fault("empty-input", "Fails or is wrong on a tensor of no elements.", CRASH),
    Fault("batch-of-one", "Fails or is wrong on a batch of one.", CRASH),
    Fault("zero-dim-input", "Fails or is wrong on a tensor of no dimensions.", CRASH),
    Fault("large-input", "Fails or is wrong on many elements.", WRONG),
    Fault("strided-input", "Fails or is wrong on inputs that are not contiguous.", WRONG),
    Fault("channels-last", "Fails or is wrong on channels_last inputs.", WRONG),
    Fault("cotangent-layout", "Fails or is wrong on an expanded, strided or transposed grad_output.", WRONG),
    Fault("undefined-cotangent", "Fails or is wrong where an output has no cotangent (None).", CRASH),
    # contract
    Fault("wasted-work", "Computes gradients that ctx.needs_input_grad says nobody needs.", CONTRACT),
    Fault(
        "frozen-input",
        "Fails or is wrong when only some inputs need gradients, or those of a saved tensor's "
        "requires_grad are given alone (two causes, one observation).",
        CRASH,
    ),
    Fault("tensor-on-ctx", "Keeps an intermediate tensor as an attribute of ctx.", CONTRACT),
    Fault("leak", "The graph outlives its last reference: output on ctx, autograd in backward.", CONTRACT),
    Fault(
        "unguarded-save",
        "An input or output changed between the passes gives a wrong gradient where the reference raises "
        "(.data, detach, or an input on ctx: one observation).",
        CONTRACT,
    ),
    Fault("saved-tensor-overwritten", "backward writes into a saved tensor.", CONTRACT),
    Fault("input-mutated", "forward or backward writes into an input without mark_dirty.", CONTRACT),
    Fault("cotangent-mutated", "backward writes into grad_output.", CONTRACT),
    Fault("gradient-aliases", "A leaf's .grad shares memory with grad_output or an input.", CONTRACT),
    Fault("output-aliases-input", "The output shares an input's memory; the reference's does not.", CONTRACT),
    Fault("unmarked-output", "An output that is no function of the inputs (a mask) requires grad.", CONTRACT),
    Fault("integer-output", "backward fails because an output is of an integer dtype.", CRASH),
    Fault("nondeterministic", "The same call twice gives different numbers.", WRONG),
    Fault("redrawn-randomness", "backward consumes random numbers: the mask is drawn again.", WRONG),
    Fault("buffers", "Buffers differ from the reference's after forward, or change in backward.", CONTRACT),
    Fault("state-outside-ctx", "Wrong when two calls interleave: state on self, module or global.", WRONG),
    Fault("second-backward", "A second backward with retain_graph fails or differs.", WRONG),
    Fault("thread-dependent", "Fails or is wrong when called in another thread.", WRONG),
    Fault("global-state", "Grad mode, default dtype, threads or autocast are left changed.", CONTRACT),
    # higher order and transforms
    Fault("double-backward-wrong", "The second gradient is silently wrong or detached.", WRONG),
    Fault("forward-mode-wrong", "The forward-mode derivative, or that of one, is silently wrong.", WRONG),
    Fault("torch-func-wrong", "torch.func.grad or vmap is silently wrong.", WRONG),
    Fault("compiled-wrong", "torch.compile changes the numbers or drops the gradient.", WRONG),
    # loud failures of no narrower class
    Fault("forward-crash", "forward raises on the sample as given; the reference does not.", CRASH),
    Fault("backward-crash", "backward raises on the sample as given: a wrong shape, a missing None.", CRASH),
    Fault("kills-process", "The interpreter dies.", CRASH),
    Fault("hangs", "Does not return within the limit.", CRASH),
    # capabilities
    Fault("no-torch-func", "No setup_context: unusable under torch.func.", CAPABILITY),
    Fault("no-vmap", "Refuses vmap.", CAPABILITY),
    Fault("no-forward-mode", "No jvp, or none of a jvp.", CAPABILITY),
    Fault("no-double-backward", "A second gradient raises.", CAPABILITY),
    Fault("no-complex", "Refuses complex inputs, which the reference takes.", CAPABILITY),
    Fault("no-compile", "torch.compile(fullgraph=True) refuses it.", CAPABILITY),
    Fault("refuses-input", "forward refuses a rank or dtype which the reference takes.", CAPABILITY),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
"""Every class, by name."""
