"""A film of the town whose motion is known exactly: a camera pan, drifting clouds, a boat.

Layers move by whole pixels, so every frame repeats the samples of the one before it and the flow
is exact wherever nothing is uncovered.
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

__all__ = ["CONTENTS", "FRAME_RATE", "FilmClip", "film"]

FRAME_RATE = 25.0


def film(shape: tuple[int, int, int], seed: int) -> tuple[Array, NDArray[np.int64]]:
    """The frames and where each of their pixels goes.

    Args:
        shape: ``(T, H, W)``.
        seed: of the scene.

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

    film_ = np.empty((3, *shape), dtype=np.float32)
    flow = np.zeros((max(frames - 1, 0), 2, height, width), dtype=np.int64)
    for t in range(frames):
        here = slice(-town * t, -town * t + width)
        sky = slice(travel - clouds * t, travel - clouds * t + width)
        water = slice(2 * travel - boat * t, 2 * travel - boat * t + width)
        hidden, near = scene.cover[:, here], punt.cover[:, water]
        frame = front[:, :, here] + (1 - hidden) * scene.backdrop[:, :, sky]
        film_[:, t] = punt.picture[:, :, water] + (1 - near) * frame
        if t < frames - 1:
            flow[t, 1] = np.where(near > 0.5, boat, np.where(hidden > 0.5, town, clouds))
    return np.clip(film_, 0, 1), flow


class FilmClip:
    """The film as a clip, see `convnd.io.Video`.

    Args:
        shape: ``(T, H, W)``.
        seed: of the scene.
    """

    def __init__(self, shape: tuple[int, int, int], seed: int = 0) -> None:
        from convnd import io

        rate = Fraction(FRAME_RATE)
        self._shape, self._seed = shape, seed
        self.damage = ""
        self.info = io.VideoInfo(
            path=Path("clip"),
            size=shape[1:],
            time_base=1 / rate,
            rate=rate,
            frames=shape[0],
            colors=io.ColorTags(full_range=True, primaries=1, transfer=SRGB_TRANSFER, matrix=0),
        )

    def frames(
        self, start: Fraction = Fraction(0), end: Fraction | None = None, every: int = 1
    ) -> Iterator[VideoFrame]:
        """See `convnd.io.Video.frames`."""
        import torch

        from convnd import io

        frames, _ = film(self._shape, self._seed)
        base = self.info.time_base
        wanted = [
            t
            for t in range(self._shape[0])
            if t * base >= start and (end is None or t * base < end)
        ]
        for t in wanted[::every]:
            yield io.VideoFrame(t, torch.from_numpy(np.ascontiguousarray(frames[None, :, t])))


def _make(shape: tuple[int, ...], seed: int, channels: int | None, /) -> Grid:  # noqa: ARG001
    frames, _ = film((shape[0], shape[1], shape[2]), seed)
    return as_grid(
        frames,
        axes=("t", "y", "x"),
        units=("s", "px", "px"),
        spacing=(1 / FRAME_RATE, 1.0, 1.0),
    )


CONTENTS: dict[str, Sample] = {
    "clip": Sample(
        make=_make, summary="a film of the town, 25 frames per second", sizes={3: (24, 192, 288)}
    ),
}
