"""Convolution weights for another number of spatial axes, or of input channels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from convnd.errors import UsageError
from convnd.registry import check_name

__all__ = ["INFLATIONS", "change_in_channels", "change_rank"]

INFLATIONS = ("mean", "centre", "acs")
"""Names of the ways to give a kernel more axes, see `change_rank`."""


def change_rank(weight: Tensor, spatial_dims: int, inflation: str = "mean") -> Tensor:
    r"""Convert a convolution's weight to more or fewer spatial axes.

    For fewer axes, the leading ones are summed. For more:

    - ``"mean"``: new axes come first; the kernel is repeated along them and divided by its width,
      so that every plane counts the same (Carreira and Zisserman, 2017).
    - ``"centre"``: new axes come first; the kernel is the middle plane, the others are zero.
    - ``"acs"`` (Yang et al., 2019: axial, coronal and sagittal planes of a volume): from n axes to
      N, each choice of n of the N axes gets an equal share of the output channels, in order. The
      kernels of a share lie along its axes, with zeros on both sides. From 2 to 3 axes the choices
      are (0, 1), (0, 2) and (1, 2). If the shares cannot be equal, the first ones have one more.

    On a field that is constant along an axis, the result acts like the weight summed over that
    axis. With ``"mean"`` and ``"centre"``, and the first axis, that is the weight of the lower rank
    itself. With ``"acs"`` that holds for the channels whose choice leaves the axis out; the kernels
    of the others are summed along it, in the middle of the remaining axes. (All this away from
    zero padding along the axis.)

    Differs from Yang et al. (2019): their kernels stay 1 wide along the axes left out, ours have
    zeros there, so that one weight tensor and one convolution suffice. With padding that keeps the
    extent the values are theirs, at the cost of a dense kernel.

    Args:
        weight: ``(out, in, *K)``.
        spatial_dims: number of kernel axes of the result.
        inflation: one of `INFLATIONS`.

    Returns:
        ``(out, in, *K')``.

    Raises:
        UsageError: no such inflation, or "acs" for a kernel with different widths.

    >>> weight = torch.ones(1, 1, 3, 3)
    >>> change_rank(weight, 3).shape, change_rank(weight, 1).flatten().tolist()
    (torch.Size([1, 1, 3, 3, 3]), [3.0, 3.0, 3.0])
    >>> change_rank(torch.tensor([[[1.0, 2, 3]], [[4, 5, 6]]]), 2, "acs").int().tolist()
    [[[[0, 1, 0], [0, 2, 0], [0, 3, 0]]], [[[0, 0, 0], [4, 5, 6], [0, 0, 0]]]]
    """
    check_name("inflation", inflation, INFLATIONS)
    width = weight.shape[-1]
    if inflation == "acs" and weight.ndim - 2 < spatial_dims:
        return _split_over_axes(weight, spatial_dims)
    while weight.ndim - 2 > spatial_dims:
        weight = weight.sum(2)
    while weight.ndim - 2 < spatial_dims:
        if inflation == "mean":
            weight = weight.unsqueeze(2).expand(-1, -1, width, *weight.shape[2:]) / width
        else:
            weight = _embed_in_zeros(weight.unsqueeze(2), 2, width)
    return weight.contiguous()


def _split_over_axes(weight: Tensor, spatial_dims: int) -> Tensor:
    widths = tuple(weight.shape[2:])
    if len(set(widths)) > 1:
        raise UsageError(
            "change_rank",
            expected="for acs a kernel as wide along every axis",
            got="x".join(map(str, widths)),
            remedy="use mean or centre",
        )
    choices = list(itertools.combinations(range(spatial_dims), len(widths)))
    shares = []
    for axes, share in zip(choices, weight.tensor_split(len(choices)), strict=True):
        for axis in sorted(set(range(spatial_dims)) - set(axes)):
            share = _embed_in_zeros(share.unsqueeze(axis + 2), axis + 2, widths[0])
        shares.append(share)
    return torch.cat(shares).contiguous()


def _embed_in_zeros(weight: Tensor, dim: int, width: int) -> Tensor:
    """Widen a kernel that is 1 wide along ``dim`` to ``width``, with zeros on both sides."""
    shape = list(weight.shape)
    shape[dim] = width
    planes = weight.new_zeros(shape)
    planes.select(dim, width // 2).copy_(weight.squeeze(dim))
    return planes


def change_in_channels(
    weights: Mapping[str, Tensor], first: str, channels: int
) -> dict[str, Tensor]:
    r"""Convert weights to data with another number of channels.

    The weights of the first layer are summed over its input channels and divided evenly among the
    new ones. So data with equal channels has the features of a grey picture. The means :math:`m_c`
    become one mean :math:`\bar m`, and the bias gains :math:`\sum_c w_c (\bar m - m_c)`, which
    makes up for it exactly away from the zero padding.

    Args:
        weights: ``mean`` ``(C,)``, ``{first}.weight`` ``(out, C, *K)`` and ``{first}.bias``.
        first: name of the first layer.
        channels: number of input channels of the result.

    Returns:
        ``weights`` with those three entries replaced.

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
