"""A pretended GPU: tensors that compute on the CPU, and refuse what a GPU refuses.

Torch's device for backends of others holds tensors of a subclass. An operation of such a tensor and
an ordinary one raises as on a GPU: ordinary tensors of one number, and ordinary indices, are
allowed. So do a CPU's random generator for a tensor on the device, and ``numpy()``. Everything else
computes what the CPU computes, so that results can be compared to the last bit.

    python tests/support/pretended_gpu.py picture signal

runs tasks of `benchmarks.performance.gpu_tasks` on both and prints their differences.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

NAME = "pretended"
DEVICE = (NAME, 0)
_aten = torch.ops.aten
_TRANSFERS = {_aten.copy_.default, _aten._to_copy.default}
_INDEXING = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_PHYSICAL: dict[Any, Any] = {
    _aten._conj.default: _aten._conj_physical.default,
    _aten._neg_view.default: _aten.neg.default,
}
"""Lazy views whose bits a wrapped tensor does not show, with the operators that copy."""


class DeviceTensor(Tensor):
    """A tensor that says it is on the pretended GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            held.stride(),
            held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(*DEVICE),
        )
        made.held = held
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if args and isinstance(args[0], DeviceTensor):
            if name in ("data_ptr", "tolist", "untyped_storage"):
                return getattr(args[0].held, name)()
            if function == Tensor.data.__set__:  # type: ignore[attr-defined]
                args[0].held = args[1].held
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return run(function, args, kwargs or {})


def run(function: Any, args: Sequence[Any], given: Mapping[str, Any]) -> Any:
    """Run an operator on the held tensors, after the checks of a GPU."""
    kwargs = dict(given)
    tensors = [leaf for leaf in tree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    held = [one for one in tensors if isinstance(one, DeviceTensor)]
    place = kwargs.get("device")
    on_device = bool(held) if place is None else torch.device(place).type == NAME
    if held and len(held) < len(tensors) and function not in _TRANSFERS:
        _check_devices(function, args, tensors)
    if on_device and kwargs.get("generator") is not None:
        raise RuntimeError(f"Expected a '{NAME}' device type for generator: {function}")
    if on_device and place is not None:
        kwargs["device"] = torch.device("cpu")
    if function is _aten.copy_.default:
        on_device = isinstance(args[0], DeviceTensor)
    inner_args, inner_kwargs = tree.tree_map_only(DeviceTensor, lambda x: x.held, (args, kwargs))
    result = _PHYSICAL.get(function, function)(*inner_args, **inner_kwargs)
    if not on_device or function is _aten._local_scalar_dense.default:
        return result
    result = tree.tree_map_only(Tensor, DeviceTensor, result)
    return return_and_correct_aliasing(function, args, kwargs, result) if held else result


def _check_devices(function: Any, args: Sequence[Any], tensors: Sequence[Tensor]) -> None:
    """Raise where a GPU does not accept a tensor of the CPU."""
    mixed = [one for one in tensors if not isinstance(one, DeviceTensor) and one.ndim > 0]
    if function in _INDEXING and isinstance(args[0], DeviceTensor):
        mixed = [one for one in mixed if any(one is other for other in args[2:3])]
    writes = function._schema.is_mutable and not isinstance(args[0], DeviceTensor)
    if mixed or writes:
        found = [(str(one.device), tuple(one.shape)) for one in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}, {found}")


class _Operators(TorchDispatchMode):
    """Brings every operator here, also those that make a tensor out of nothing."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        return run(function, args, kwargs or {})


class _Constructors(TorchFunctionMode):
    """Makes tensors out of Python's numbers on the CPU, and then moves them."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None:
            return function(*args, **{**kwargs, "device": None}).to(kwargs["device"])
        return function(*args, **kwargs)


def main(names: Sequence[str]) -> None:
    """Run tasks on the CPU and on the pretended GPU, and print the largest differences."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    from benchmarks.performance import gpu, gpu_tasks
    from convnd import options
    from convnd.backbones import choose_device, precision

    _setup_privateuseone_for_python_backend(NAME)
    torch.autograd.set_multithreading_enabled(False)
    options.DEVICES = (*options.DEVICES, NAME)  # type: ignore[assignment]

    def choose(name: str = "auto") -> torch.device:
        return torch.device(*DEVICE) if name == NAME else choose_device(name)

    for module in [*sys.modules.values()]:
        found = getattr(module, "choose_device", None)
        if found is choose_device and module is not precision:
            module.choose_device = choose  # type: ignore[attr-defined]
    tasks = {**gpu_tasks.tasks(48), **gpu_tasks.layers()}
    with _Constructors(), _Operators():  # type: ignore[no-untyped-call]
        for name in names:
            ours, theirs = tasks[name](NAME), tasks[name]("cpu")
            different = gpu.relative_differences(ours, theirs, of_all=False)
            print(f"{name}: {len(theirs)} numbers, {max(different):.1e}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
