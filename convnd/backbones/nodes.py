"""Names of the operations that a network runs, as torchvision's feature extraction has them."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["node_names", "recorded_nodes"]

_IN_PLACE = {f"{name}_": name for name in ("add", "sub", "mul", "div")}
"""Torch runs ``x += y`` as ``add_``, which torchvision names ``add``."""

Collect = Callable[[str, object], None]


class _Nodes(TorchFunctionMode):
    """Tells the names of operations and their outputs while a network runs.

    A node is a layer of torch or an operation on tensors. Its name is the path of the module that
    runs it, followed by the operation's; the second node of a name ends in ``_1``. Modules that
    consist of others are nodes under their own path.

    Args:
        network: the network.
        collect: gets the name and the output of each node.
    """

    def __init__(self, network: nn.Module, collect: Collect) -> None:
        super().__init__()
        self._tell = collect
        self._paths = {module: path for path, module in network.named_modules()}
        self._scopes: list[str] = []
        self._leaves = 0
        self._counts: Counter[str] = Counter()

    def enter(self, module: nn.Module, _inputs: object) -> None:
        """Begin a module; the operations inside of a layer have no names."""
        self._scopes.append(self._paths[module])
        self._leaves += _is_layer(module)

    def leave(self, module: nn.Module, _inputs: object, output: object) -> None:
        """End a module."""
        path = self._scopes.pop()
        self._leaves -= _is_layer(module)
        if self._leaves == 0 and path:
            self._collect(self._numbered(path) if _is_layer(module) else path, output)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.__name__
        if self._leaves == 0 and isinstance(output, Tensor) and name != "__get__":
            scope = self._scopes[-1] if self._scopes else ""
            operation = _IN_PLACE.get(name, name.removeprefix("__").removesuffix("__"))
            self._collect(self._numbered(f"{scope}.{operation}".removeprefix(".")), output)
        return output

    def _collect(self, name: str, output: object) -> None:
        self._leaves += 1  # what the caller does with the output is no node
        try:
            self._tell(name, output)
        finally:
            self._leaves -= 1

    def _numbered(self, name: str) -> str:
        stem = re.sub(r"(?<=.)_[0-9]+$", "", name)  # as torchvision numbers names
        self._counts[stem] += 1
        return stem if self._counts[stem] == 1 else f"{stem}_{self._counts[stem] - 1}"


def node_names(network: nn.Module, x: Tensor) -> list[str]:
    """List the names that `from_module` takes with ``nodes=True``, in the order of a run.

    They are those of torchvision's ``get_graph_node_names``. The network runs once, in the mode
    that it is in, so that any control flow is possible.

    Args:
        network: any network.
        x: an input, ``(B, C, *S)``.

    >>> net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Sequential(nn.ReLU()))
    >>> node_names(net, torch.zeros(1, 1, 5))
    ['0', '1.0', '1']
    """
    names: list[str] = []
    with torch.no_grad(), recorded_nodes(network, lambda name, _: names.append(name)):
        network(x)
    return names


@contextlib.contextmanager
def recorded_nodes(network: nn.Module, collect: Collect) -> Iterator[None]:
    """Tell the nodes that a network runs within the context.

    Args:
        network: the network.
        collect: gets the name and the output of each node.

    >>> import torch
    >>> names: list[str] = []
    >>> net, x = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU()), torch.zeros(1, 1, 5)
    >>> with recorded_nodes(net, lambda name, output: names.append(name)):
    ...     _ = net(x)
    >>> names
    ['0', '1']
    """
    nodes = _Nodes(network, collect)
    handles = [
        handle
        for module in network.modules()
        for handle in (
            module.register_forward_pre_hook(nodes.enter, prepend=True),
            module.register_forward_hook(nodes.leave),
        )
    ]
    try:
        with nodes:
            yield
    finally:
        for handle in handles:
            handle.remove()


def _is_layer(module: nn.Module) -> bool:
    """Whether a module is one of torch's or of `convnd.nn`, whose inside is no concern."""
    is_library = type(module).__module__.startswith(("torch.nn", "torch.ao.nn", "convnd.nn"))
    return is_library and not isinstance(module, nn.Sequential)
