"""What in an input excited a unit, and where each channel is active."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from convnd.backbones import Backbone
from convnd.errors import UsageError
from convnd.nn import resize_nd
from convnd.registry import unknown_name

__all__ = ["METHODS", "channel_maps", "explain"]

METHODS = ("guided", "deconvnet", "gradient")
"""What a rectifier lets back through: what was and is above zero; what is; what was."""


def explain(
    network: Backbone,
    x: Tensor,
    layer: str,
    unit: int,
    position: Sequence[int],
    *,
    method: str = "guided",
) -> Tensor:
    r"""What in an input excited a unit at a position.

    The activation is carried back to the input. Poolings send it to where the maximum was; at a
    rectifier with input :math:`h` and gradient :math:`g` goes back

    ============ ===================== ==========================================
    gradient     :math:`g\,[h>0]`       Simonyan, Vedaldi and Zisserman (2013)
    deconvnet    :math:`g\,[g>0]`       Zeiler and Fergus (2013)
    guided       :math:`g\,[h>0][g>0]`  Springenberg et al. (2014)
    ============ ===================== ==========================================

    Every call of torch's ReLU is met, in functions and modules alike, so this works for any
    network that rectifies with it.

    Args:
        network: as in the search.
        x: ``(1, C, *S)`` as the network takes it.
        layer: one of its layers.
        unit: channel.
        position: in the feature map.
        method: one of `METHODS`.

    Returns:
        ``(1, C, *S)``: zero outside of the receptive field.

    Raises:
        UnknownNameError: no such layer or method.

    >>> from torch import nn
    >>> from convnd_tasks.inspect import network_from_module
    >>> net = nn.Sequential(nn.Conv1d(1, 1, 2, bias=False), nn.ReLU())
    >>> _ = net[0].load_state_dict({"weight": torch.tensor([[[-1.0, 1.0]]])})
    >>> explain(network_from_module(net, ["1"]), torch.tensor([[[1.0, 2, 4, 4]]]), "1", 0, (1,))
    tensor([[[ 0., -1.,  1.,  0.]]])
    """
    if method not in METHODS:
        raise unknown_name("explain: method", method, list(METHODS))
    x = x.detach().clone().requires_grad_()
    # Layers that are not trained are joined with their ReLU, where no call of it could be met.
    frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_()
    try:
        with torch.enable_grad(), _Rectifiers(method):
            value = network(x, [layer])[layer][(0, unit, *position)]
        gradient: Tensor = torch.autograd.grad(value, x)[0]
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
    return gradient


def channel_maps(
    network: Backbone, x: Tensor, layer: str, units: Sequence[int], *, enlarge: bool = True
) -> Tensor:
    """Where in an input channels are active.

    Args:
        network: as in the search.
        x: ``(1, C, *S)`` as the network takes it.
        layer: one of its layers.
        units: channels.
        enlarge: bring the maps to the size of the input, by linear interpolation.

    Returns:
        ``(len(units), *S)``, or at the layer's own size.

    Raises:
        UnknownNameError: no such layer.
        UsageError: no such unit.
    """
    with torch.inference_mode():
        features: Tensor = network(x, [layer])[layer]
    if max(units) >= features.shape[1] or min(units) < 0:
        raise UsageError(
            f"channel maps: expected units from 0 to {features.shape[1] - 1} in {layer}, got "
            f"{list(units)}; choose from these"
        )
    maps = features[:, list(units)].float()
    if enlarge:
        maps = resize_nd(maps, x.shape[2:], mode="linear")
    return maps[0].cpu()


class _Rectify(torch.autograd.Function):
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


class _Rectifiers(TorchFunctionMode):
    """While active, torch's ReLU sends back what the method says."""

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
            return _Rectify.apply(args[0], self.method)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))
