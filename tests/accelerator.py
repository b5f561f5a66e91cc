"""A device to test on where there is no accelerator: not the CPU, though the CPU keeps its numbers.

As on a real one, operators refuse tensors of both kinds together, and what is made of its tensors is its own.
So a buffer on the wrong device is found on every machine. It tells nothing of an accelerator's kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

# a type of device that autograd knows in every build, and whose operators are in none
DEVICE = torch.device("lazy", 0)


class Remote(Tensor):
    """A tensor on ``DEVICE`` with the numbers of ``near``, which is on the CPU."""

    near: Tensor

    @staticmethod
    def __new__(cls, near: Tensor) -> Remote:
        facts = {"strides": near.stride(), "storage_offset": near.storage_offset(), "dtype": near.dtype}
        made = Tensor._make_wrapper_subclass(cls, near.size(), device=DEVICE, **facts)
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs on the CPU; the results are on ``DEVICE``."""
        return _run(func, args, kwargs or {})


class _Operators(TorchDispatchMode):
    """Sends to ``DEVICE`` what is made there out of nothing, or out of tensors on the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        here = kwargs.get("device") == DEVICE or any(map(_is_remote, _tensors((args, kwargs))))
        return _run(func, args, kwargs) if here else func(*args, **kwargs)


class _Literals(TorchFunctionMode):
    """Sees ``torch.tensor``, which no dispatch mode does."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor and kwargs.get("device") == DEVICE:
            return Remote(torch.tensor(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


@contextmanager
def accelerator() -> Iterator[Callable[[Any], Any]]:
    """Has the device in here, and gives a function that copies tensors, and a module's, to it."""
    with _Operators(), _Literals():
        yield _sent


def fetched(value: Any) -> Any:
    """The same on the CPU, and of what is not on the device an error."""
    assert _is_remote(value), f"a tensor of shape {tuple(value.shape)} is on {value.device}"
    return value.near.detach()


def _sent(value: Any) -> Any:
    if not isinstance(value, torch.nn.Module):
        return pytree.tree_map_only(Tensor, lambda tensor: Remote(tensor.detach().clone()), value)
    for module in value.modules():
        for name, parameter in module.named_parameters(recurse=False):
            moved = torch.nn.Parameter(_sent(parameter), parameter.requires_grad)
            module.register_parameter(name, moved)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, _sent(buffer))
    return value


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = _tensors((args, kwargs))
    remote = any(map(_is_remote, tensors))
    _refuse_both(func, args, tensors)
    near_args, near_kwargs = _mapped(lambda x: x.near if isinstance(x, Remote) else x, (args, kwargs))
    device = near_kwargs.get("device")
    if device is not None:
        near_kwargs = {**near_kwargs, "device": "cpu"}
    found = func(*near_args, **near_kwargs)
    here = device == DEVICE if device is not None else remote
    if not here or (func is torch.ops.aten.copy_.default and not _is_remote(args[0])):
        return found
    found = _mapped(Remote, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if remote else found


def _refuse_both(func: Any, args: Any, tensors: list[Tensor]) -> None:
    """As CUDA's operators do; they take single numbers, and indices, from the CPU."""
    name = func.overloadpacket.__name__
    if name in ("copy_", "_to_copy"):
        return
    indexed = name in ("index", "index_put", "index_put_", "_index_put_impl_") and _is_remote(args[0])
    strange = [x for x in tensors if not _is_remote(x) and x.dim() and not indexed]
    if strange and any(map(_is_remote, tensors)):
        raise RuntimeError(f"{func} got tensors on {DEVICE} and on the CPU.")


# operators take and give tensors in tuples, lists and dicts alone, and pytree takes long to look for more
def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors(part)]


def _mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(change, part) for name, part in value.items()}
    return type(value)(_mapped(change, part) for part in value) if isinstance(value, tuple | list) else value


def _is_remote(value: Any) -> bool:
    return isinstance(value, Remote)
