r"""One step of the descent as a graph of tensors: forward pass, backward pass by the tape, and update.

    (theta, b, rest, x, t, eta) -> (cost, theta', b')

with b the momenta, `rest` what does not learn, (x, t) one example and eta the rate of each parameter group.
Nothing in it is left to autograd, and nothing is updated in place.
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from torch_backprop.algorithm import Backpropagation, arguments
from torch_backprop.optim.descend.settings import Refused, allow
from torch_backprop.optim.descent import Descent
from torch_backprop.optim.update import clipped, decayed

aten: Any = torch.ops.aten
log = logging.getLogger("torch._subclasses.fake_tensor")
# What PyTorch leaves whole, and is a few sums and elementwise operators.
WHOLE = (
    aten._softmax,
    aten._log_softmax,
    aten.gelu,
    aten.native_layer_norm,
    aten.native_group_norm,
    aten.native_batch_norm,
    aten._native_batch_norm_legit,
    aten._native_batch_norm_legit_no_training,
    aten.leaky_relu,
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten.elu,
    aten.linalg_vector_norm,
    aten.softplus,
    aten.hardtanh,
    aten.hardsigmoid,
    aten.hardswish,
    aten.celu,
    aten.mish,
    aten.silu,
    aten.log_sigmoid_forward,
    aten.smooth_l1_loss,
    aten.huber_loss,
    aten.mse_loss,
)


@dataclass(frozen=True)
class StepGraph:
    """A traced step.

    Attributes:
        module: a graph of ATen's functional operators, with inputs for the tensors below, x, t and the rates.
        state: the parameters that learn, and their momenta after them.
        fixed: the other parameters, and the buffers.
        groups: the number of rates.
        constants: the nodes that depend on no input, and their tensors.
    """

    module: fx.GraphModule
    state: list[Tensor]
    fixed: list[Tensor]
    groups: int
    constants: dict[fx.Node, Tensor]


def trace_step(optimizer: Descent, model: nn.Module, loss: Any, x: Tensor, t: Tensor) -> StepGraph:
    """Trace the step on examples like `x` and `t`, which have a dimension of rows.

    Raises:
        Refused: if something in it cannot be traced, draws random numbers, or changes a buffer or attribute.
    """
    step, state, fixed = pure_step(optimizer, model, loss)
    rates = [torch.zeros((), dtype=torch.float64, device=x.device)] * len(optimizer.param_groups)
    given = [each.detach() for each in (*state, *fixed, x, t, *rates)]
    # Whatever a model does that a graph cannot hold, another path can do: no reason to log it as an error.
    log.disabled = True
    try:
        with _attributes_kept(model, loss):
            traced = make_fx(step, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
        _check(traced.graph)
        table: Any = {**core_aten_decompositions(), **get_decompositions(WHOLE)}
        functional = torch.func.functionalize(traced)
        traced = make_fx(functional, table, tracing_mode="fake", _allow_non_fake_inputs=True)(*given)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the step cannot be traced ({type(error).__name__}: {error})") from error
    finally:
        log.disabled = False
    traced.graph.eliminate_dead_code()
    traced.recompile()
    changed = any(node.target is aten.copy_.default for node in traced.graph.nodes)
    allow(not changed, "it changes no buffers")
    return StepGraph(traced, state, fixed, len(rates), _constants(traced))


def pure_step(
    optimizer: Descent, model: nn.Module, loss: Any
) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor], list[Tensor]]:
    """Return the step as a function of tensors, with the state and the other tensors that it takes."""
    learns = arguments.learning(model, loss, optimizer)
    rest = arguments.constants(model, loss, learns)
    place = {theta: at for at, group in enumerate(optimizer.param_groups) for theta in group["params"]}
    groups = {name: optimizer.param_groups[place[theta]] for name, theta in learns.items()}
    moving = [name for name, group in groups.items() if group["momentum"]]
    momenta = [optimizer.state.get(learns[name], {}).get("momentum_buffer") for name in moving]
    allow(all(b is not None for b in momenta), "it goes on with momenta, and there are none yet")
    sizes = [len(learns), len(moving), len(rest), 2, len(optimizer.param_groups)]

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        parts = iter(tensors)
        thetas, buffers, others, (x, t), rates = (list(islice(parts, size)) for size in sizes)
        watched = dict(zip(learns, thetas, strict=True))
        algorithm = Backpropagation(model, loss)
        cost, gradients = algorithm.pull_back(watched, dict(zip(rest, others, strict=True)), x, t)
        if optimizer.max_norm is not None:
            bounded = clipped({watched[name]: g for name, g in gradients.items()}, optimizer.max_norm)
            gradients = {name: bounded[watched[name]] for name in gradients}
        momentum = dict(zip(moving, buffers, strict=True))
        for name, gradient in gradients.items():
            moved = updated(watched[name], gradient, groups[name], momentum, name)
            theta = watched[name]
            # Cast, for beside a parameter of no dimensions the rate is no mere scalar: both are float64 then.
            watched[name] = (theta - rates[place[learns[name]]] * moved).to(theta.dtype)
        return cost, *watched.values(), *momentum.values()

    return step, [*learns.values(), *momenta], list(rest.values())


def updated(
    theta: Tensor, gradient: Tensor, group: Mapping[str, Any], momentum: dict[str, Tensor], name: str
) -> Tensor:
    """Return the direction of an update, and replace the momentum; see `torch_backprop.optim.update`."""
    gradient = decayed(theta, gradient, group)
    if name not in momentum:
        return gradient
    momentum[name] = momentum[name] * group["momentum"] + gradient * (1 - group["dampening"])
    return gradient + momentum[name] * group["momentum"] if group["nesterov"] else momentum[name]


@contextmanager
def _attributes_kept(*parts: Any) -> Iterator[None]:
    """Within, no module may set an attribute, or fill one: a graph would not, nor see what is left there."""
    modules = [each for part in parts if isinstance(part, nn.Module) for each in part.modules()]
    kept = [dict(vars(module)) for module in modules]
    holds = [
        {name: copy(value) for name, value in own.items() if isinstance(value, (list, dict))} for own in kept
    ]
    yield
    for module, own, held in zip(modules, kept, holds, strict=True):
        now = dict(vars(module))
        vars(module).clear()
        vars(module).update(own)
        other = [name for name in own | now if own.get(name) is not now.get(name)]
        other += [name for name, before in held.items() if _refilled(before, own[name])]
        # What begins with an underscore is torch's, as the list of a recurrent layer's weights is.
        names = [name for name in other if not name.startswith("_")]
        allow(not names, f"it sets no attributes, as {type(module).__name__} does {names[:1]}")


def _refilled(before: Any, container: Any) -> bool:
    """Whether a list or dict holds other things than its copy `before`; if it does, those are put back."""
    same = len(before) == len(container) and all(map(operator.is_, _elements(before), _elements(container)))
    if not same:
        container.clear()
        (container.update if isinstance(container, dict) else container.extend)(before)
    return not same


def _elements(container: Any) -> list[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _check(graph: fx.Graph) -> None:
    for node in graph.nodes:
        drawn = isinstance(node.target, torch._ops.OpOverload) and (
            torch.Tag.nondeterministic_seeded in node.target.tags
            # Its tag is for a dropout, which no layer here asks it for.
            and node.target is not aten._scaled_dot_product_flash_attention_for_cpu.default
        )
        allow(not drawn, f"it draws no random numbers, as {node.target} does")


def _constants(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Return the tensors that the step holds, and those that it makes from nothing, as places are."""
    held = {node: getattr(traced, node.target) for node in traced.graph.nodes if node.op == "get_attr"}
    made: dict[fx.Node, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "call_function" and all(each in made for each in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), made.__getitem__)
            made[node] = node.target(*args, **kwargs)
    return held | {node: value for node, value in made.items() if isinstance(value, Tensor)}
