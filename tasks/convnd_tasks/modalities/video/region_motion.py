"""Regions that move along the optical flow."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from convnd_tasks.modalities.video.flow import FlowPair, warp

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RegionMotion"]

_BAND = 16.0
"""Largest distance from a border in pixels that is told apart."""

_RADIUS, _STRIDE = 12, 4
"""Radius in pixels, and step, of the window in which pixels vote for a new one."""

_SIMILAR, _SAME_MOTION = 0.08, 0.5
"""Standard deviations of colours, and of displacements in pixels, that count as the same."""


class RegionMotion:
    """Regions of a first frame, moved to later frames.

    For each region, the signed distance of each pixel to its border moves along the flow (a level
    set). Near a border it is linear, so that it keeps positions between pixels and borders do not
    blur, as those of resampled shares would. Pixels that become visible have no earlier place: the
    pixels around them vote for their region, weighted by distance and similar colour; and once
    more, with the flow to the frame after it, by similar motion.

    Args:
        shares: share of each region in the first frame, ``(1, K, H, W)``; the rest is a region too.

    >>> shares = torch.zeros(1, 1, 2, 6)
    >>> shares[..., 1:3] = 1
    >>> motion, right = RegionMotion(shares), torch.zeros(2, 2, 6)
    >>> right[1] = 1
    >>> motion.advance(FlowPair(right, -right), torch.zeros(1, 3, 2, 6))
    >>> motion.shares()[0, 0, 0, 1:].tolist()
    [0.0, 1.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, shares: Tensor) -> None:
        self._first: Tensor | None = shares
        self._frame: Tensor | None = None
        self._new: Tensor | None = None
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
        if self._new is not None and self._frame is not None:
            # What became visible in the last frame moves as the region that it belongs to.
            moving = torch.cat([self._frame / _SIMILAR, flow.forward / _SAME_MOTION])
            self._elect(self._new, moving)
        valid = flow.valid_backward[0, 0] > 0
        self._distances = warp(self._distances, flow.backward)
        self._new = ~valid | ~_covered(flow.forward)
        self._frame = frame[0]
        self._elect(self._new, self._frame / _SIMILAR)

    def _elect(self, new: Tensor, features: Tensor) -> None:
        """Let the other pixels vote for the regions of new ones."""
        if not bool(new.any()):
            return
        distances = self._distances[0]
        votes = _vote(distances.argmax(0), ~new, features, len(distances))
        elected = torch.zeros_like(votes).scatter_(0, votes.argmax(0, keepdim=True), 1.0)
        distances[:, new] = torch.where(votes.sum(0) > 0, 2 * elected - 1, distances[:, new])

    def shares(self) -> Tensor:
        """Return the share of each region in the current frame, ``(1, K, H, W)``."""
        if self._first is not None:
            return self._first
        shares = (self._distances + 0.5).clamp(0, 1)
        return (shares / shares.sum(1, keepdim=True).clamp_min(1e-6))[:, :-1]


def _signed_distance(inside: Tensor) -> Tensor:
    """Compute the distance of each pixel to a region's border, negative outside, ``(H, W)``."""
    import cv2

    mask = inside.numpy()
    if mask.all() or not mask.any():
        return torch.full(inside.shape, _BAND if mask.all() else -_BAND)
    to_outside, to_inside = (
        torch.from_numpy(cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
        for part in (mask.astype("uint8"), (~mask).astype("uint8"))
    )
    signed = to_outside - to_inside
    return (signed - 0.5 * signed.sign()).clamp(-_BAND, _BAND)


def _covered(forward: Tensor) -> Tensor:
    """Return which pixels of a frame some pixel of the frame before moves to, ``(H, W)``."""
    height, width = forward.shape[1:]
    rows = torch.arange(height)[:, None] + forward[0]
    columns = torch.arange(width)[None] + forward[1]
    covered = torch.zeros(height, width)
    corners = itertools.product((0, 1), (0, 1))
    for row, column in ((rows.floor() + down, columns.floor() + right) for down, right in corners):
        weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        places = row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
        covered.view(-1).scatter_add_(0, places.flatten(), (weight * inside).flatten())
    return covered > 0.5


def _vote(labels: Tensor, valid: Tensor, features: Tensor, count: int) -> Tensor:
    """Add up the votes of the valid pixels around each invalid one.

    Args:
        labels: region of each pixel ``(H, W)``.
        valid: pixels that vote ``(H, W)``.
        features: properties of each pixel, in standard deviations, ``(C, H, W)``.
        count: number of regions.

    Returns:
        Weights of each region for each invalid pixel, ``(count, N)``.
    """
    height, width = labels.shape
    rows, columns = torch.nonzero(~valid, as_tuple=True)
    new_features = features[:, rows, columns]
    votes = torch.zeros(count, len(rows))
    steps = range(-_RADIUS, _RADIUS + 1, _STRIDE)
    for down in steps:
        for right in steps:
            y, x = rows + down, columns + right
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
            difference = (features[:, y, x] - new_features).square().sum(0) / 2
            distance = (down**2 + right**2) / (2 * (_RADIUS / 2) ** 2)
            weight = (-difference - distance).exp() * (inside & valid[y, x])
            votes.scatter_add_(0, labels[y, x][None], weight[None])
    return votes
