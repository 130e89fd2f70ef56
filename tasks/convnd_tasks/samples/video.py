"""A video of the town with exactly known motion: a camera pan, drifting clouds, a boat.

Layers move by whole pixels, so each frame repeats the samples of the one before and the flow is
exact wherever nothing becomes visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convnd.io.video.types import SRGB_TRANSFER
from convnd_tasks.samples.easel import Easel
from convnd_tasks.samples.fields import Array
from convnd_tasks.samples.sample import Sample, as_grid
from convnd_tasks.samples.scenes import paint_punt, paint_town

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.io import VideoFrame

__all__ = ["CONTENTS", "FRAME_RATE", "SampleVideo", "render_video"]

FRAME_RATE = 25.0


def render_video(shape: tuple[int, int, int], seed: int) -> tuple[Array, NDArray[np.int64]]:
    """Render the frames and their optical flow.

    Args:
        shape: ``(T, H, W)``.
        seed: seed of the scene.

    Returns:
        Frames ``(3, T, H, W)`` in ``[0, 1]``, and the flow ``(T − 1, 2, H, W)`` in pixels along
        ``(y, x)`` from frame ``t`` to ``t + 1``: ``frame[t + 1][y + dy, x + dx]`` shows what
        ``frame[t][y, x]`` shows, unless something covers it.
    """
    frames, height, width = shape
    pan = max(1, round(0.005 * height))
    town, clouds, boat = -pan, pan, 2 * pan
    travel = pan * (frames - 1)

    scene = Easel((height, width + travel), seed)
    paint_town(scene, boat=False)
    front = scene.picture - (1 - scene.cover) * scene.backdrop

    # On an empty easel a picture is its own premultiplied layer.
    punt = Easel((height, width + 2 * travel), seed)
    paint_punt(punt, (0.1 * width + 2 * travel) / height, 0.88, 0.34)

    video = np.empty((3, *shape), dtype=np.float32)
    flow = np.zeros((max(frames - 1, 0), 2, height, width), dtype=np.int64)
    for t in range(frames):
        town_part = slice(-town * t, -town * t + width)
        sky = slice(travel - clouds * t, travel - clouds * t + width)
        water = slice(2 * travel - boat * t, 2 * travel - boat * t + width)
        town_cover, boat_cover = scene.cover[:, town_part], punt.cover[:, water]
        frame = front[:, :, town_part] + (1 - town_cover) * scene.backdrop[:, :, sky]
        video[:, t] = punt.picture[:, :, water] + (1 - boat_cover) * frame
        if t < frames - 1:
            flow[t, 1] = np.where(boat_cover > 0.5, boat, np.where(town_cover > 0.5, town, clouds))
    return np.clip(video, 0, 1), flow


class SampleVideo:
    """The built-in video with the interface of `convnd.io.Video`.

    Args:
        shape: ``(T, H, W)``.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        from convnd import io

        rate = Fraction(FRAME_RATE)
        self._shape = shape
        self.damage = ""
        self.info = io.VideoInfo(
            path=Path("video"),
            size=shape[1:],
            time_base=1 / rate,
            rate=rate,
            frames=shape[0],
            colors=io.ColorTags(full_range=True, primaries=1, transfer=SRGB_TRANSFER, matrix=0),
        )

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """Yield frames, see `convnd.io.Video.frames`."""
        import torch

        from convnd import io

        frames, _ = render_video(self._shape, 0)
        base = self.info.time_base
        indices = [
            t
            for t in range(self._shape[0])
            if t * base >= start and (end is None or t * base < end)
        ]
        for t in indices[::every]:
            yield io.VideoFrame(t, torch.from_numpy(np.ascontiguousarray(frames[None, :, t])))


def _make(shape: tuple[int, ...], seed: int, /) -> Grid:
    frames, _ = render_video((shape[0], shape[1], shape[2]), seed)
    return as_grid(
        frames, axes=("t", "y", "x"), units=("s", "px", "px"), spacing=(1 / FRAME_RATE, 1.0, 1.0)
    )


CONTENTS: dict[str, Sample] = {
    "video": Sample(
        make=_make, summary="a video of the town, 25 frames per second", sizes={3: (24, 192, 288)}
    )
}
