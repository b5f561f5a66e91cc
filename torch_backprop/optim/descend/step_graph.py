r"""One step of the descent as a graph of tensors: forward pass, backward pass by the tape, and update.

    (theta, b, rest, x, t, eta) -> (cost, theta', b')

with b the momenta, `rest` what does not learn, (x, t) one example and eta the rate of each parameter group.
Nothing in it is left to autograd, and nothing is updated in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from torch_backprop.algorithm import Tape
from torch_backprop.optim.descend.settings import Refused, allow
from torch_backprop.optim.update import clipped, decayed

if TYPE_CHECKING:
    from torch_backprop.optim.descent import Descent

aten: Any = torch.ops.aten
# What PyTorch leaves whole, and is a few sums and elementwise operators.
WHOLE = (
    aten._softmax,
    aten._log_softmax,
    aten.gelu,
    aten.native_layer_norm,
    aten.native_group_norm,
)


class Cost(nn.Module):
    """The cost of examples; a module, so that what the loss holds has a name too."""

    def __init__(self, model: nn.Module, loss: Any) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the loss of the model's output."""
        return self.loss(self.model(x), t)


@dataclass(frozen=True)
class StepGraph:
    """A traced step.

    Attributes:
        graph: of ATen's operators, all functional, with an input for each tensor below, x, t and rate.
        state: the parameters that learn, and their momenta after them.
        fixed: the other parameters, and the buffers.
        constants: the nodes that depend on no input, and their tensors.
    """

    graph: fx.Graph
    state: list[Tensor]
    fixed: list[Tensor]
    constants: dict[fx.Node, Tensor]


def trace_step(optimizer: Descent, model: nn.Module, loss: Any, x: Tensor, t: Tensor) -> StepGraph:
    """Trace the step on examples like `x` and `t`, which have a dimension of rows.

    Raises:
        Refused: if something in it cannot be traced, draws random numbers or changes a buffer.
    """
    cost = Cost(model, loss)
    step, state, fixed = pure_step(optimizer, cost)
    rates = [torch.zeros((), dtype=torch.float64)] * len(optimizer.param_groups)
    arguments = (*state, *fixed, x, t, *rates)
    # Whatever a model does that a graph cannot hold, another path can do.
    try:
        traced = make_fx(step, tracing_mode="fake")(*(each.detach() for each in arguments))
        _check(traced.graph)
        table = {**torch._decomp.core_aten_decompositions(), **torch._decomp.get_decompositions(WHOLE)}
        functional = torch.func.functionalize(traced)
        traced = make_fx(functional, table, tracing_mode="fake")(*(each.detach() for each in arguments))
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the step cannot be traced ({type(error).__name__}: {error})") from error
    traced.graph.eliminate_dead_code()
    changed = any(node.target is aten.copy_.default for node in traced.graph.nodes)
    allow(not changed, "it changes no buffers")
    return StepGraph(traced.graph, state, fixed, _constants(traced))


def pure_step(optimizer: Descent, cost: Cost) -> tuple[Any, list[Tensor], list[Tensor]]:
    """Return the step as a function of tensors, with the state and the other tensors that it takes."""
    owners = {theta: group for group in optimizer.param_groups for theta in group["params"]}
    named = dict(cost.named_parameters())
    learning = {name: theta for name, theta in named.items() if theta.requires_grad and theta in owners}
    rest = {name: value for name, value in (named | dict(cost.named_buffers())).items() if name not in learning}
    groups = [owners[theta] for theta in learning.values()]
    places = [next(at for at, each in enumerate(optimizer.param_groups) if each is group) for group in groups]
    moving = [theta for theta, group in zip(learning.values(), groups, strict=True) if group["momentum"]]
    momenta = [optimizer.state.get(theta, {}).get("momentum_buffer") for theta in moving]
    allow(all(b is not None for b in momenta), "it goes on with momenta, and there are none yet")
    state = [*learning.values(), *momenta]

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        thetas, tensors = tensors[: len(learning)], tensors[len(learning) :]
        buffers, tensors = iter(tensors[: len(moving)]), tensors[len(moving) :]
        others, (x, t, *rates) = tensors[: len(rest)], tensors[len(rest) :]
        watched = dict(zip(learning, thetas, strict=True))
        with Tape() as tape:
            for name, theta in watched.items():
                tape.watch(name, theta, is_parameter=True)
            value = torch.func.functional_call(cost, watched | dict(zip(rest, others, strict=True)), (x, t))
        with torch.no_grad():
            gradients = dict(tape.pull_back(value))
            found = [gradients.get(name) for name in learning]
            if optimizer.max_norm is not None:
                bounded = clipped({each: each for each in found if each is not None}, optimizer.max_norm)
                found = [each if each is None else bounded[each] for each in found]
            new = [
                updated(theta, gradient, group, next(buffers) if group["momentum"] else None, rates[place])
                for theta, gradient, group, place in zip(thetas, found, groups, places, strict=True)
            ]
            return value, *(theta for theta, _ in new), *(b for _, b in new if b is not None)

    return step, state, list(rest.values())


def updated(
    theta: Tensor, gradient: Tensor | None, group: Any, buffer: Tensor | None, rate: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Return a parameter and its momentum after an update; see `torch_backprop.optim.update`."""
    if gradient is None:
        return theta, buffer
    gradient = decayed(theta, gradient, group)
    if buffer is not None:
        buffer = buffer * group["momentum"] + gradient * (1 - group["dampening"])
        gradient = gradient + buffer * group["momentum"] if group["nesterov"] else buffer
    return theta - rate * gradient, buffer


def _check(graph: fx.Graph) -> None:
    for node in graph.nodes:
        drawn = isinstance(node.target, torch._ops.OpOverload) and (
            torch.Tag.nondeterministic_seeded in node.target.tags
        )
        allow(not drawn, f"it draws no random numbers, as {node.target} does")


def _constants(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Compute what depends on no input, such as the places of windows, once and for all."""
    found: dict[fx.Node, Any] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            found[node] = getattr(traced, node.target)
        elif node.op == "call_function" and all(each in found for each in node.all_input_nodes):
            args, kwargs = fx.map_arg((node.args, node.kwargs), found.__getitem__)
            found[node] = node.target(*args, **kwargs)
    return {node: value for node, value in found.items() if isinstance(value, Tensor)}
