"""Regions that move along the optical flow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from convnd_tasks.modalities.video.flow import FlowPair, consistency_mask, warp

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RegionMotion"]

_BAND = 16.0
"""Largest distance from a border in pixels that is told apart."""

_RADIUS, _STRIDE = 12, 2
"""Radius in pixels, and step, of the window in which pixels vote for a new one."""

_SIMILAR = 0.08
"""Standard deviation of the colours that count as similar."""


class RegionMotion:
    """Regions of a first frame, moved to later frames.

    For each region, the signed distance of each pixel to its border moves along the flow (a level
    set). Near a border it is linear, so that it keeps positions between pixels and borders do not
    blur, as those of resampled shares would. Pixels that become visible have no earlier place: the
    pixels around them vote for their region, weighted by distance and similar colour.

    Args:
        shares: share of each region in the first frame, ``(1, K, H, W)``; the rest is a region too.

    >>> shares = torch.zeros(1, 1, 1, 6)
    >>> shares[..., 1:3] = 1
    >>> motion, right = RegionMotion(shares), torch.zeros(2, 1, 6)
    >>> right[1] = 1
    >>> motion.advance(FlowPair(right, -right), torch.zeros(1, 3, 1, 6))
    >>> motion.shares().flatten().tolist()
    [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, shares: Tensor) -> None:
        self._first: Tensor | None = shares
        rest = (1 - shares.sum(1, keepdim=True)).clamp(0, 1)
        labels = torch.cat([shares, rest], 1).argmax(1)[0]
        planes = [_signed_distance(labels == index) for index in range(shares.shape[1] + 1)]
        self._distances = torch.stack(planes)[None]

    def advance(self, flow: FlowPair, frame: Tensor) -> None:
        """Move the regions to the next frame.

        Args:
            flow: flow from the frame to the next one.
            frame: the next frame, ``(1, 3, H, W)``.
        """
        self._first = None
        valid = consistency_mask(flow.backward, flow.forward, keep_boundaries=True)[0, 0] > 0
        distances = warp(self._distances, flow.backward)
        if not bool(valid.all()):
            votes = _vote(distances[0].argmax(0), valid, frame[0], distances.shape[1])
            distances[0][:, ~valid] = torch.where(
                votes.sum(0) > 0, 2 * (votes / votes.sum(0)) - 1, distances[0][:, ~valid]
            )
        self._distances = distances

    def shares(self) -> Tensor:
        """Return the share of each region in the current frame, ``(1, K, H, W)``."""
        if self._first is not None:
            return self._first
        shares = (self._distances + 0.5).clamp(0, 1)
        return (shares / shares.sum(1, keepdim=True).clamp_min(1e-6))[:, :-1]


def _signed_distance(inside: Tensor) -> Tensor:
    """Compute the distance of each pixel to a region's border, negative outside, ``(H, W)``."""
    from scipy.ndimage import distance_transform_edt

    mask = inside.numpy()
    if mask.all() or not mask.any():
        return torch.full(inside.shape, _BAND if mask.all() else -_BAND)
    distance = distance_transform_edt(mask) - distance_transform_edt(~mask)
    signed = torch.from_numpy(distance).float()
    return (signed - 0.5 * signed.sign()).clamp(-_BAND, _BAND)


def _vote(labels: Tensor, valid: Tensor, frame: Tensor, count: int) -> Tensor:
    """Add up the votes of the valid pixels around each invalid one.

    Args:
        labels: region of each pixel ``(H, W)``.
        valid: pixels that vote ``(H, W)``.
        frame: colours ``(3, H, W)``.
        count: number of regions.

    Returns:
        Weights of each region for each invalid pixel, ``(count, N)``.
    """
    height, width = labels.shape
    rows, columns = torch.nonzero(~valid, as_tuple=True)
    colors = frame[:, rows, columns]
    votes = torch.zeros(count, len(rows))
    steps = range(-_RADIUS, _RADIUS + 1, _STRIDE)
    for down in steps:
        for right in steps:
            y, x = rows + down, columns + right
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            difference = (frame[:, y, x] - colors).square().sum(0) / (2 * _SIMILAR**2)
            distance = (down**2 + right**2) / (2 * (_RADIUS / 2) ** 2)
            weight = (-difference - distance).exp() * (inside & valid[y, x])
            votes.scatter_add_(0, labels[y, x][None], weight[None])
    return votes
