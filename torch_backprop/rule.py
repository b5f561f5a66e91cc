"""Rule: the base of every hand-written ``torch.autograd.Function`` of this package.

A derivation is written once, as ``forward``, ``setup_context``, ``backward`` and ``jvp``. The base adds what
every derivation needs and none should repeat:

* autocast: arguments are cast as the built-in operator's policy says, outside the rule, so that the cast is
  differentiated by autograd and the rule sees one dtype;
* forward mode of any order, by :mod:`torch_backprop.forward_mode`;
* cotangents that are not there, by :mod:`torch_backprop.unused`;
* second derivatives of gradients that depend on nothing, by :mod:`torch_backprop.constant`;
* compilation: Dynamo refuses a Function with a ``jvp``, so each rule has a reverse-only twin for it. (Inside
  a compiled ``torch.func.grad`` only ``forward`` is taken, and Dynamo differentiates its operators itself.)
* what holds no Function, as an exported program does, or no strides, as a nested tensor: these get the
  operators of ``forward``, which torch differentiates;
* backpropagation without autograd: where a tape records this thread, it runs the rule's parts itself.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch._functorch.utils import unwrap_dead_wrappers
from torch.autograd import forward_ad

from torch_backprop.constant import differentiable
from torch_backprop.forward_mode import nestable
from torch_backprop.unused import of_used

LOWER = "lower"
"""Autocast policy: cast to the autocast dtype, as matrix products are."""
FLOAT32 = "float32"
"""Autocast policy: cast half precision up to float32, as sums of exponentials are."""
WIDEST = "widest"
"""Autocast policy: cast to the widest dtype among the arguments."""

RECORDERS: dict[int, Any] = {}
"""The tapes that record, by the thread whose operations they record; most of the time there is none."""

WIDER = {
    # in which torch's own kernels accumulate
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    # which has a difference and a negative
    torch.bool: torch.int8,
    torch.uint8: torch.int16,
}
"""The dtype in which numbers of another dtype are computed with."""

NO_JVP = torch.autograd.Function.jvp

# asked at every call, and so without a search for the name
_jit_trace = torch._C._get_tracing_state
_overridden = torch.overrides.has_torch_function
_modes = torch._C._len_torch_dispatch_stack


class Rule(torch.autograd.Function):
    """A hand-derived vector-Jacobian product, usable under every transform of PyTorch.

    Subclasses write ``forward(*args)``, ``setup_context(ctx, inputs, output)``,
    ``backward(ctx, *cotangents)`` and ``jvp(ctx, *tangents)`` as for ``torch.autograd.Function``, and are
    called by ``call``; without ``jvp`` there is no forward mode. Residuals are kept with :func:`save`.
    """

    if TYPE_CHECKING:  # torch types these as (ctx, *args), which no derivation's signature fits
        forward: Any
        setup_context: Any
        backward: Any
        jvp: Any

    generate_vmap_rule = True
    autocast: ClassVar[Mapping[str, str]] = {}
    """Autocast policy (``LOWER``, ``FLOAT32``, ``WIDEST``) by device type; none: dtypes stay as they are."""
    sees_unused: ClassVar[bool] = False
    """Whether ``backward`` gets None, not zeros, for an output that nothing used while another was used.

    It takes the place of ``ctx.set_materialize_grads``.
    """

    call: ClassVar[Callable[..., Any]]
    """Applies the rule to its arguments, with gradients by its own formulas."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "jvp" in vars(cls) and cls.jvp is not NO_JVP:
            cls.jvp = staticmethod(nestable(cls.jvp))
        if "backward" in vars(cls):
            cls.backward = staticmethod(of_used(differentiable(cls.backward), cls.sees_unused))
        cls.call = staticmethod(_call(cls))


def _call(rule: type[Rule]) -> Callable[..., Any]:
    """A closure, because Dynamo reads no class attributes of a Function.

    Outside ``torch.func`` it goes round ``Function.apply``, which for the sake of default arguments inspects
    the signature of ``forward`` at every call: two thirds of the cost of a small layer.
    """
    compiled: Any = rule
    if rule.jvp is not NO_JVP:
        compiled = type(rule.__name__, (rule,), {"jvp": staticmethod(NO_JVP)})
    base: Any = super(torch.autograd.Function, rule)
    direct = base.apply
    forward = rule.forward
    policy = rule.autocast

    def call(*args: Any) -> Any:
        if policy:
            args = _cast(policy, args)
        transformed = torch._C._are_functorch_transforms_active()
        if RECORDERS and (tape := recorder()) is not None:
            # below a transform the tape sees the operators of forward, and has their pullbacks or refuses
            return forward(*args) if transformed else tape.apply(rule, args)
        compiling = torch.compiler.is_compiling()
        if is_for_others() or ((compiling or _overridden(args)) and any(map(is_nested, args))):
            return forward(*args)
        if compiling:
            # beside an intermediate Dynamo does not see that the leaves of a transform need gradients
            blind = transformed and sum(isinstance(arg, Tensor) for arg in args) > 1
            args = _compilable(args)
            return forward(*args) if blind else compiled.apply(*args)
        if transformed:
            return rule.apply(*args)
        y = direct(*unwrap_dead_wrappers(args))
        node = (y[0] if type(y) is tuple else y).grad_fn
        if type(node) is rule._backward_cls:
            # forward mode, which wants zeros, has had its turn
            node.materialize_grads = False
        return y

    return call


def _compilable(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments as Dynamo needs them.

    A number that may change becomes a symbol of the graph in which it is met first. That should be the whole
    graph, for a Function's own is closed to the next Function. And one tensor cannot be two arguments.
    """
    found: list[Any] = []
    for arg in args:
        if isinstance(arg, Tensor):
            found.append(arg.view_as(arg) if any(arg is other for other in found) else arg)
        else:
            found.append(arg * 1.0 if isinstance(arg, float) else arg)
    return tuple(found)


def _cast(policy: Mapping[str, str], args: tuple[Any, ...]) -> tuple[Any, ...]:
    # as the dispatcher does: the first tensor says for which device, and float64 stays float64
    device = next((arg.device.type for arg in args if isinstance(arg, Tensor)), "")
    if device not in policy or not autocasts(device):
        return args
    castable = [isinstance(arg, Tensor) and _castable(arg, device) for arg in args]
    dtype = torch.float32
    if policy[device] == LOWER:
        dtype = torch.get_autocast_dtype(device)
    elif policy[device] == WIDEST:
        dtypes = [arg.dtype for arg, cast in zip(args, castable, strict=True) if cast]
        dtype = functools.reduce(torch.promote_types, dtypes, torch.get_autocast_dtype(device))
    return tuple(arg.to(dtype) if cast else arg for arg, cast in zip(args, castable, strict=True))


def _castable(tensor: Tensor, device: str) -> bool:
    return tensor.device.type == device and tensor.is_floating_point() and tensor.dtype != torch.float64


def autocasts(device: str) -> bool:
    """Whether autocast is on for this type of device, which may be one that autocast does not know."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def uncast(device: str) -> AbstractContextManager[Any]:
    """Autocast off: it has cast a rule's arguments, and is not to cast what is computed from them."""
    # made anew each time, for a context that threads share would hand one's setting to another
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def save(ctx: Any, *residuals: Tensor | None) -> None:
    """Keeps ``residuals`` (inputs or outputs of the rule, or None) for ``backward`` and for ``jvp``."""
    ctx.save_for_backward(*residuals)
    ctx.save_for_forward(*residuals)


def first_order(*tensors: Tensor) -> bool:
    """Whether a fast path is allowed: a first-order backward pass over plain tensors.

    In-place operators, ``out=`` and saved statistics are wrong or impossible when a graph of the backward
    pass is recorded (``create_graph``, ``torch.func``), under ``vmap`` or ``is_grads_batched``, while
    compiling or exporting, and on tensor subclasses. Then the plain formula is used.
    """
    return not torch.is_grad_enabled() and all(map(is_plain, tensors))


def is_plain(tensor: Tensor) -> bool:
    """Whether ``tensor`` is an ordinary one in eager mode: no subclass, no functorch wrapper, not meta."""
    if is_traced() or type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.is_meta:
        return False
    if tensor.is_neg():  # the imaginary part of a conjugate: its memory holds other numbers
        return False
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return not (functorch.is_functorch_wrapped_tensor(tensor) or functorch.is_legacy_batchedtensor(tensor))


def is_traced() -> bool:
    """Whether operators are recorded as a program: compiled, exported, by make_fx, linearize or jit.trace."""
    if torch.compiler.is_compiling() or _jit_trace() is not None:
        return True
    return _modes() > 0 and torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def is_for_others() -> bool:
    """Whether a program is recorded that cannot hold a Function: it differentiates its operators itself."""
    return torch.compiler.is_exporting() if torch.compiler.is_compiling() else _jit_trace() is not None


def is_nested(argument: Any) -> bool:
    """Whether it is a batch of tensors of several lengths."""
    return isinstance(argument, Tensor) and argument.is_nested


def tracked(x: Tensor) -> bool:
    """Whether a derivative of what is done to ``x`` may be asked for; if not, there is nothing to save."""
    return not is_plain(x) or forward_ad._current_level >= 0 or (wanted(x) and torch.is_grad_enabled())


def private(x: Tensor, *others: Tensor | None) -> Tensor:
    """A copy of x for a rule to save, where the built-in saves no x that a caller can write into.

    Only where autograd wants the gradient of x or of the other arguments: else nothing is saved.
    """
    if recorder() is not None or not torch.is_grad_enabled() or not is_plain(x):
        return x
    return x.clone() if any(y is not None and y.requires_grad for y in (x, *others)) else x


def recorder() -> Any:
    """The tape that records this thread, or None."""
    return RECORDERS.get(threading.get_ident()) if RECORDERS else None


def wanted(x: Tensor | None) -> bool:
    """Whether autograd, or the tape that records, wants the gradient of ``x``."""
    tape = recorder()
    return x is not None and (x.requires_grad if tape is None else tape.value(x) is not None)


def by_autograd(*tensors: Tensor | None) -> bool:
    """Whether autograd alone will ask for gradients of the tensors, so that it says now of which."""
    given = [x for x in tensors if x is not None]
    if not torch.is_grad_enabled() or forward_ad._current_level >= 0 or recorder() is not None:
        return False
    return all(map(is_plain, given)) and any(x.requires_grad for x in given)


def is_batched(argument: Any) -> bool:
    """Whether vmap batches ``argument``, in eager mode: for operators that it cannot batch."""
    if torch.compiler.is_compiling() or not isinstance(argument, Tensor):
        return False
    return torch._C._functorch.is_batchedtensor(argument)  # pyright: ignore[reportAttributeAccessIssue]


def bare(x: Tensor) -> Tensor:
    """What ``torch.func`` has wrapped, the whole batch of a vmap: for a question asked of all its numbers."""
    functorch = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    while functorch.is_functorch_wrapped_tensor(x):
        x = functorch.get_unwrapped(x)
    return x


def owned(y: Tensor) -> Tensor:
    """The tensor of a view made inside ``forward``, which may be written into after it is returned."""
    if torch.compiler.is_compiling() or not y._is_view():
        return y
    # the same memory, but for autograd a tensor of its own
    return torch.ops.aten._unsafe_view(y, y.shape)


def widen(tensor: Tensor) -> Tensor:
    """The tensor in a dtype to compute in, see ``WIDER``; of most dtypes it is the tensor itself."""
    wider = WIDER.get(tensor.dtype)
    return tensor if wider is None else tensor.to(wider)
