"""Motion between frames: optical flow, what can be relied on of it, warping, cuts.

A flow is ``(2, H, W)``, float32, in pixels along ``(y, x)``: ``flow[:, y, x]`` is how far what the
one frame shows at ``(y, x)`` has gone in the other. Masks are ``(1, 1, H, W)`` in ``{0, 1}``. The
dense inverse search of Kroeger et al. (2016) comes from OpenCV; the rest is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from convnd.errors import ShapeError
from convnd.nn import resize_nd

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Motion",
    "histogram_distance",
    "is_cut",
    "motion",
    "optical_flow",
    "reliable",
    "warp",
    "warping_error",
]

CUT_UNRELIABLE = 0.5
"""Share of pixels without a reliable flow from which on a new scene is suspected."""

CUT_HISTOGRAM = 0.25
"""Distance of colour histograms from which on the suspicion counts: a camera that moves fast
loses pixels as well, and keeps its colours."""

_SMALLEST = 16
_LUMA = (0.299, 0.587, 0.114)
_BINS = 8


class Motion:
    """What two frames know of each other.

    Args:
        forward: flow from the first to the second.
        backward: flow from the second to the first.
    """

    def __init__(self, forward: Tensor, backward: Tensor) -> None:
        self.forward = forward
        self.backward = backward

    @property
    def seen_before(self) -> Tensor:
        """Mask of the second frame: where its flow to the first can be relied on."""
        return reliable(self.backward, self.forward)

    @property
    def seen_after(self) -> Tensor:
        """Mask of the first frame: where its flow to the second can be relied on."""
        return reliable(self.forward, self.backward)

    def over(self, plane: Sequence[int], speed: float = 1.0) -> Motion:
        """The same spread over frames of another size; pixels a frame stay as many, times speed."""

        def spread(flow: Tensor) -> Tensor:
            return speed * resize_nd(flow[None], plane, mode="linear", antialias=True)[0]

        return Motion(spread(self.forward), spread(self.backward))

    def then(self, other: Motion) -> Motion:
        """What goes along with this, and from there as ``other`` says."""
        return Motion(
            self.forward + warp(other.forward[None], self.forward)[0],
            other.backward + warp(self.backward[None], other.backward)[0],
        )


def motion(first: Tensor, second: Tensor) -> Motion:
    """Flow between two frames, both ways.

    Args:
        first: ``(1, 3, H, W)`` in ``[0, 1]``.
        second: of the same shape.

    Raises:
        ShapeError: the shapes differ.
    """
    return Motion(optical_flow(first, second), optical_flow(second, first))


def optical_flow(source: Tensor, target: Tensor) -> Tensor:
    """Where each pixel of the one frame is in the other.

    Args:
        source: ``(1, 3, H, W)`` in ``[0, 1]``, at least 16 pixels along each side.
        target: of the same shape.

    Returns:
        ``(2, H, W)`` on the CPU.

    Raises:
        ShapeError: the shapes differ.
    """
    import cv2

    if source.shape != target.shape or min(source.shape[2:]) < _SMALLEST:
        raise ShapeError(
            f"optical flow: expected two frames of one size from {_SMALLEST} pixels on, got "
            f"{tuple(source.shape)} and {tuple(target.shape)}; bring both to one size"
        )
    # The stubs of OpenCV 5 lack it.
    search: Any = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
        cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
    )
    found: Any = search.calc(_grey(source), _grey(target), None)
    return torch.from_numpy(found).permute(2, 0, 1).flip(0).contiguous()


def warp(values: Tensor, flow: Tensor) -> Tensor:
    """What is where the flow leads: ``out[p] = values[p + flow[p]]``, bilinear.

    Args:
        values: ``(B, C, H, W)``.
        flow: ``(2, H, W)``; a place outside is taken at the border.

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
    rows = [top.long(), (top.long() + 1).clamp_max(height - 1)]
    columns = [left.long(), (left.long() + 1).clamp_max(width - 1)]
    upper = (
        values[..., rows[0], columns[0]] * (1 - right) + values[..., rows[0], columns[1]] * right
    )
    lower = (
        values[..., rows[1], columns[0]] * (1 - right) + values[..., rows[1], columns[1]] * right
    )
    return upper * (1 - down) + lower * down


def reliable(flow: Tensor, back: Tensor, *, borders: bool = False) -> Tensor:
    r"""Where a flow can be relied on, by the rules of Ruder et al. (2016), section 5.1.

    With the flow ``w`` at a pixel and the flow back ``ŵ`` where it leads, a pixel is not reliable
    where one of these holds:

    - it leads out of the frame,
    - it is covered: :math:`|w + ŵ|^2 \ge 0.01 (|w|^2 + |ŵ|^2) + 0.5`,
    - it is at the border of a motion: :math:`|∇u|^2 + |∇v|^2 > 0.01 |w|^2 + 0.002`.

    Args:
        flow: ``(2, H, W)``.
        back: the flow of the other frame, ``(2, H, W)``.
        borders: whether the last rule is left out.

    Returns:
        ``(1, 1, H, W)``, 1 is reliable.
    """
    height, width = flow.shape[1:]
    y, x = _positions(flow)
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)
    returned = warp(back[None], flow)[0]
    length = flow.square().sum(0)
    covered = (flow + returned).square().sum(0) >= 0.01 * (length + returned.square().sum(0)) + 0.5
    found = inside & ~covered
    if not borders:
        down, right = torch.gradient(flow, dim=(1, 2))
        found &= down.square().sum(0) + right.square().sum(0) <= 0.01 * length + 0.002
    return found.to(flow.dtype)[None, None]


def histogram_distance(one: Tensor, other: Tensor) -> float:
    """Half the summed difference of two colour histograms: 0 is alike, 1 nothing in common.

    Args:
        one: ``(1, 3, H, W)`` in ``[0, 1]``, counted in 8 × 8 × 8 cells.
        other: of any size.

    >>> black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    >>> histogram_distance(black, white), histogram_distance(black, black)
    (1.0, 0.0)
    """

    def histogram(values: Tensor) -> Tensor:
        cells = (values[0].flatten(1) * _BINS).long().clamp(0, _BINS - 1)
        cell = (cells[0] * _BINS + cells[1]) * _BINS + cells[2]
        return torch.bincount(cell, minlength=_BINS**3) / cell.numel()

    return float((histogram(one) - histogram(other)).abs().sum() / 2)


def is_cut(first: Tensor, second: Tensor, seen_before: Tensor) -> bool:
    """Whether a new scene begins: most of the flow is unreliable, and the colours are others.

    Args:
        first: the frame before, ``(1, 3, H, W)`` in ``[0, 1]``.
        second: the frame.
        seen_before: `Motion.seen_before`.
    """
    unreliable = 1 - float(seen_before.mean())
    return unreliable >= CUT_UNRELIABLE and histogram_distance(first, second) >= CUT_HISTOGRAM


def warping_error(first: Tensor, second: Tensor, movement: Motion) -> float:
    r"""E_warp of a pair of frames, Lai et al. (2018), eq. 9.

    .. math:: \frac{1}{\sum_p M_p} \sum_p M_p \lVert O_t(p) - O_{t+1}(p + w(p)) \rVert^2

    over the three channels in ``[0, 1]``, with the flow ``w`` of the *input* from ``t`` to ``t+1``
    and ``M`` its `reliable`, borders of motion included. That of a clip is the mean over its pairs.
    Differs from the paper: DIS instead of FlowNet2.

    Args:
        first: the result at ``t``, ``(1, 3, H, W)``.
        second: the result at ``t + 1``.
        movement: of the input's frames.

    Returns:
        NaN where nothing is reliable.
    """
    mask = movement.seen_after
    moved = warp(second, movement.forward)
    squared = (first - moved).square().sum(1, keepdim=True)
    count = float(mask.sum())
    return float((mask * squared).sum()) / count if count else float("nan")


def _positions(flow: Tensor) -> tuple[Tensor, Tensor]:
    height, width = flow.shape[1:]
    y = torch.arange(height, dtype=flow.dtype, device=flow.device)[:, None]
    x = torch.arange(width, dtype=flow.dtype, device=flow.device)[None]
    return y + flow[0], x + flow[1]


def _grey(values: Tensor) -> NDArray[Any]:
    weights = values.new_tensor(_LUMA).view(3, 1, 1)
    luma = (values[0] * weights).sum(0).clamp(0, 1).mul(255).round()
    found: NDArray[Any] = luma.to("cpu", torch.uint8).numpy()
    return found
