"""What the cases of the losses cannot say: faults of torch at which the built-in is no reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torch_backprop import functional
from torch_backprop.functional import (
    cross_entropy,
    ctc_loss,
    gaussian_nll_loss,
    huber_loss,
    multilabel_margin_loss,
    soft_margin_loss,
)


def test_weighted_huber_loss() -> None:
    x, t, w = (torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    for reduction in ("none", "mean", "sum"):

        def loss(x: Tensor, t: Tensor, w: Tensor, reduction: str = reduction) -> Tensor:
            return huber_loss(x, t, reduction, 0.7, w)

        builtin = torch.nn.functional.huber_loss(x, t, reduction, 0.7, w)  # pyright: ignore[reportCallIssue]
        assert torch.equal(loss(x, t, w), builtin)
        assert torch.autograd.gradcheck(loss, (x, t, w), check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(loss, (x, t, w))


def test_variance_that_is_a_number() -> None:
    x, t = torch.ones(3, requires_grad=True), torch.zeros(3)
    assert torch.equal(gaussian_nll_loss(x, t, 2.0), torch.nn.functional.gaussian_nll_loss(x, t, 2.0))


def test_soft_margin_does_not_overflow() -> None:
    x = torch.tensor([-200.0], requires_grad=True)
    loss = soft_margin_loss(x, torch.ones(1))
    assert loss == 200
    assert torch.autograd.grad(loss, x)[0] == -1


def test_no_samples_have_the_multilabel_loss_zero() -> None:
    for reduction in ("mean", "sum"):
        assert multilabel_margin_loss(torch.ones(0, 4), torch.ones(0, 4).long(), reduction=reduction) == 0


def test_listed_targets_with_gaps() -> None:
    x = torch.randn(6, 2, 4).log_softmax(2)
    gapped = torch.tensor([1, 0, 2, 0, 3, 0])[::2]
    lengths = torch.tensor([6, 6]), torch.tensor([2, 1])
    assert torch.equal(ctc_loss(x, gapped, *lengths), ctc_loss(x, gapped.contiguous(), *lengths))


def test_ctc_target_that_is_no_class_is_refused() -> None:
    x = torch.randn(6, 2, 5).log_softmax(-1)
    lengths = torch.tensor([6, 5]), torch.tensor([2, 1])
    # behind the end of a target anything may stand
    right = torch.tensor([[1, 2, -100], [3, 9, 9]])
    assert torch.equal(ctc_loss(x, right, *lengths), torch.nn.functional.ctc_loss(x, right, *lengths))
    with pytest.raises(IndexError, match="Target 5 is out of bounds"):
        ctc_loss(x, torch.tensor([[1, 5, 0], [3, 0, 0]]), *lengths)


def test_a_compiler_gets_no_loop_of_ctc() -> None:
    sizes: list[int] = []

    def counting(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        sizes.append(len(graph.graph.nodes))
        return graph

    x, targets = (
        torch.randn(60, 2, 5, dtype=torch.float64).log_softmax(2),
        torch.tensor([[1, 2, 2], [3, 0, 0]]),
    )
    lengths = torch.tensor([60, 41]), torch.tensor([3, 1])
    compiled = torch.compile(ctc_loss, fullgraph=True, backend=counting)
    slopes = []
    for loss in (compiled, torch.nn.functional.ctc_loss):
        leaf = x.clone().requires_grad_()
        slopes += torch.autograd.grad(loss(leaf, targets, *lengths), leaf)
    torch.testing.assert_close(*slopes, rtol=1e-10, atol=1e-12)
    assert sum(sizes) < 60
    with pytest.raises(IndexError, match="Target 5 is out of bounds"):
        compiled(x, torch.tensor([[1, 5, 0], [3, 0, 0]]), *lengths)


def test_class_weights_of_another_dtype_are_refused_as_by_torch() -> None:
    x, t, weight = torch.ones(2, 3), torch.tensor([0, 2]), torch.ones(3, dtype=torch.float64)
    words = []
    for loss in (cross_entropy, torch.nn.functional.cross_entropy):
        with pytest.raises(RuntimeError) as caught:
            loss(x, t, weight)
        words.append(str(caught.value))
    assert words[0] == words[1]


X, T, U = (
    torch.linspace(a, b, 20, dtype=torch.float64).sin().view(4, 5) for a, b in ((0, 9), (5, 1), (2, 30))
)
CLASSES, UNIT = torch.tensor([1, 0, 4, 2]), U.square() * 0.9 + 0.05
LOSSES: dict[str, tuple[Any, ...]] = {
    "l1_loss": (T,),
    "mse_loss": (T,),
    "smooth_l1_loss": (T,),
    "huber_loss": (T,),
    "kl_div": (UNIT,),
    "cross_entropy": (CLASSES,),
    "nll_loss": (CLASSES,),
    "poisson_nll_loss": (UNIT,),
    "gaussian_nll_loss": (T, UNIT),
    "binary_cross_entropy_with_logits": (UNIT,),
    "hinge_embedding_loss": (T.sign(),),
    "multilabel_margin_loss": (CLASSES.unsqueeze(1).expand(4, 5).contiguous(),),
    "multi_margin_loss": (CLASSES,),
    "multilabel_soft_margin_loss": (UNIT,),
    "soft_margin_loss": (T.sign(),),
    "cosine_embedding_loss": (T, U[:, 0].sign()),
    "margin_ranking_loss": (T, U.sign()),
    "triplet_margin_loss": (T, U),
    "triplet_margin_with_distance_loss": (T, U),
    "linear_cross_entropy": (U, CLASSES % 4),
    "ctc_loss": (CLASSES.view(1, 4), (4,), (4,)),
}


def alike(name: str, x: Tensor, *arguments: Any, **options: Any) -> None:
    """Value and gradient are torch's, or the error is."""
    expected, seen = (
        outcome(getattr(functions, name), x, arguments, options) for functions in (F, functional)
    )
    if isinstance(expected, str):
        assert seen == expected
    else:
        torch.testing.assert_close(seen, expected)


def outcome(loss: Any, x: Tensor, arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    leaf = x.clone().requires_grad_(x.is_floating_point())
    try:
        value = loss(leaf, *arguments, **options)
    except (RuntimeError, ValueError) as error:
        return repr(error)
    return value.detach(), *torch.autograd.grad(value.sum(), leaf)


@pytest.mark.filterwarnings("ignore:reduction=.elementwise_mean. is deprecated")
@pytest.mark.parametrize("reduction", ["elementwise_mean", "average"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_deprecated_reduction_is_the_mean_and_an_unknown_one_is_refused(name: str, reduction: str) -> None:
    x = X.log_softmax(1) if name == "ctc_loss" else X
    alike(name, x, *LOSSES[name], reduction=reduction)
    if "cross_entropy" in name and "binary" not in name:
        alike(name, x, *LOSSES[name], reduction=reduction, label_smoothing=0.2)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize(
    "name",
    ["mse_loss", "l1_loss", "smooth_l1_loss", "poisson_nll_loss", "margin_ranking_loss", "cosine_similarity"],
)
def test_targets_of_another_dtype(name: str, dtype: torch.dtype) -> None:
    target = (T > 0).to(dtype)
    alike(name, X, *((T, target) if name == "margin_ranking_loss" else (target,)))


def test_the_soft_margin_loss_is_in_the_dtype_of_the_scores() -> None:
    alike("soft_margin_loss", X.float(), T.sign())
    alike("soft_margin_loss", X[:1], T.sign())
    x = X.clone().requires_grad_()
    # torch negates a target without a sign in the backward pass, and its gradient is no number
    t = T.ge(0).double()
    (grad_x,) = torch.autograd.grad(soft_margin_loss(x, t.byte()), x)
    torch.testing.assert_close(grad_x, -t * torch.sigmoid(-t * X) / 20)


def test_a_vector_that_is_broadcast_has_the_length_of_its_own() -> None:
    alike("cosine_embedding_loss", X[:, :1], T, T[:, 0].sign(), margin=-0.9)


def test_whole_numbers_have_the_loss_of_torch() -> None:
    a, b, t = torch.arange(4), torch.arange(4).flip(0), torch.tensor([1, -1, 1, -1])
    torch.testing.assert_close(functional.margin_ranking_loss(a, b, t), F.margin_ranking_loss(a, b, t))


def test_weights_of_binary_cross_entropy_have_tangents() -> None:
    x, t, w, v = torch.rand(4, 2, 3, dtype=torch.float64).unbind()
    found = []
    for place in (functional, F):

        def loss(w: Tensor, v: Tensor, place: Any = place) -> Tensor:
            return place.binary_cross_entropy_with_logits(x, t, w, pos_weight=v)

        found.append(torch.func.jvp(loss, (w, v), (v, w))[1])
    torch.testing.assert_close(found[0], found[1])
    # the loss is linear in its weights; torch's tangent is 0
    seen = torch.func.jvp(lambda w: functional.binary_cross_entropy(x, t, w), (w,), (v,))[1]
    torch.testing.assert_close(seen, F.binary_cross_entropy(x, t, v))


def test_a_gradient_lies_as_the_logits_and_not_as_the_targets() -> None:
    x, t = torch.randn(3, 4, requires_grad=True), torch.rand(4, 3).T
    loss = functional.multilabel_soft_margin_loss(x, t)
    assert torch.autograd.grad(loss, x)[0].is_contiguous()
