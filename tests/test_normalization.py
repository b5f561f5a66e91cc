"""Normalizations beyond a single call: buffers over many steps, lazy layers, parametrizations, odd dtypes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks.comparison import Comparison, equal
from torch import Tensor
from torch.nn.utils.parametrizations import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from torch_backprop import functional, nn


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def trained(layer: Any, call: Callable[..., Tensor], steps: int = 3) -> list[Any]:
    """Outputs, gradients and buffers over a few steps of training and one of evaluation."""
    seen: list[Any] = []
    for step in range(steps):
        x = drawn(4, 3, 5, seed=step).requires_grad_()
        y = call(layer, x)
        seen.append((y, torch.autograd.grad(y, (x, *layer.parameters()), drawn(4, 3, 5, seed=9))))
        seen.append({name: buffer.clone() for name, buffer in layer.named_buffers()})
    return [*seen, layer.eval()(drawn(4, 3, 5))]


def plainly(layer: Any, x: Tensor) -> Tensor:
    return layer(x)


def checkpointed(layer: Any, x: Tensor) -> Any:
    return checkpoint(layer, x, use_reentrant=False)


def twice(layer: Any, x: Tensor) -> Tensor:
    return layer(layer(x))


@pytest.mark.parametrize("call", [plainly, checkpointed, twice])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ["BatchNorm1d", "InstanceNorm1d"])
def test_buffers_move_as_those_of_torch(name: str, momentum: float | None, call: Any) -> None:
    def layer(source: Any) -> Any:
        return getattr(source, name)(3, affine=True, track_running_stats=True, momentum=momentum).double()

    equal(trained(layer(nn), call), trained(layer(torch.nn), call), name)


def test_buffers_move_once_in_a_compiled_model() -> None:
    layers = [source.BatchNorm1d(3).double() for source in (nn, torch.nn)]
    compiled = torch.compile(layers[0], fullgraph=True, backend="aot_eager")
    seen = trained(layers[0], lambda _, x: compiled(x))
    equal(seen, trained(layers[1], plainly), "compiled")


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kind", ["BatchNorm", "InstanceNorm"])
def test_a_lazy_layer_becomes_ours_with_its_first_input(kind: str, dimensions: int) -> None:
    name, shape = f"Lazy{kind}{dimensions}d", (4, 3, *(2 for _ in range(dimensions)))
    ours, builtin = (getattr(source, name)(dtype=torch.float64) for source in (nn, torch.nn))
    x = drawn(*shape).requires_grad_()
    outputs = ours(x), builtin(x)
    assert type(ours) is getattr(nn, name.removeprefix("Lazy"))
    assert "Rule" in str(outputs[0].grad_fn) or "Rule" in str(outputs[0].grad_fn.next_functions[0][0])
    seen, expected = ((y, torch.autograd.grad(y, x, drawn(*shape, seed=1))) for y in outputs)
    equal(seen, expected, name)
    equal(dict(ours.state_dict()), dict(builtin.state_dict()), name)


def test_a_lazy_layer_loads_a_state_before_its_first_input() -> None:
    state = torch.nn.BatchNorm1d(3).state_dict()
    layer = nn.LazyBatchNorm1d()
    layer.load_state_dict(state)
    copied = torch.load(file_of(layer), weights_only=False)
    assert copied(torch.randn(2, 3)).shape == (2, 3)
    assert type(copied) is nn.BatchNorm1d


def file_of(layer: Any) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("parametrization", [weight_norm, spectral_norm])
@pytest.mark.parametrize(
    ("name", "arguments", "shape"), [("Linear", (5, 3), (4, 5)), ("LayerNorm", ((3, 5),), (4, 3, 5))]
)
def test_parametrizations_of_weights(parametrization: Any, name: str, arguments: Any, shape: Any) -> None:
    seen = []
    for source in (nn, torch.nn):
        torch.manual_seed(0)
        layer = parametrization(getattr(source, name)(*arguments).double())
        x = drawn(*shape).requires_grad_()
        layer(x)
        y = layer(x)
        gradients = torch.autograd.grad(y.square().sum(), (x, *layer.parameters()), create_graph=True)
        second = torch.autograd.grad(
            gradients[0].square().sum(), tuple(layer.parameters()), allow_unused=True
        )
        seen.append((y, gradients, second, dict(layer.state_dict())))
    equal(seen[0], seen[1], f"{parametrization.__name__}({name})")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm", "running"])
def test_float32_weights_of_inputs_in_half_precision(name: str, dtype: torch.dtype) -> None:
    def call(source: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if name == "layer_norm":
            return source.layer_norm(x, (6,), w, b)
        if name == "group_norm":
            return source.group_norm(x, 2, w, b)
        running = torch.zeros(6), torch.ones(6)
        return source.batch_norm(x, *running, w, b, training=name == "batch_norm")

    seen = []
    for source in (functional, torch.nn.functional):
        leaves = drawn(8, 6).to(dtype), drawn(6, seed=1).float(), drawn(6, seed=2).float()
        leaves = tuple(leaf.requires_grad_() for leaf in leaves)
        y = call(source, *leaves)
        seen.append((y, torch.autograd.grad(y, leaves, drawn(8, 6, seed=3).to(dtype))))
    # torch rounds some of the gradients by float32 weights to half precision on the way
    equal(seen[0], seen[1], name, Comparison(8, torch.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [
        ("batch_norm", ((1, 3), None, None), {"training": True}),
        ("batch_norm", ((4, 3), None, None), {"training": True, "eps": 0.0}),
        ("batch_norm", ((4, 3), None, None), {"eps": -1.0}),
        ("batch_norm", ((4, 3), None, None), {}),
        ("batch_norm", ((4, 3), (2,), (2,)), {"training": True}),
        ("batch_norm", ((4, 3), (3,), (3,), (2,)), {}),
        ("batch_norm", ((4,), None, None), {"training": True}),
        ("instance_norm", ((2, 3, 1),), {}),
        ("instance_norm", ((2, 3, 2),), {"use_input_stats": False}),
        ("instance_norm", ((2, 3, 2), None, None, (2,)), {}),
        ("layer_norm", ((2, 3), [2]), {}),
        ("layer_norm", ((2, 3), []), {}),
        ("layer_norm", ((2, 3), [3], (2,)), {}),
        ("rms_norm", ((2, 3), [2]), {}),
        ("rms_norm", ((2, 3), []), {}),
        ("rms_norm", ((2, 3), [3], (2,)), {}),
        ("group_norm", ((2, 3), 2), {}),
        ("group_norm", ((2,), 1), {}),
        ("group_norm", ((1, 3), 3), {}),
        ("group_norm", ((2, 4), 2, (3,)), {}),
        ("local_response_norm", ((2, 3), 2), {}),
    ],
)
def test_errors_are_those_of_torch(name: str, arguments: Any, options: Any) -> None:
    tensors = [torch.ones(a) if isinstance(a, tuple) else a for a in arguments]
    raised = []
    for source in (torch.nn.functional, functional):
        with pytest.raises((RuntimeError, ValueError, IndexError)) as caught:
            getattr(source, name)(*tensors, **options)
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics_have_no_gradient_as_in_torch(name: str, training: bool) -> None:
    x, mean, var = torch.randn(2, 3, 4), torch.zeros(3, requires_grad=True), torch.ones(3)
    for source in (torch.nn.functional, functional):
        function = getattr(source, name)
        with pytest.raises(RuntimeError, match="not differentiable with respect to argument 'running_mean'"):
            function(x, mean, var, None, None, training)
        with torch.no_grad():
            function(x, mean.detach(), var, None, None, training)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"])
def test_weights_with_gaps_and_repetitions(name: str) -> None:
    def call(source: Any, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        if name in ("layer_norm", "rms_norm"):
            return getattr(source, name)(x.mT, (4,), w, *([b] if name == "layer_norm" else []))
        if name == "group_norm":
            return source.group_norm(x, 2, w, b)
        return getattr(source, name)(x, None, None, w, b, True)

    columns, one = drawn(4, 3, seed=1), drawn(1, seed=2)
    for w, b in ((columns[:, 0], columns[:, 2]), (one.expand(4), one.expand(4))):
        seen, expected = (call(source, drawn(2, 4, 3), w, b) for source in (functional, torch.nn.functional))
        equal(seen, expected, name)


@pytest.mark.parametrize("name", ["LocalResponseNorm", "CrossMapLRN2d"])
def test_without_a_power_nothing_is_divided(name: str) -> None:
    x = torch.zeros(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    y = getattr(nn, name)(3, alpha=0.5, beta=0.0, k=0.0)(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    equal((y, gradient), (torch.zeros_like(x), torch.ones_like(x)), name)
