"""Weights of one rank as weights of another."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from convnd.errors import UsageError

__all__ = ["INFLATIONS", "change_in_channels", "change_rank"]

INFLATIONS = ("mean", "centre")


def change_rank(weight: Tensor, spatial_dims: int, how: str = "mean") -> Tensor:
    r"""A convolution's weight for more or fewer spatial axes.

    New axes come first. With ``"mean"`` the kernel is repeated along them and divided by its width
    (Carreira and Zisserman, 2017: every plane counts alike); with ``"centre"`` it stands in the
    middle plane of zeros. Downwards the leading axes are summed. In every case a signal that is
    constant along the axis gives the answer of the lower rank (away from zero padding).

    Args:
        weight: ``(out, in, *K)``.
        spatial_dims: number of kernel axes of the result.
        how: ``"mean"`` or ``"centre"``.

    Returns:
        ``(out, in, *K')``.

    Raises:
        UsageError: ``how`` is something else.

    >>> import torch
    >>> weight = torch.ones(1, 1, 3, 3)
    >>> change_rank(weight, 3).shape, change_rank(weight, 1).flatten().tolist()
    (torch.Size([1, 1, 3, 3, 3]), [3.0, 3.0, 3.0])
    """
    if how not in INFLATIONS:
        raise UsageError(
            f"change_rank: expected how to be one of {', '.join(INFLATIONS)}, got {how!r}; "
            "choose one"
        )
    width = weight.shape[-1]
    while weight.ndim - 2 > spatial_dims:
        weight = weight.sum(2)
    while weight.ndim - 2 < spatial_dims:
        planes = weight.unsqueeze(2).expand(-1, -1, width, *weight.shape[2:])
        if how == "mean":
            weight = planes / width
        else:
            weight = planes.clone()
            weight[:, :, : width // 2] = 0
            weight[:, :, width // 2 + 1 :] = 0
    return weight.contiguous()


def change_in_channels(
    weights: Mapping[str, Tensor], first: str, channels: int
) -> dict[str, Tensor]:
    r"""Weights for data with another number of channels.

    The weights of the first layer are summed over its inputs and spread evenly over the new
    ones, so that data whose channels are alike gives the answer to a grey picture. The means
    :math:`m_c` become one mean, and what that changes, :math:`\sum_c w_c (\bar m - m_c)`, goes into
    the bias: exact away from the zero padding.

    Args:
        weights: ``mean`` ``(C,)``, ``{first}.weight`` ``(out, C, *K)`` and ``{first}.bias``.
        first: name of the first layer.
        channels: number of input channels of the result.

    Returns:
        The weights with those three replaced.

    >>> import torch
    >>> rgb = {"mean": torch.tensor([0.4, 0.5, 0.6]), "c.bias": torch.zeros(1)}
    >>> grey = change_in_channels({**rgb, "c.weight": torch.ones(1, 3, 1)}, "c", 1)
    >>> grey["c.weight"].flatten().tolist(), grey["mean"].tolist()
    ([3.0], [0.5])
    """
    weight, mean = weights[f"{first}.weight"], weights["mean"]
    if weight.shape[1] == channels:
        return dict(weights)
    spread = (weight.sum(1, keepdim=True) / channels).expand(-1, channels, *weight.shape[2:])
    common = mean.mean()
    shift = weight.flatten(2).sum(2) @ (common - mean)  # (out,)
    return {
        **weights,
        "mean": common.repeat(channels),
        f"{first}.weight": spread.contiguous(),
        f"{first}.bias": weights[f"{first}.bias"] + shift,
    }
