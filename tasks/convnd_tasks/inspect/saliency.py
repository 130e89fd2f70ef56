"""Attribution of an activation to the input, and maps of where channels are active."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convnd.backbones import Backbone
from convnd.nn import pad_nd, resize_nd
from convnd.nn.transforms import apply_function
from convnd.registry import check_name
from convnd_tasks.inspect.search import Patch
from convnd_tasks.inspect.units import check_units

__all__ = ["METHODS", "channel_maps", "explain", "explain_patch"]

METHODS = ("guided", "deconvnet", "gradient")
"""Backward rules of a rectifier, see `explain`."""


def explain(
    network: Backbone,
    x: Tensor,
    layer: str,
    unit: int,
    position: Sequence[int],
    *,
    method: str = "guided",
) -> Tensor:
    r"""Attribute the activation of a unit at a position to the input.

    The function propagates the activation back to the input. Max pooling sends it to the position
    of the maximum. A rectifier with input :math:`h` and gradient :math:`g` sends back

    ============ ===================== ==========================================
    gradient     :math:`g\,[h>0]`       Simonyan, Vedaldi and Zisserman (2013)
    deconvnet    :math:`g\,[g>0]`       Zeiler and Fergus (2013)
    guided       :math:`g\,[h>0][g>0]`  Springenberg et al. (2014)
    ============ ===================== ==========================================

    This works for every network that calls torch's ReLU, as a function or as a module.

    Args:
        network: the network.
        x: input ``(1, C, *S)`` as the network takes it.
        layer: name of the layer.
        unit: channel of the layer.
        position: index into the feature map.
        method: one of `METHODS`.

    Returns:
        ``(1, C, *S)``; zero outside of the receptive field.

    Raises:
        UnknownNameError: there is no such layer or method.

    >>> from torch import nn
    >>> from convnd_tasks.inspect import network_from_module
    >>> net = nn.Sequential(nn.Conv1d(1, 1, 2, bias=False), nn.ReLU())
    >>> _ = net[0].load_state_dict({"weight": torch.tensor([[[-1.0, 1.0]]])})
    >>> explain(network_from_module(net, ["1"]), torch.tensor([[[1.0, 2, 4, 4]]]), "1", 0, (1,))
    tensor([[[ 0., -1.,  1.,  0.]]])
    """
    check_name("explain: method", method, METHODS)
    x = x.detach().clone().requires_grad_()
    # Convolutions with frozen parameters are fused with their ReLU, which would bypass the mode.
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_()
    try:
        with torch.enable_grad(), _RectifierMode(method):
            value = network(x, [layer])[layer][(0, unit, *position)]
        gradient: Tensor = torch.autograd.grad(value, x)[0]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return gradient


def explain_patch(network: Backbone, patch: Patch, method: str) -> Tensor:
    """Attribute the activation of a patch's unit to the samples of the patch.

    Only the patch goes through the network, since the unit does not depend on anything outside.

    Args:
        network: the network of the search.
        patch: the patch.
        method: one of `METHODS`.

    Returns:
        ``(1, C, *region)``.
    """
    hit = patch.hit
    # Strides count from the border of the input, so the padded patch starts at a multiple of them.
    strides = [int(stride) for stride in network.receptive_fields[hit.layer].stride]
    origin = [part.start // stride for part, stride in zip(hit.region, strides, strict=True)]
    margin = [
        part.start - first * stride
        for part, first, stride in zip(hit.region, origin, strides, strict=True)
    ]
    x = pad_nd(patch.normalized, [(count, 0) for count in margin])
    position = [index - first for index, first in zip(hit.position, origin, strict=True)]
    device = next(network.parameters(), x).device
    gradient = explain(network, x.to(device), hit.layer, hit.unit, position, method=method)
    return gradient[(slice(None), slice(None), *(slice(count, None) for count in margin))].cpu()


def channel_maps(network: Backbone, x: Tensor, layer: str, units: Sequence[int]) -> Tensor:
    """Compute the activation of channels at each position of an input, by linear interpolation.

    Args:
        network: the network.
        x: input ``(1, C, *S)`` as the network takes it.
        layer: name of the layer.
        units: channels of the layer; an empty sequence selects all.

    Returns:
        ``(len(units), *S)``, the size of the input.

    Raises:
        UnknownNameError: the network has no such layer.
        UsageError: the layer has no such unit.
    """
    with torch.inference_mode():
        features: Tensor = network(x, [layer])[layer]
    maps = features[:, check_units(layer, units, features.shape[1])].float()
    return resize_nd(maps, x.shape[2:], mode="linear")[0].cpu()


class _Rectify(torch.autograd.Function):
    """ReLU with the backward rule of a method."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, method: str) -> Tensor:
        ctx.save_for_backward(h)
        ctx.method = method
        return h.clamp_min(0)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        (h,) = ctx.saved_tensors
        if ctx.method != "deconvnet":
            gradient = gradient * (h > 0)
        if ctx.method != "gradient":
            gradient = gradient.clamp_min(0)
        return gradient, None


_RELUS = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}


class _RectifierMode(TorchFunctionMode):
    """Replaces the backward rule of torch's ReLU while it is active."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.method = method

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _RELUS:
            return apply_function(_Rectify, args[0], self.method)
        return func(*args, **(kwargs or {}))
