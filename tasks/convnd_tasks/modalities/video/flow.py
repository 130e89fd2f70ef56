"""Optical flow between frames: estimation, consistency, warping, and detection of cuts.

A flow is ``(2, H, W)``, float32, in pixels along ``(y, x)``: ``flow[:, y, x]`` is the displacement
of what one frame shows at ``(y, x)`` to its place in the other frame. Masks are ``(1, 1, H, W)``
in ``{0, 1}``. Dense inverse search (Kroeger et al., 2016) comes from OpenCV.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.errors import ShapeError
from convnd.nn import resize_nd
from convnd_tasks.modalities.base import MIN_EXTENT
from convnd_tasks.modalities.images.codec import LUMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "FlowPair",
    "estimate_flow",
    "histogram_distance",
    "is_cut",
    "optical_flow",
    "smoothness_mask",
    "visibility_mask",
    "warp",
    "warp_bicubic",
    "warping_error",
    "warping_errors",
]

CUT_UNRELIABLE = 0.5
"""Smallest share of pixels with inconsistent flow at a cut."""

CUT_HISTOGRAM = 0.25
"""Smallest distance of colour histograms at a cut. A camera that moves fast makes the flow
inconsistent too, but keeps the colours."""

_BINS = 8  # of a histogram, for each colour


class FlowPair:
    """The flow between two frames in both directions.

    Its masks are those of Ruder et al. (2016), section 5.1.

    Args:
        forward: flow from the first frame to the second.
        backward: flow from the second frame to the first.
    """

    def __init__(self, forward: Tensor, backward: Tensor) -> None:
        self.forward = forward
        self.backward = backward

    @cached_property
    def visible_backward(self) -> Tensor:
        """Mask of the second frame: as `valid_backward`, with the motion boundaries."""
        return visibility_mask(self.backward, self.forward)

    @cached_property
    def visible_forward(self) -> Tensor:
        """Mask of the first frame: as `valid_forward`, with the motion boundaries."""
        return visibility_mask(self.forward, self.backward)

    @cached_property
    def valid_backward(self) -> Tensor:
        """Mask of the second frame: 1 where its flow to the first is consistent."""
        return self.visible_backward * smoothness_mask(self.backward)

    @cached_property
    def valid_forward(self) -> Tensor:
        """Mask of the first frame: 1 where its flow to the second is consistent."""
        return self.visible_forward * smoothness_mask(self.forward)

    def resized(self, size: Sequence[int], speed: float = 1.0) -> FlowPair:
        """Resize the flows to frames of another size; displacements in pixels do not change.

        Args:
            size: height and width.
            speed: factor of the displacements.
        """

        def resize(flow: Tensor) -> Tensor:
            return speed * resize_nd(flow[None], size, mode="linear", antialias=True)[0]

        return FlowPair(resize(self.forward), resize(self.backward))

    def compose(self, other: FlowPair) -> FlowPair:
        """Append another flow, which starts at the end of this one."""
        return FlowPair(
            self.forward + warp(other.forward[None], self.forward)[0],
            other.backward + warp(self.backward[None], other.backward)[0],
        )


def estimate_flow(first: Tensor, second: Tensor) -> FlowPair:
    """Estimate the flow between two frames in both directions.

    Args:
        first: ``(1, 3, H, W)`` in ``[0, 1]``.
        second: frame of the same shape.

    Raises:
        ShapeError: the shapes differ, or a side is shorter than 16 pixels.
    """
    return FlowPair(optical_flow(first, second), optical_flow(second, first))


def optical_flow(source: Tensor, target: Tensor) -> Tensor:
    """Estimate the displacement of each pixel from one frame to another.

    Args:
        source: ``(1, 3, H, W)`` in ``[0, 1]``, at least 16 pixels along each side.
        target: frame of the same shape.

    Returns:
        ``(2, H, W)`` on the CPU.

    Raises:
        ShapeError: the shapes differ, or a side is too short.
    """
    import cv2

    if source.shape != target.shape or min(source.shape[2:]) < MIN_EXTENT:
        raise ShapeError(
            "optical flow",
            expected=(
                f"two frames of the same size of at least {MIN_EXTENT} pixels along each side"
            ),
            got=f"{tuple(source.shape)} and {tuple(target.shape)}",
            remedy="resize them",
        )
    search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: Any = search.calc(_luma_codes(source), _luma_codes(target), None)
    return torch.from_numpy(flow).permute(2, 0, 1).flip(0).contiguous()


def warp(values: Tensor, flow: Tensor) -> Tensor:
    """Sample values at the ends of a flow: ``out[p] = values[p + flow[p]]``, bilinear.

    Args:
        values: ``(B, C, H, W)``.
        flow: ``(2, H, W)``; a position outside the frame is moved to its border.

    Returns:
        ``(B, C, H, W)``; exact where the flow is whole pixels.

    >>> row = torch.tensor([[[[0.0, 1.0, 4.0]]]])
    >>> warp(row, torch.tensor([[[0.0, 0.0, 0.0]], [[1.0, 0.5, 9.0]]])).tolist()
    [[[[1.0, 2.5, 4.0]]]]
    """
    height, width = values.shape[2:]
    y, x = _positions(flow)
    y, x = y.clamp(0, height - 1), x.clamp(0, width - 1)
    top, left = y.floor(), x.floor()
    down, right = y - top, x - left
    top_row, left_column = top.int(), left.int()
    rows = [top_row, (top_row + 1).clamp_max(height - 1)]
    columns = [left_column, (left_column + 1).clamp_max(width - 1)]
    flat = values.flatten(0, 1).flatten(1)

    def pick(row: Tensor, column: Tensor) -> Tensor:  # six times as fast as two index tensors
        return flat.index_select(1, (row * width + column).flatten()).view(values.shape)

    upper, lower = (
        pick(row, columns[0]) * (1 - right) + pick(row, columns[1]) * right for row in rows
    )
    return upper * (1 - down) + lower * down


def warp_bicubic(values: Tensor, flow: Tensor) -> Tensor:
    """Sample values at the ends of a flow, with less blur than `warp`.

    Args:
        values: ``(B, C, H, W)``.
        flow: ``(2, H, W)``; a position outside the frame is moved to its border.

    Returns:
        ``(B, C, H, W)``.
    """
    height, width = values.shape[2:]
    y, x = _positions(flow)
    places = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], -1)
    return F.grid_sample(
        values, places[None], mode="bicubic", padding_mode="border", align_corners=True
    )


def visibility_mask(flow: Tensor, reverse: Tensor) -> Tensor:
    r"""Compute which pixels the other frame shows too, by the reverse flow.

    With the flow :math:`w` at a pixel and the reverse flow :math:`ŵ` at its end, a pixel is not
    visible if one of these conditions holds:

    - the flow leads out of the frame,
    - the pixel is occluded: :math:`|w + ŵ|^2 \ge 0.01 (|w|^2 + |ŵ|^2) + 0.5`.

    Args:
        flow: ``(2, H, W)``.
        reverse: flow from the other frame back, ``(2, H, W)``.

    Returns:
        ``(1, 1, H, W)``, 1 where the pixel is visible.
    """
    height, width = flow.shape[1:]
    y, x = _positions(flow)
    is_inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    returned_flow = warp(reverse[None], flow)[0]
    length = flow.square().sum(0)
    gap = (flow + returned_flow).square().sum(0)
    is_occluded = gap >= 0.01 * (length + returned_flow.square().sum(0)) + 0.5
    return (is_inside & ~is_occluded).to(flow.dtype)[None, None]


def smoothness_mask(flow: Tensor) -> Tensor:
    r"""Compute which pixels of a flow :math:`w = (u, v)` do not lie on a motion boundary.

    On a boundary, :math:`|∇u|^2 + |∇v|^2 > 0.01 |w|^2 + 0.002`.

    Args:
        flow: ``(2, H, W)``.

    Returns:
        ``(1, 1, H, W)``, 1 away from boundaries.
    """
    down, right = torch.gradient(flow, dim=(1, 2))
    change = down.square().sum(0) + right.square().sum(0)
    return (change <= 0.01 * flow.square().sum(0) + 0.002).to(flow.dtype)[None, None]


def histogram_distance(first: Tensor, second: Tensor) -> float:
    """Compute half the summed difference of two colour histograms of 8 × 8 × 8 cells.

    It is 0 for equal and 1 for disjoint histograms.

    Args:
        first: ``(1, 3, H, W)`` in ``[0, 1]``.
        second: picture of any size.

    >>> black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    >>> histogram_distance(black, white), histogram_distance(black, black)
    (1.0, 0.0)
    """

    def histogram(values: Tensor) -> Tensor:
        cells = (values[0].flatten(1) * _BINS).long().clamp(0, _BINS - 1)
        cell = (cells[0] * _BINS + cells[1]) * _BINS + cells[2]
        return torch.bincount(cell, minlength=_BINS**3) / cell.numel()

    return float((histogram(first) - histogram(second)).abs().sum() / 2)


def is_cut(first: Tensor, second: Tensor, valid_backward: Tensor) -> bool:
    """Whether a new scene begins: most of the flow is inconsistent, and the colours differ.

    Args:
        first: the frame before, ``(1, 3, H, W)`` in ``[0, 1]``.
        second: the frame.
        valid_backward: `FlowPair.valid_backward`.
    """
    unreliable = 1 - float(valid_backward.mean())
    return unreliable >= CUT_UNRELIABLE and histogram_distance(first, second) >= CUT_HISTOGRAM


def warping_error(first: Tensor, second: Tensor, flows: FlowPair) -> float:
    r"""Compute E_warp of two neighbouring frames (Lai et al., 2018, eq. 9).

    .. math:: \frac{1}{\sum_p M_p} \sum_p M_p \lVert O_t(p) - O_{t+1}(p + w(p)) \rVert^2

    over the three channels in ``[0, 1]``, with the frames :math:`O` of the result, the flow ``w``
    of the *input* from ``t`` to ``t+1``, and its mask ``M`` of valid pixels. E_warp of a video is
    the mean over its pairs of frames. Unlike in the paper, the flow is that of DIS, not FlowNet2.

    Args:
        first: the result at ``t``, ``(1, 3, H, W)``.
        second: the result at ``t + 1``.
        flows: flow between the frames of the input.

    Returns:
        NaN if no pixel is valid.
    """
    (error,) = warping_errors([first], [second], flows)
    return error


def warping_errors(
    firsts: Sequence[Tensor], seconds: Sequence[Tensor], flows: FlowPair
) -> list[float]:
    """Compute `warping_error` of several pairs of frames along the same flow.

    Args:
        firsts: frames at ``t``, ``(1, 3, H, W)`` each.
        seconds: frames at ``t + 1``.
        flows: flow between the frames of the input.
    """
    mask = flows.valid_forward
    warped_frames = warp(torch.cat([*seconds]), flows.forward)
    squared_errors = (torch.cat([*firsts]) - warped_frames).square().sum(1, keepdim=True)
    count = float(mask.sum())
    totals = [float((mask * errors).sum()) for errors in squared_errors.split(1)]
    return [total / count if count else float("nan") for total in totals]


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates ``(y, x)`` of the end of the flow at each pixel."""
    height, width = flow.shape[1:]
    y = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    x = torch.arange(width, dtype=flow.dtype, device=flow.device)[None]
    return y + flow[0], x + flow[1]


def _luma_codes(values: Tensor) -> NDArray[Any]:
    """Convert a frame to luma in codes of 8 bits, ``(H, W)``."""
    weights = values.new_tensor(LUMA).view(3, 1, 1)
    luma = (values[0] * weights).sum(0).clamp(0, 1).mul(255).round()
    codes: NDArray[Any] = luma.to("cpu", torch.uint8).numpy()
    return codes
