"""Two procedural videos as examples of moving textures: rising flames and swirling eddies.

python -m benchmarks.experiments.moving_textures FOLDER
convnd stylize-video FOLDER/flames.mp4 --mode block --texture
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from convnd.io import Encoding, VideoFrame, VideoInfo, write_video

Array = NDArray[np.float64]
EDDIES = ((16, 16, 1), (48, 20, -1), (20, 48, -1), (50, 50, 1))
"""Row, column and direction of each, in a frame of 64x64."""


def main() -> None:
    """Write both clips."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=32)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    for name, make in (("flames", flames), ("eddies", eddies)):
        frames = make(args.frames, rng)
        path = args.folder / f"{name}.mp4"
        rate = Fraction(25)
        info = VideoInfo(path=path, size=(64, 64), time_base=1 / rate, rate=rate)
        tensors = (torch.from_numpy(frame.astype(np.float32))[None] for frame in frames)
        write_video(
            path,
            info,
            (VideoFrame(t, frame) for t, frame in enumerate(tensors)),
            encoding=Encoding(crf=8),
        )
        print(path)


def flames(count: int, rng: np.random.Generator) -> list[Array]:
    """Two layers of noise that rise by 2 and 3 pixels a frame, warped by changing noise."""
    slow = _noise(rng, (128, 64), (4, 3))
    fast = _noise(rng, (128, 64), (2, 2))
    bend = _noise(rng, (count, 64, 64), (3, 6, 6))
    y, x = np.mgrid[:64, :64].astype(float)
    frames = []
    for t in range(count):
        down, right = y + 2 * bend[t], x + 3 * np.roll(bend[t], 9, 1)
        heat = (
            0.5
            + 0.28 * _sample(slow, down + 2 * t, right)
            + 0.2 * _sample(fast, down + 3 * t, right)
        )
        heat = heat.clip(0, 1)
        frames.append(
            np.stack([2 * heat, (2 * heat - 0.6).clip(0) ** 1.2, 3 * heat - 2.2]).clip(0, 1)
        )
    return frames


def eddies(count: int, rng: np.random.Generator) -> list[Array]:
    """Noise that four vortices stir; each turns faster near its centre."""
    noise = _noise(rng, (64, 64), (2.5, 2.5))
    y, x = np.mgrid[:64, :64].astype(float)
    frames = []
    for t in range(count):
        down, right = y.copy(), x.copy()
        for row, column, way in EDDIES:
            dy, dx = y - row, x - column
            angle = way * 0.16 * t * np.exp(-(dy**2 + dx**2) / 200)
            down += row + dy * np.cos(angle) - dx * np.sin(angle) - y
            right += column + dy * np.sin(angle) + dx * np.cos(angle) - x
        light = (0.5 + 0.25 * _sample(noise, down, right)).clip(0, 1)
        frames.append(np.stack([0.8 * light**2, 0.2 + 0.7 * light, 0.4 + 0.6 * light**0.5]))
    return frames


def _noise(rng: np.random.Generator, shape: tuple[int, ...], width: tuple[float, ...]) -> Array:
    """Smooth periodic noise of variance 1."""
    smooth: Array = ndimage.gaussian_filter(rng.standard_normal(shape), width, mode="wrap")
    smooth /= smooth.std()
    return smooth


def _sample(field: Array, y: Array, x: Array) -> Array:
    values: Array = ndimage.map_coordinates(field, [y, x], order=1, mode="grid-wrap")
    return values


if __name__ == "__main__":
    main()
