"""Any module of the user's as a backbone."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from convnd.backbones.base import Backbone
from convnd.backbones.probe import find_receptive_fields
from convnd.errors import UsageError, is_out_of_memory
from convnd.registry import unknown_name
from convnd.shapes import ReceptiveField

__all__ = ["ModuleBackbone", "from_module"]


class ModuleBackbone(Backbone):
    """Any module as a backbone: the outputs of its named submodules.

    The first run on inputs of an extent goes to the module's end and counts how often each layer
    is called; later ones stop behind the last call that is needed. Of a layer called several times
    the features are those of its last call. What the module does behind the layers may fail (a
    classifier that wants one size only) and is then left out.

    The number of calls is taken to depend on the extent of the input, and not on its values.

    Args:
        module: any network that takes ``(B, C, *S)``; it is run as it is, and neither frozen nor
            put into evaluation mode, see `from_module`.
        layers: names as `torch.nn.Module.named_modules` gives them.
        spatial_dims: number of spatial axes it takes.
        in_channels: number of channels it takes.
        receptive_fields: receptive fields of the layers, where they are known.

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
    ) -> None:
        super().__init__()
        modules = dict(module.named_modules())
        for name in layers:
            if name not in modules:
                raise unknown_name("layer", name, [known for known in modules if known])
        self.module = module
        self.layers = tuple(layers)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.receptive_fields = {} if receptive_fields is None else receptive_fields
        self._calls: dict[object, Counter[str]] = {}

    def forward(
        self,
        x: Tensor,
        layers: Sequence[str],
        *,
        raw: Collection[str] = (),  # noqa: ARG002 - there are no taps
    ) -> dict[str, Tensor]:
        """See `Backbone.forward`.

        Raises:
            UnknownNameError: also where a layer does not run.
            UsageError: a layer's output is not a tensor.
        """
        self.check(x, layers)
        if not layers:
            return {}
        x = x.to(next(self.module.parameters(), x).dtype)
        key = self.training, self.module.training, tuple(x.shape[2:])
        calls = self._calls.get(key, Counter())
        run = _Run(layers, calls if all(calls[name] for name in layers) else None)
        modules = dict(self.module.named_modules())
        watched = layers if run.calls else self.layers
        handles = [
            modules[name].register_forward_hook(run.hook(name)) for name in dict.fromkeys(watched)
        ]
        try:
            self.module(x)
        except _Enough:
            pass
        except Exception as error:
            if (
                run.calls
                or not all(name in run.found for name in layers)
                or is_out_of_memory(error)
            ):
                raise
        finally:
            for handle in handles:
                handle.remove()
        if not run.calls:
            self._calls[key] = run.seen
        for name in layers:
            if name not in run.found:
                raise unknown_name("layer that runs", name, list(run.seen))
        return {name: run.found[name] for name in layers}

    @property
    def order(self) -> tuple[str, ...]:
        """The layers in the order in which they first ran; empty before a run."""
        longest: Sequence[str] = ()
        for calls in self._calls.values():
            longest = list(calls) if len(calls) > len(longest) else longest
        return tuple(longest)


class _Enough(BaseException):
    """What is asked for has been computed. Not an Exception, which networks may catch."""


class _Run:
    """The hooks of one run.

    Args:
        layers: what is kept.
        calls: how often each layer will be called; None lets the module run to its end.
    """

    def __init__(self, layers: Sequence[str], calls: Counter[str] | None) -> None:
        self.calls = calls
        self.seen: Counter[str] = Counter()
        self.found: dict[str, Tensor] = {}
        self._left = set(layers)
        self._layers = frozenset(layers)

    def hook(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: object, output: object) -> None:
            self.seen[name] += 1
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
                self.found[name] = output.clone()  # what follows may work in place
            elif self.seen[name] == self.calls[name]:
                self._left.discard(name)
                if not self._left:
                    self.found[name] = output
                    raise _Enough
                self.found[name] = output.clone()

        return keep


def from_module(
    module: nn.Module,
    layers: Sequence[str],
    *,
    spatial_dims: int | None = None,
    in_channels: int | None = None,
    receptive_fields: Mapping[str, ReceptiveField] | None = None,
) -> ModuleBackbone:
    """A backbone out of any network; what is not told about it is found out.

    The module is left as it is. The backbone holds a copy in evaluation mode whose parameters are
    frozen and share their memory with the module's, until the backbone is moved or cast; buffers
    are copied.

    Args:
        module: takes ``(B, C, *S)``, with values as it was trained on.
        layers: names of submodules, as `torch.nn.Module.named_modules` gives them.
        spatial_dims: number of spatial axes; left out, that of the first submodule with
            convolution weights.
        in_channels: channels of the input; likewise.
        receptive_fields: receptive fields by layer; if left out, `probe_receptive_field` measures
            them. A layer without one (it sees the whole input, or windows of different sizes)
            works, but not in tiles.

    Raises:
        UnknownNameError: a name is not a submodule, or it does not run.
        UsageError: no convolution tells rank and channels; the module cannot be copied; a layer's
            output is not a tensor.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    >>> backbone = from_module(net, ["2"])
    >>> backbone.in_channels, backbone.receptive_fields["2"].size
    (3, (6, 6))
    """
    if spatial_dims is None or in_channels is None:
        rank, channels = _first_convolution(module)
        spatial_dims = rank if spatial_dims is None else spatial_dims
        in_channels = channels if in_channels is None else in_channels
    shared = {
        id(each): nn.Parameter(each.detach(), requires_grad=False) for each in module.parameters()
    }
    try:
        frozen = copy.deepcopy(module, shared)
    except Exception as error:  # whatever their code raises
        raise UsageError(
            "from_module",
            expected="a module that can be copied",
            got=f"'{error}' from {type(module).__name__}",
            remedy="build a ModuleBackbone on the module itself",
        ) from error
    network = ModuleBackbone(
        frozen,
        layers,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        receptive_fields=receptive_fields,
    ).eval()
    if receptive_fields is None:
        network.receptive_fields = find_receptive_fields(network, layers)
        place = {name: index for index, name in enumerate(network.order)}
        network.layers = tuple(sorted(layers, key=lambda name: place.get(name, len(place))))
    return network


def _first_convolution(module: nn.Module) -> tuple[int, int]:
    for each in module.modules():
        weight = getattr(each, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 3:
            groups = getattr(each, "groups", 1)
            channels = getattr(each, "in_channels", weight.shape[1] * groups)
            return weight.ndim - 2, channels
    raise UsageError(
        "from_module",
        expected="a module with a convolution",
        got="none",
        remedy="give spatial_dims and in_channels",
    )
