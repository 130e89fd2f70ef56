"""Any `torch.nn.Module` as a backbone."""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from torch import Tensor, nn

from convnd.backbones.base import Backbone
from convnd.backbones.nodes import recorded_nodes
from convnd.backbones.probe import find_receptive_fields
from convnd.errors import UsageError, is_out_of_memory
from convnd.nn._native import traced_as_leaf
from convnd.registry import unknown_name
from convnd.shapes import ReceptiveField

__all__ = ["ModuleBackbone", "copy_module", "from_module"]


class ModuleBackbone(Backbone):
    """A module as a backbone: its layers are named submodules, and their outputs the features.

    The first run on inputs of an extent runs the module to its end and counts how often it calls
    each layer. Later runs stop after the last call that is needed. If a layer is called several
    times, its features are those of the last call. An error that the module raises after all layers
    have run is ignored, for example that of a classifier that takes one size only.

    The number of calls must depend on the extent of the input alone, and not on its values.

    Args:
        module: any network that takes ``(B, C, *S)``. It is used unchanged, neither frozen nor put
            into evaluation mode; `from_module` does both.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them.
        spatial_dims: number of spatial axes of the input.
        in_channels: number of channels of the input.
        receptive_fields: receptive fields by layer, as far as they are known.
        nodes: whether layers are named as torchvision's feature extraction does it, see
            `from_module`.

    Raises:
        UnknownNameError: a name is not a submodule.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.ReLU())
    >>> features = ModuleBackbone(net, ["1"], spatial_dims=1, in_channels=1)
    >>> features(torch.zeros(1, 1, 14), ["1"])["1"].shape
    torch.Size([1, 4, 10])
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str],
        *,
        spatial_dims: int,
        in_channels: int,
        receptive_fields: Mapping[str, ReceptiveField] | None = None,
        nodes: bool = False,
    ) -> None:
        super().__init__()
        modules = dict(module.named_modules())
        for name in layers:
            if name not in modules and not nodes:
                raise unknown_name("layer", name, [layer for layer in modules if layer])
        self.nodes = nodes
        self.module = module
        self.layers = tuple(layers)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.receptive_fields = {} if receptive_fields is None else receptive_fields
        self._calls: dict[object, Counter[str]] = {}

    @traced_as_leaf
    def forward(
        self,
        x: Tensor,
        layers: Sequence[str],
        *,
        raw: Collection[str] = (),  # noqa: ARG002 - there are no projections
    ) -> dict[str, Tensor]:
        """Compute the features of layers, see `Backbone.forward`.

        Raises:
            UnknownNameError: a name is not one of the layers, or the module never calls it.
            UsageError: the output of a layer is not a tensor.
            ShapeError: ``x`` has another rank or number of channels.
        """
        self.check(x, layers)
        if not layers:
            return {}
        x = x.to(next(self.module.parameters(), x).dtype)
        key = self.training, self.module.training, tuple(x.shape[2:])
        calls = self._calls.get(key, Counter())
        run = _Run(layers, calls if all(calls[name] for name in layers) else None)
        hooked_layers = layers if run.calls else self.layers
        try:
            with self._recorded(run, hooked_layers):
                self.module(x)
        except _StopForward:
            pass
        except Exception as error:
            if (
                run.calls
                or not all(name in run.features for name in layers)
                or is_out_of_memory(error)
            ):
                raise
        if not run.calls:
            self._calls[key] = run.counts
        for name in layers:
            if name not in run.features:
                raise unknown_name("layer that runs", name, list(run.counts))
        return {name: run.features[name] for name in layers}

    @contextlib.contextmanager
    def _recorded(self, run: _Run, layers: Sequence[str]) -> Iterator[None]:
        """Let a run collect the outputs of layers within the context."""
        if self.nodes:
            with recorded_nodes(self.module, run.collect):
                yield
            return
        modules = dict(self.module.named_modules())
        handles = [
            modules[name].register_forward_hook(run.hook(name)) for name in dict.fromkeys(layers)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @property
    def order(self) -> tuple[str, ...]:
        """The layers in the order in which they first ran; empty before the first run."""
        longest_calls: Sequence[str] = ()
        for calls in self._calls.values():
            longest_calls = list(calls) if len(calls) > len(longest_calls) else longest_calls
        return tuple(longest_calls)


class _StopForward(BaseException):
    """Ends a forward pass when all features are computed.

    It does not derive from Exception, which a network may catch.
    """


class _Run:
    """The hooks of one run, and the features that they collect.

    Args:
        layers: the layers whose features are collected.
        calls: how often each layer is called; None in a run that counts this.
    """

    def __init__(self, layers: Sequence[str], calls: Counter[str] | None) -> None:
        self.calls = calls
        self.counts: Counter[str] = Counter()
        self.features: dict[str, Tensor] = {}
        self._missing_layers = set(layers)
        self._layers = frozenset(layers)

    def hook(self, name: str) -> Any:
        """Make the forward hook of a layer."""

        def collect(_module: nn.Module, _inputs: object, output: object) -> None:
            self.collect(name, output)

        return collect

    def collect(self, name: str, output: object) -> None:
        """Take the output of a layer, and end the forward pass after the last one."""
        self.counts[name] += 1
        if name not in self._layers:
            return
        if not isinstance(output, Tensor):
            raise UsageError(
                f"layer {name}",
                expected="a tensor (B, C, *S)",
                got=type(output).__name__,
                remedy="choose a layer inside of it",
            )
        if self.calls is None:
            self.features[name] = output.clone()  # the next layer may work in place
        elif self.counts[name] == self.calls[name]:
            self._missing_layers.discard(name)
            if not self._missing_layers:
                self.features[name] = output
                raise _StopForward
            self.features[name] = output.clone()


def from_module(
    module: nn.Module,
    layers: Sequence[str] | None = None,
    *,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    receptive_fields: Mapping[str, ReceptiveField] | None = None,
    nodes: bool = False,
) -> ModuleBackbone:
    """Make a backbone of any network, and measure the properties that are not given.

    The module itself does not change. The backbone holds a copy in evaluation mode. The copy's
    parameters are frozen and share memory with the module's until the backbone is moved or cast;
    its buffers are separate.

    Args:
        module: network that takes ``(B, C, *S)`` with values in the range that it was trained on.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them. None takes those
            of a ``features_only`` model of timm.
        spatial_dims: number of spatial axes; None is that of the first submodule with convolution
            weights.
        in_channels: number of channels of the input; None is that of the same submodule.
        receptive_fields: receptive fields by layer; None lets `probe_receptive_field` measure them.
            A layer without one (it sees the whole input, or windows of different sizes) works, but
            not in tiles.
        nodes: whether layers have the names of torchvision's ``create_feature_extractor``: besides
            modules, operations such as ``layer1.0.add``, and the second call of a layer is
            ``layer1.0.relu_1``. Nothing is traced, so the network may have any control flow.
            `node_names` lists them.

    Raises:
        UnknownNameError: a name is not a submodule, or the module never calls it.
        UsageError: no layers are given; the module has no convolution that shows its rank and
            channels, or cannot be copied; or a layer's output is not a tensor.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> backbone = from_module(net, ["2"])
    >>> backbone.in_channels, backbone.receptive_fields["2"].size
    (3, (6, 6))
    """
    if layers is None:
        layers = _layers_of_timm(module)
    if spatial_dims is None or in_channels is None:
        rank, channels = _first_convolution(module)
        spatial_dims = rank if spatial_dims is None else spatial_dims
        in_channels = channels if in_channels is None else in_channels
    frozen_module = copy_module(module, "from_module").requires_grad_(False)
    network = ModuleBackbone(
        frozen_module,
        layers,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        receptive_fields=receptive_fields,
        nodes=nodes,
    ).eval()
    if receptive_fields is None:
        network.receptive_fields = find_receptive_fields(network, layers)
        order = {name: index for index, name in enumerate(network.order)}
        network.layers = tuple(sorted(layers, key=lambda name: order.get(name, len(order))))
    return network


M = TypeVar("M", bound=nn.Module)


def copy_module(module: M, operation: str) -> M:
    """Copy a module; the parameters share memory with its own until they are moved or cast.

    Args:
        module: any module; it does not change.
        operation: name of the operation that needs the copy, for the message.

    Raises:
        UsageError: the module's own code refuses to be copied.
    """
    shared_parameters = {
        id(parameter): nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
        for parameter in module.parameters()
    }
    try:
        return copy.deepcopy(module, shared_parameters)
    except Exception as error:  # the module's own code may raise anything
        raise UsageError(
            operation,
            expected="a module that can be copied",
            got=f"'{error}' from {type(module).__name__}",
            remedy="build a ModuleBackbone on the module itself, in the precision asked for",
        ) from error


def _layers_of_timm(module: nn.Module) -> list[str]:
    """The layers whose outputs a ``features_only`` model of timm returns."""
    names = getattr(getattr(module, "feature_info", None), "module_name", None)
    if not callable(names):
        raise UsageError(
            "from_module",
            expected="names of layers, or a features_only model of timm",
            got=type(module).__name__,
            remedy="name submodules: dict(module.named_modules()) lists them",
        )
    modules = dict(module.named_modules())
    # Some of its models are flat: `stages.0` is their submodule `stages_0`.
    return [name if name in modules else name.replace(".", "_") for name in names()]


def _first_convolution(module: nn.Module) -> tuple[int, int]:
    """Number of axes and input channels of the first submodule with convolution weights."""
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 3:
            groups = getattr(layer, "groups", 1)
            channels = getattr(layer, "in_channels", weight.shape[1] * groups)
            return weight.ndim - 2, channels
    raise UsageError(
        "from_module",
        expected="a module with a convolution",
        got="none",
        remedy="give spatial_dims and in_channels",
    )
