"""Cross entropy of a linear map of the input: in chunks, or of all its logits where they are few.

The derivation is that of ``chunked``; where it does not apply, those of ``linear`` and ``cross_entropy``.
"""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from torch_backprop.layers.linear import elements, linear, not_kept
from torch_backprop.layers.loss.chunked import Chunks, LinearCrossEntropyRule
from torch_backprop.layers.loss.cross_entropy import cross_entropy
from torch_backprop.layers.loss.reduction import REDUCTIONS
from torch_backprop.rule import autocasts, is_plain, private, wanted
from torch_backprop.spec import Draw, LayerSpec, case


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: LinearCrossEntropyOptions | None = None,
) -> Tensor:
    """Cross entropy of x w^T + b; as :func:`torch.nn.functional.linear_cross_entropy`.

    Args:
        input: ``(N, in_features)`` or ``(in_features)``.
        linear_weight: ``(C, *, in_features)``.
        target: class indices ``(N, *)`` or ``()``, or class probabilities ``(N, C, *)``.
        linear_bias: ``(C, *)``.
        weight: ``(C)``, of the classes.
        reduction: ``"none"``, ``"mean"`` or ``"sum"``, as for :func:`cross_entropy`.
        ignore_index: the class index that counts for nothing.
        label_smoothing: the part of the target, in [0, 1], spread evenly over the classes.
        options: torch's. Chunks are of the size that they say, and sums are never in a narrower dtype than
            they say: half precision is summed in float32, but for the gradient of the weight where
            ``acc_policy`` is ``"compact"``. The gradient may be asked for twice, whatever they say. It
            has derivatives where input and target are no larger than the gradients: else, as in torch, of a
            sum or a mean these alone are held. For second derivatives in any case leave options out.

    Returns:
        ``()``, or ``(N, *)`` without a reduction; in nats.

    Raises:
        RuntimeError: shapes or dtypes that do not fit, in torch's words; a backward pass with
            ``create_graph`` where only gradients are held; weight or bias written into before it, with
            options, where gradients as large as they are not held, as torch does.
    """
    logits = (*input.shape[:-1], *linear_weight.shape[:-1])
    if not _fits(input, linear_weight, target, linear_bias, ignore_index):
        # raises
        return F.linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, ignore_index=ignore_index
        )
    if options is not None:
        applies = _warn_unless_applied(linear_weight, target, linear_bias, reduction, label_smoothing)
        options = _adjusted(options, input, linear_weight) if applies else None
    ignored = -100 if ignore_index is None else ignore_index
    tensors = (input, linear_weight, linear_bias)
    if label_smoothing == 0 and _is_chunked(*tensors, target, weight, reduction, ignored, options):
        chunks = Chunks.of(input, target, linear_weight, linear_bias, weight, reduction, options)
        # with options torch keeps gradients: here they alone are kept, or a copy of x and the weights
        x, w, b = _own(*tensors) if options is None else tensors
        if options is not None and not chunks.alone:
            x = private(x, w, b)
        arguments = (x, target, w, b, weight, reduction, ignored)
        return LinearCrossEntropyRule.call(*arguments, chunks)[0]
    flat = None if linear_bias is None else linear_bias.reshape(-1)
    # chunks do not apply, or would hold more than the logits
    z = linear(input, linear_weight.reshape(-1, input.shape[-1]), flat).reshape(logits)
    return cross_entropy(
        z, target, weight, ignore_index=ignored, reduction=reduction, label_smoothing=label_smoothing
    )


def _own(x: Tensor, w: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Copies of what torch does not keep, so that a caller may write into it between the passes.

    It keeps x for the gradient of w and w for that of x.
    """
    return (
        x if wanted(w) else private(x, b),
        w if wanted(x) else private(w, b),
        None if b is None else private(b, x, w),
    )


def _fits(x: Tensor, w: Tensor, t: Tensor, b: Tensor | None, ignore_index: int | None) -> bool:
    """Whether torch takes tensors of these shapes; what it refuses, it refuses itself, in its own words."""
    shape = w.shape
    return not (
        x.dim() not in (1, 2)
        or len(shape) < 2
        or x.shape[-1] != shape[-1]
        or (b is not None and b.shape != shape[:-1])
        or (len(shape) > 2 and x.dim() == 1)
        or (t.shape == (*x.shape[:-1], *shape[:-1]) and ignore_index is not None)
    )


def _warn_unless_applied(w: Tensor, t: Tensor, b: Tensor | None, reduction: str, smoothing: float) -> bool:
    """Whether options apply; where torch would not go by chunks it says so, and so do we."""
    features, tracing = tuple(w.shape[1:-1]), torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if reduction in REDUCTIONS and smoothing == 0 and t.dtype == torch.int64 and not features and not tracing:
        return True
    warnings.warn(
        "linear_cross_entropy: ``options`` ignored; chunked path needs reduction in {'mean','sum','none'}, "
        "label_smoothing == 0, target.dtype == int64, out_features == (). Got "
        f"reduction={reduction!r}, label_smoothing={smoothing}, target.dtype={t.dtype}, "
        f"out_features={features}, tracing={tracing}, "
        f"linear_bias.shape={None if b is None else tuple(b.shape)}.",
        stacklevel=3,
    )
    return False


def _adjusted(options: LinearCrossEntropyOptions, x: Tensor, w: Tensor) -> LinearCrossEntropyOptions:
    """The options with every choice made that they leave open.

    Raises:
        ValueError: sizes of a chunk that contradict each other, in torch's words.
        RuntimeError: a dtype of sums that does not go with that of the input, in torch's words.
    """
    batch = len(x) if x.dim() == 2 else 1
    options = options._adjust(batch, x.shape[-1], len(w), x.dtype, x.device)
    half = x.dtype in (torch.float16, torch.bfloat16)
    if options.acc_dtype != x.dtype and not (half and options.acc_dtype == torch.float32):
        raise RuntimeError(
            "linear_cross_entropy supports float32 acc_dtype with float16/bfloat16 inputs, "
            f"but got {options.acc_dtype} acc_dtype and {x.dtype} inputs."
        )
    return options


def _is_chunked(
    x: Tensor,
    w: Tensor,
    b: Tensor | None,
    t: Tensor,
    v: Tensor | None,
    reduction: str,
    ignored: int,
    options: LinearCrossEntropyOptions | None,
) -> bool:
    """Whether the rule applies, and holds less than the logits."""
    applies = (
        x.dim() == w.dim() == 2
        and t.dtype == torch.int64
        and t.shape == x.shape[:1]
        and t.numel() > 0
        and reduction in REDUCTIONS
        and x.is_floating_point()
        and x.dtype == w.dtype
        and not autocasts(x.device.type)
        and not wanted(v)
    )
    if not applies or (options is None and _more(x, w, b, reduction) >= len(x) * len(w)):
        return False
    # only torch has the words for a target that is no class
    return not is_plain(t) or bool(((t == ignored) | (t >= 0) & (t < len(w))).all())


def _more(x: Tensor, w: Tensor, b: Tensor | None, reduction: str) -> int:
    """The elements that the rule holds in place of the logits: gradients, and copies."""
    factors = x.numel() + w.numel()
    if not any(map(wanted, (x, w, b))):
        return factors
    gradients = sum(elements(y) for y in (x, w, b) if wanted(y))
    return not_kept(x, w, b) + (gradients if reduction != "none" else 0)


class LinearCrossEntropyLoss(torch.nn.LinearCrossEntropyLoss):
    """Drop-in for :class:`torch.nn.LinearCrossEntropyLoss`."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Maps ``(N, in_features)`` and ``(N, *)`` to ``()``, or ``(N, *)`` without a reduction."""
        shape = (self.num_classes, *self.out_features)
        return linear_cross_entropy(
            input,
            self.linear.weight.reshape(*shape, self.linear.in_features),
            target,
            linear_bias=None if self.linear.bias is None else self.linear.bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


def _classes(*shape: int, classes: int = 40) -> Draw:
    return Draw(shape, "classes", classes)


def _weights() -> Draw:
    return Draw((40,), "unit")


SPECS = (
    LayerSpec(
        LinearCrossEntropyLoss,
        torch.nn.LinearCrossEntropyLoss,
        (
            case((24, 2), _classes(24), in_features=2, num_classes=40, bias=True),
            case((24, 2), _classes(24), in_features=2, num_classes=40, reduction="none", weight=_weights()),
            case((24, 2), _classes(24), in_features=2, num_classes=40, reduction="sum", ignore_index=3),
            case(
                (3, 4),
                _classes(3, 2, classes=5),
                in_features=4,
                num_classes=5,
                out_features=(2,),
                label_smoothing=0.1,
            ),
        ),
        large=case((2048, 512), Draw((2048,), "classes", 8000), in_features=512, num_classes=8000),
    ),
)
