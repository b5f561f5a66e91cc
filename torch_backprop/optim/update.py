r"""Updates of the parameters from a mean gradient, by the formulas of torch.optim.SGD.

With mean gradient g, learning rate eta, weight decay lambda, momentum mu and dampening tau:

    g <- g + lambda theta        b <- mu b + (1 - tau) g   (the first b is g)
    d <- b, or g + mu b with Nesterov's momentum            theta <- theta - eta d

Polyak (1964) for b; Sutskever et al. (2013), ICML, for Nesterov's form.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.hooks import RemovableHandle

from torch_backprop.optim.arguments import Rate, check_group, check_max_norm, plain, require
from torch_backprop.optim.open_group import Gradients

# What belongs to a step, or to the Trainer that drives it.
TRANSIENT = ("_walk", "_transaction", "_quiet", "_source")


class Updater(torch.optim.Optimizer):
    """Parameter groups with their settings, and the update of them all from one set of gradients.

    The arguments are those of `Descent`; `updates` counts the updates made.
    """

    # Whether `rate` says each group's lr, from its initial one in "eta0".
    scheduled = False

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], max_norm: float | None) -> None:
        check_max_norm(max_norm)
        self.max_norm = plain(max_norm)
        self.updates = 0
        self._rates: list[Rate | None] = []
        self._update_hooks: OrderedDict[int, Callable[[Any], None]] = OrderedDict()
        self._update_pre_hooks: OrderedDict[int, Callable[[Any, Gradients], None]] = OrderedDict()
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own; a callable `lr` is called before each update.

        Raises:
            ValueError: if a setting is out of its range.
        """
        settings: dict[str, Any] = {**self.defaults, **param_group}
        check_group(settings)
        # The group holds the present number, for repr, for schedulers and for a state dict without functions.
        lr: Any = settings["lr"]
        function: Any = lr if callable(lr) else None
        if function:
            require(not self.scheduled, "lr", function, "a number where the optimizer has a schedule")
            settings["lr"] = function(self.updates)
        super().add_param_group({**param_group, **{name: plain(settings[name]) for name in self.defaults}})
        self._rates.append(function)
        if self.scheduled:
            self.param_groups[-1]["eta0"] = float(settings["lr"])

    @staticmethod
    def profile_hook_step(func: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `step` as torch does, in its hooks and a name for the profiler, where there are any.

        The name alone takes as long as the rest of an update of a small model.
        """
        watched = torch.optim.Optimizer.profile_hook_step(func)

        @wraps(func)
        def step(self: Updater, *args: Any, **kwargs: Any) -> Any:
            own = self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
            hooked = own or _global_optimizer_pre_hooks or _global_optimizer_post_hooks
            return (watched if hooked or _profiler_enabled() else func)(self, *args, **kwargs)

        return step

    def register_update_hook(self, hook: Callable[[Any], None]) -> RemovableHandle:
        """Call ``hook(optimizer)`` after every update; ``.remove()`` on the returned handle ends that."""
        return _register(self._update_hooks, hook)

    def register_update_pre_hook(self, hook: Callable[[Any, Gradients], None]) -> RemovableHandle:
        """Call ``hook(optimizer, gradients)`` before every update, with the group's mean gradients."""
        return _register(self._update_pre_hooks, hook)

    def rate(self, group: Mapping[str, Any]) -> float:
        """Return the lr of a parameter group for the next update, if the optimizer has a schedule."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # torch keeps hooks, and what a scheduler wraps around step, out of copies and pickles; so do we.
        own = {
            key: value for key, value in vars(self).items() if not key.endswith("_hooks") and key != "step"
        }
        return {**own, **{key: None for key in TRANSIENT if key in own}, **super().__getstate__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for hooks in ("_update_hooks", "_update_pre_hooks"):
            self.__dict__.setdefault(hooks, OrderedDict())

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    def _update(self, gradients: Gradients) -> None:
        """Move the parameters against the mean gradient of a group; no gradient at all is no update."""
        # As torch.optim.SGD without any .grad: neither weight decay nor momentum moves a parameter.
        if not gradients:
            return
        # Over copies: a hook may remove itself.
        for before in list(self._update_pre_hooks.values()):
            before(self, gradients)
        with torch.no_grad():
            if self.max_norm is not None:
                gradients = clipped(gradients, self.max_norm)
            self._move(gradients)
        self.updates += 1
        for hook in list(self._update_hooks.values()):
            hook(self)

    def _move(self, gradients: Gradients) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter in gradients:
                    move(parameter, gradients[parameter], group, self.state)

    def _set_rates(self) -> None:
        if not (self.scheduled or any(self._rates)):
            return
        for group, function in zip(self.param_groups, self._rates, strict=True):
            if function is None and not self.scheduled:
                continue
            free, setter = "initial_lr" not in group, function or "schedule"
            require(free, "lr", setter, "set by this or by a scheduler: use one of the two")
            lr = function(self.updates) if function else self.rate(group)
            require(0 <= lr < math.inf, f"lr({self.updates})", lr, "a finite number of at least 0")
            group["lr"] = plain(lr)


def _register(hooks: OrderedDict[int, Any], hook: Callable[..., None]) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def move(theta: Tensor, gradient: Tensor, group: Mapping[str, Any], state: Mapping[Tensor, dict]) -> None:
    """Update `theta` in place; `group` has the settings and ``state[theta]`` keeps the momentum buffer."""
    gradient = decayed(theta, gradient, group)
    if group["momentum"] != 0:
        gradient = _with_momentum(gradient, group, state[theta])
    theta.add_(gradient, alpha=-float(group["lr"]))


def decayed(theta: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> Tensor:
    """Return the gradient of what is minimized: with its sign by `maximize`, and the weight decay."""
    # Out of place: autograd may hand the same tensor to two parameters.
    if group["maximize"]:
        gradient = -gradient
    if group["weight_decay"] != 0:
        gradient = gradient.add(theta, alpha=group["weight_decay"])
    return gradient


def _with_momentum(gradient: Tensor, group: Mapping[str, Any], state: dict[str, Tensor]) -> Tensor:
    if "momentum_buffer" not in state:
        # As torch does it: the first gradient is not dampened.
        state["momentum_buffer"] = buffer = gradient.clone()
    else:
        buffer = state["momentum_buffer"].mul_(group["momentum"])
        buffer.add_(gradient, alpha=1 - group["dampening"])
    return gradient.add(buffer, alpha=group["momentum"]) if group["nesterov"] else buffer


def clipped(gradients: Gradients, max_norm: float) -> Gradients:
    """Scale all gradients alike so that their joint 2-norm is at most `max_norm`, as clip_grad_norm_ does.

    Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063, algorithm 1.
    """
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients.values()]
    norm = torch.linalg.vector_norm(torch.stack([value.to(norms[0]) for value in norms]))
    scale = torch.clamp(max_norm / (norm + 1e-6), max=1.0)
    return {parameter: gradient * scale.to(gradient.device) for parameter, gradient in gradients.items()}
