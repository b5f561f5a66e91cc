"""Forward pass, cost, backward pass and update as one pure function of tensors.

Nothing in it is autograd: traced, it is one graph of tensor operators, which runs where there is no autograd,
and without this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, overrides
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import Module
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _disable_current_modes

from torch_backprop.algorithm import arguments
from torch_backprop.algorithm.arguments import Loss

Tensors = dict[str, Tensor]
SETTINGS = {
    "lr", "momentum", "dampening", "nesterov", "weight_decay", "maximize", "params", "foreach", "fused",
    "differentiable", "initial_lr", "eta0",
}  # fmt: skip
"""Settings of a parameter group that are understood, or change no number."""
HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_update_hooks")
RATE = "its lr changes with the updates: give it a number, and change state['lr'] between the steps"
REFUSED = "optimizer={} cannot become a pure function of tensors: {}."


class Algorithm(Protocol):
    """What a step asks of :class:`torch_backprop.Backpropagation`, which makes it."""

    model: Module
    loss: Loss

    def pull_back(
        self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], inputs: Any, targets: Any
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cost and gradients for these parameters."""
        ...


class TrainingStep(Module):
    """A step of training as a pure function of tensors, which ``torch.export.export`` accepts whole.

        cost, parameters, state = step(parameters, state, inputs, targets)

    The state holds the optimizer's momentum under ``"momentum"``; under ``"buffers"`` those of model and
    loss, with the parameters that do not learn; and under ``"lr"`` the learning rate of each parameter group,
    by its number. :meth:`start` returns parameters and state as they are now. The rates may be changed from
    step to step, as by ``state["lr"]["0"].fill_(0.01)``; the other settings of the optimizer are constants
    of the function, as they were when it was made.

    Args:
        algorithm: the model and the loss.
        optimizer: ``torch.optim.SGD``, or one of this package, over parameters of the model.

    Raises:
        ValueError: the optimizer does something else than gradient descent with momentum.

    >>> import torch, torch_backprop
    >>> model = torch_backprop.nn.Linear(2, 1)
    >>> algorithm = torch_backprop.Backpropagation(model, torch_backprop.functional.mse_loss)
    >>> step = algorithm.training_step(torch.optim.SGD(model.parameters(), lr=0.1))
    >>> parameters, state = step.start()
    >>> batch = torch.ones(3, 2), torch.zeros(3, 1)
    >>> exported = torch.export.export(step, (parameters, state, *batch))
    >>> cost, parameters, state = exported.module()(parameters, state, *batch)
    """

    def __init__(self, algorithm: Algorithm, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        arguments.check_types(algorithm.model, algorithm.loss, optimizer)
        self._learning = arguments.learning(algorithm.model, algorithm.loss, optimizer)
        self._settings = _settings(optimizer, self._learning)
        self._momentum = _momenta(optimizer, self._learning, self._settings)
        # One of this package then divides by the number of examples.
        self._summed = getattr(optimizer, "reduction", "mean") == "sum"
        # float64 and on the CPU: a scalar of these goes with tensors of any dtype, on any device
        rates = enumerate(float(group["lr"]) for group in optimizer.param_groups)
        self._rates = {str(group): torch.tensor(lr, dtype=torch.float64) for group, lr in rates}
        # not as a submodule, whose parameters would be exported beside those given
        self._algorithm = (algorithm,)

    def start(self) -> tuple[Tensors, dict[str, Tensors]]:
        """Copies of the parameters and of the state, as they are now."""
        algorithm = self._algorithm[0]
        buffers = arguments.constants(algorithm.model, algorithm.loss, self._learning)
        state = {"momentum": self._momentum, "buffers": buffers, "lr": self._rates}
        return pytree.tree_map(lambda x: x.detach().clone(), (self._learning, state))

    def forward(
        self, parameters: Tensors, state: dict[str, Tensors], inputs: Any, targets: Any
    ) -> tuple[Tensor, Tensors, dict[str, Tensors]]:
        """Returns the cost, and parameters and state after the update; changes nothing that it is given."""
        given = (parameters, state, inputs, targets)
        return self._traced(given)(*given) if torch.compiler.is_compiling() else self._compute(*given)

    def trace(self, parameters: Tensors, state: dict[str, Tensors], inputs: Any, targets: Any) -> Module:
        """The same as a graph of tensor operators for arguments of these shapes, to be run or compiled."""

        def compute(parameters: Any, state: Any, inputs: Any, targets: Any) -> Any:
            return self._compute(parameters, state, inputs, targets)

        tracer = make_fx(compute, tracing_mode="fake", _allow_non_fake_inputs=True)
        return tracer(parameters, state, inputs, targets)

    def _compute(
        self, parameters: Tensors, state: dict[str, Tensors], inputs: Any, targets: Any
    ) -> tuple[Tensor, Tensors, dict[str, Tensors]]:
        buffers = {name: buffer.clone() for name, buffer in state["buffers"].items()}
        cost, gradients = self._algorithm[0].pull_back(parameters, buffers, inputs, targets)
        moved, momentum = dict(parameters), dict(state["momentum"])
        for name, gradient in gradients.items():
            settings, theta = self._settings[name], parameters[name]
            mean = gradient / arguments.examples(inputs) if self._summed else gradient
            direction = _direction(name, theta, mean, settings, momentum)
            # Cast, for beside a parameter of no dimensions the rate is no mere scalar: both are float64 then.
            moved[name] = (theta - state["lr"][settings["group"]] * direction).to(theta.dtype)
        return cost, moved, {"momentum": momentum, "buffers": buffers, "lr": dict(state["lr"])}

    def _traced(self, given: tuple[Any, ...]) -> Any:
        """The graph for an export under way: its tensors are fake, and the tape would hide what it does."""
        flat, structure = pytree.tree_flatten(given)
        results: Any = None

        def compute(*leaves: Tensor) -> list[Tensor]:
            nonlocal results
            output, results = pytree.tree_flatten(self._compute(*pytree.tree_unflatten(leaves, structure)))
            return output

        with _unseen(), next(x.fake_mode for x in flat if isinstance(x, FakeTensor)):
            graph = make_fx(compute)(*flat)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        return lambda *_: pytree.tree_unflatten(graph(*flat), results)


@contextmanager
def _unseen() -> Iterator[None]:
    """Within, an export under way records nothing, not even how grad mode changes."""
    stack = overrides._get_current_function_mode_stack()
    for _ in stack:
        overrides._pop_mode()
    kept = [mode for mode in stack if not type(mode).__module__.startswith("torch.")]
    try:
        with _disable_current_modes(), ExitStack() as entered:
            for mode in kept:
                entered.enter_context(mode)
            yield
    finally:
        for mode in stack:
            overrides._push_mode(mode)


def _settings(optimizer: torch.optim.Optimizer, learning: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The settings of each parameter."""
    name = type(optimizer).__name__
    if reason := _why_not(optimizer):
        raise ValueError(REFUSED.format(name, reason))
    found = {}
    for number, group in enumerate(optimizer.param_groups):
        unknown = [key for key, value in group.items() if key not in SETTINGS and value]
        if unknown:
            raise ValueError(REFUSED.format(name, f"it sets {unknown[0]!r}"))
        settings = {**group, "group": str(number)}
        found |= {key: settings for key, p in learning.items() if any(p is q for q in group["params"])}
    return found


def _why_not(optimizer: Any) -> str:
    """What it does beside gradient descent with momentum at rates that stay, if it does."""
    ours = hasattr(optimizer, "why_not_one_by_one")
    # By its step, for a class derived from SGD may have another.
    if not ours and inspect.unwrap(type(optimizer).step) is not inspect.unwrap(torch.optim.SGD.step):
        return "only gradient descent can, as torch.optim.SGD does it"
    if ours and (reason := optimizer.why_not_one_by_one()):
        return reason
    if ours and (optimizer.scheduled or any(optimizer._rates)):
        return RATE
    hooked = any(getattr(optimizer, name, None) for name in HOOKS)
    return "its hooks on steps and updates would not be called" if hooked else ""


def _momenta(
    optimizer: torch.optim.Optimizer,
    learning: Mapping[str, Tensor],
    settings: Mapping[str, Mapping[str, Any]],
) -> Tensors:
    """The momentum buffers; zeros before the first update, which then is torch's first one."""
    momenta = {}
    for name, parameter in learning.items():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if settings[name]["momentum"] and buffer is None and settings[name]["dampening"]:
            what = "its first gradient is not dampened: make one update first, or set dampening=0"
            raise ValueError(REFUSED.format(type(optimizer).__name__, what))
        if settings[name]["momentum"]:
            momenta[name] = torch.zeros_like(parameter) if buffer is None else buffer
    return momenta


def _direction(
    name: str, theta: Tensor, gradient: Tensor, settings: Mapping[str, Any], momentum: Tensors
) -> Tensor:
    """What the parameter moves against; torch.optim.SGD's formulas, and its momentum in ``momentum``."""
    g = -gradient if settings["maximize"] else gradient
    if settings["weight_decay"]:
        g = g + settings["weight_decay"] * theta
    if settings["momentum"]:
        momentum[name] = settings["momentum"] * momentum[name] + (1 - settings["dampening"]) * g
        g = g + settings["momentum"] * momentum[name] if settings["nesterov"] else momentum[name]
    return g
