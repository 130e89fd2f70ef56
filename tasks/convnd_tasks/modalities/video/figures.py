"""Figures of videos: frames of input and result, one column over time, and measures over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convnd_tasks.runtime.plots import COLORS, encode, encode_pixels, join_pictures, new_figure

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = ["PreviewCollector", "plot_timeline"]

_SHEET_FRAMES = 8
_HEIGHT = 144  # pixels of a frame on the contact sheet
_GAP = 4
_MAX_COLUMNS = 4000  # of a slit scan


class PreviewCollector:
    """Collects small previews of frames as they are decoded and written.

    A slit scan shows the middle column of every frame side by side. Even motion is a slanting line
    in it, and flicker is upright stripes.
    """

    def __init__(self) -> None:
        self._thumbs: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
        self._columns: tuple[dict[int, Any], dict[int, Any]] = ({}, {})
        self._strides = [1, 1]

    def add_content(self, number: int, values: Tensor) -> None:
        """Add a frame of the input ``(1, 3, H, W)``."""
        self._add(0, number, values)

    def add_result(self, number: int, values: Tensor) -> None:
        """Add a frame of the result ``(1, 3, H, W)``."""
        self._add(1, number, values)

    def sheet(self) -> bytes:
        """Draw frames of the input in the upper row and of the result in the lower one, as PNG."""
        numbers = sorted(self._thumbs[0].keys() & self._thumbs[1].keys())
        count = min(_SHEET_FRAMES, len(numbers))
        indices = dict.fromkeys(np.linspace(0, len(numbers) - 1, count).round().astype(int))
        rows = [[thumbs[numbers[index]] for index in indices] for thumbs in self._thumbs]
        return encode_pixels(
            join_pictures([join_pictures(row, axis=1, gap=_GAP) for row in rows], axis=0, gap=_GAP)
        )

    def slit_scan(self) -> bytes:
        """Draw the middle column over time, of the input above that of the result, as PNG."""
        numbers = sorted(self._columns[0].keys() & self._columns[1].keys())[:_MAX_COLUMNS]
        width = max(1, 480 // max(1, len(numbers)))
        rows = [
            np.stack([columns[number] for number in numbers], 1).repeat(width, 1)
            for columns in self._columns
        ]
        return encode_pixels(join_pictures(rows, axis=0, gap=_GAP))

    def _add(self, which: int, number: int, values: Tensor) -> None:
        from convnd.nn import resize_nd

        pixels = _pixels(values)
        if len(self._columns[which]) < _MAX_COLUMNS:
            self._columns[which][number] = pixels[:, pixels.shape[1] // 2].copy()
        thumbs = self._thumbs[which]
        if number % self._strides[which] == 0:
            height, width = values.shape[2:]
            size = (_HEIGHT, max(1, round(width * _HEIGHT / height)))
            small = values if height <= _HEIGHT else resize_nd(values, size, mode="linear")
            thumbs[number] = _pixels(small)
        while len(thumbs) > 4 * _SHEET_FRAMES:  # a long video keeps every second, fourth, … frame
            self._strides[which] *= 2
            for other in [other for other in thumbs if other % self._strides[which]]:
                del thumbs[other]


def plot_timeline(records: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw the loss, the warping error and the seconds of every frame, as PNG.

    Args:
        records: of finished frames in their order, see `StylizedFrame`.
    """
    figure, axes = new_figure(7, 5.4, rows=3)
    numbers = range(len(records))
    names = list(dict.fromkeys(name for record in records for name in record["parts"]))
    for name in names:
        axes[0, 0].plot(numbers, [record["parts"].get(name) for record in records], label=name)
    axes[0, 0].set_ylabel("loss")
    for key, label, color in (
        ("input_e_warp", "input", COLORS[6]),
        ("e_warp", "result", COLORS[1]),
    ):
        values = [_number(record[key]) for record in records]
        axes[1, 0].plot(numbers, values, label=label, color=color)
    axes[1, 0].set_ylabel("E_warp")
    bottom = np.zeros(len(records))
    for key in ("features", "flow", "codec"):
        seconds = np.array([record[key] for record in records])
        axes[2, 0].bar(numbers, seconds, bottom=bottom, width=0.9, label=key)
        bottom = bottom + seconds
    axes[2, 0].set_ylabel("seconds")
    axes[2, 0].set_xlabel("frame")
    for axis in axes[:, 0]:
        for number, record in enumerate(records):
            if record["cut"] and number:
                axis.axvline(number - 0.5, color="#999999", linewidth=0.8, linestyle=":")
        axis.set_ylim(bottom=0)
        axis.set_xlim(-0.6, max(1, len(records)) - 0.4)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", alpha=0.25, linewidth=0.5)
        axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    return encode(figure, "png")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _pixels(values: Tensor) -> NDArray[Any]:
    codes = values[0].detach().cpu().clamp(0, 1).mul(255).round_().byte()
    pixels: NDArray[Any] = codes.permute(1, 2, 0).contiguous().numpy()
    return pixels
