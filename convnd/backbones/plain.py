"""VGG networks made of torch's layers alone, for tools that read graphs."""

# No postponed annotations, since TorchScript reads those of attributes.

from typing import Any

import torch
from torch import Tensor, nn

from convnd.backbones.operations import Convolution
from convnd.backbones.vgg import VGG
from convnd.errors import UsageError

__all__ = ["PlainVGG"]

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_MAX_POOLS: dict[int, Any] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVG_POOLS: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}


class PlainVGG(nn.Module):
    """The layers of a `VGG` as layers of torch, in one to three axes.

    It has the features of the network at its zero padding, without its fast operators. So every
    tool of torch takes it: ``torch.jit.script``, ``torch.fx``, ``torch.export``, quantisation, and
    torchvision's ``create_feature_extractor``. An axis of one sample is padded like any other,
    while `VGG` counts it as a constant one.

    Args:
        network: the network; the weights are shared with it.
        layers: the layers whose features are returned.

    Raises:
        UsageError: the network has more than three axes.
        UnknownNameError: no such layer.

    Attributes:
        trunk: the layers by name; a convolution of low rank is a sequence of two or three.
        outputs: the projection of each of ``layers``, or `torch.nn.Identity`.

    >>> from convnd.backbones import load
    >>> net = load("compact", layers=["relu1_1", "relu2_1"], plain=True)
    >>> [name for name, _ in net.trunk.named_children()][:4], type(net.trunk["conv1_1"]).__name__
    (['conv1_1', 'relu1_1', 'conv1_2', 'relu1_2'], 'Conv2d')
    >>> net(torch.zeros(1, 3, 16, 16))["relu2_1"].shape
    torch.Size([1, 96, 8, 8])
    """

    mean: Tensor

    def __init__(self, network: VGG, layers: list[str]) -> None:
        super().__init__()
        if network.spatial_dims not in _CONVOLUTIONS:
            raise UsageError(
                "plain",
                expected="one to three axes, which torch has layers for",
                got=network.spatial_dims,
                remedy="leave plain out",
            )
        plan = network.plan.truncate(layers)
        self.register_buffer("mean", network.mean.view(-1, *[1] * network.spatial_dims))
        self.trunk = nn.ModuleDict({name: _layer(network, name) for name in plan.layers})
        self.outputs = nn.ModuleDict(
            {name: _as_torch(network.projections[name]) if name in network.projections
             else nn.Identity() for name in plan.layers if name in layers}
        )  # fmt: skip

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the features.

        Args:
            x: ``(B, C, *S)`` of values of about 0 to 1.

        Returns:
            Features by layer.
        """
        features: dict[str, Tensor] = {}
        x = x - self.mean
        for name, layer in self.trunk.items():
            x = layer(x)
            for wanted, output in self.outputs.items():
                if wanted == name:
                    features[wanted] = output(x)
        return features


def _layer(network: VGG, name: str) -> nn.Module:
    """One of the layers of a network as torch's."""
    if name.startswith("relu"):
        return nn.ReLU()
    if name.startswith("pool"):
        pools = _MAX_POOLS if network.pooling == "max" else _AVG_POOLS
        pool: nn.Module = pools[network.spatial_dims](network.plan.pool)
        return pool
    groups = (network.reductions, network.convolutions, network.expansions)
    parts = [_as_torch(group[name]) for group in groups if name in group]
    return parts[0] if len(parts) == 1 else nn.Sequential(*parts)


def _as_torch(convolution: nn.Module) -> nn.Module:
    """A convolution that keeps the extent, with the same weights."""
    assert isinstance(convolution, Convolution)
    weight, bias = convolution.weight, convolution.bias
    ndim = weight.ndim - 2
    with torch.device("meta"):
        layer: nn.Module = _CONVOLUTIONS[ndim](
            weight.shape[1],
            weight.shape[0],
            tuple(weight.shape[2:]),
            padding=tuple(n // 2 for n in weight.shape[2:]),
            bias=bias is not None,
        )
    layer.register_parameter("weight", weight)
    layer.register_parameter("bias", bias)
    return layer
