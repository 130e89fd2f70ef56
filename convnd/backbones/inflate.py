"""Weights of one rank as weights of another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor

from convnd.errors import UsageError

__all__ = ["INFLATIONS", "change_in_channels", "change_rank"]

INFLATIONS = ("mean", "centre", "acs")


def change_rank(weight: Tensor, spatial_dims: int, how: str = "mean") -> Tensor:
    r"""A convolution's weight for more or fewer spatial axes.

    Downwards the leading axes are summed. Upwards:

    - ``"mean"``: new axes come first; the kernel is repeated along them and divided by its width
      (Carreira and Zisserman, 2017: every plane counts alike).
    - ``"centre"``: new axes come first; the kernel stands in the middle plane of zeros.
    - ``"acs"``: from n axes to N, every choice of n of the N axes gets an equal share of the output
      channels, in order, and their kernels stand along these axes in the middle of zeros (Yang et
      al., 2019: axial, coronal and sagittal planes of a volume). From 2 to 3 axes the choices are
      (0, 1), (0, 2) and (1, 2); where the shares cannot be equal, the first ones have one more.

    A signal that is constant along an axis gives the answer of this weight with that axis summed.
    With ``"mean"`` and ``"centre"`` that is the weight of the lower rank itself, where the axis is
    the first. With ``"acs"`` it is so for the channels whose choice leaves the axis out; the
    others see their kernel summed along it, in the middle of what is left. (Away from zero padding
    along the axis, in every case.)

    Differs from Yang et al. (2019): their kernels keep width 1 along the axes left out; ours have
    zeros there, so that one weight tensor and one convolution serve. With the padding that keeps
    the extent the values are theirs, at the cost of a dense kernel.

    Args:
        weight: ``(out, in, *K)``.
        spatial_dims: number of kernel axes of the result.
        how: one of `INFLATIONS`.

    Returns:
        ``(out, in, *K')``.

    Raises:
        UsageError: ``how`` is something else, or is "acs" and the kernel is not as wide along
            every axis.

    >>> weight = torch.ones(1, 1, 3, 3)
    >>> change_rank(weight, 3).shape, change_rank(weight, 1).flatten().tolist()
    (torch.Size([1, 1, 3, 3, 3]), [3.0, 3.0, 3.0])
    >>> change_rank(torch.tensor([[[1.0, 2, 3]], [[4, 5, 6]]]), 2, "acs").int().tolist()
    [[[[0, 1, 0], [0, 2, 0], [0, 3, 0]]], [[[0, 0, 0], [4, 5, 6], [0, 0, 0]]]]
    """
    if how not in INFLATIONS:
        raise UsageError(
            "change_rank",
            expected=f"how to be one of {', '.join(INFLATIONS)}",
            got=repr(how),
            remedy="choose one",
        )
    width = weight.shape[-1]
    if how == "acs" and weight.ndim - 2 < spatial_dims:
        return _split_over_axes(weight, spatial_dims)
    while weight.ndim - 2 > spatial_dims:
        weight = weight.sum(2)
    while weight.ndim - 2 < spatial_dims:
        if how == "mean":
            weight = weight.unsqueeze(2).expand(-1, -1, width, *weight.shape[2:]) / width
        else:
            weight = _in_the_middle(weight.unsqueeze(2), 2, width)
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
            share = _in_the_middle(share.unsqueeze(axis + 2), axis + 2, widths[0])
        shares.append(share)
    return torch.cat(shares).contiguous()


def _in_the_middle(weight: Tensor, dim: int, width: int) -> Tensor:
    """A kernel of one tap along ``dim`` as the middle one of ``width`` taps."""
    shape = list(weight.shape)
    shape[dim] = width
    planes = weight.new_zeros(shape)
    planes.select(dim, width // 2).copy_(weight.squeeze(dim))
    return planes


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
