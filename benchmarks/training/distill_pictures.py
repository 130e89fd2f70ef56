"""Training pictures: crops of photographs, procedural pictures, and mixtures; all seeded."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # RGB, subtracted from [0, 1]
Image = NDArray[Any]


def list_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files to train on, and held-out files (about one in twelve, chosen by a hash of the name)."""
    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in kinds)
    is_held_out = [zlib.crc32(path.name.encode()) % 12 == 0 for path in paths]
    return (
        [path for path, out in zip(paths, is_held_out, strict=True) if not out],
        [path for path, out in zip(paths, is_held_out, strict=True) if out],
    )


def read(path: Path, longest: int = 1280) -> NDArray[np.uint8]:
    """An RGB picture (H, W, 3), reduced if its longer side exceeds ``longest`` pixels."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path}: expected a picture, got something OpenCV cannot read")
    scale = longest / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1]).astype(np.uint8)


def as_input(images: NDArray[np.generic]) -> Tensor:
    """Pictures (B, H, W, 3) in [0, 1] as the networks' input."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float().permute(0, 3, 1, 2)
    return (x - torch.tensor(MEAN)[:, None, None]).contiguous(memory_format=torch.channels_last)


class Pictures:
    """An endless source of square pictures.

    Args:
        paths: photographs.
        seed: seed of all random choices.
        procedural: share of pictures that are no photographs.
    """

    def __init__(self, paths: Sequence[Path], seed: int, procedural: float = 0.4) -> None:
        self.rng = np.random.default_rng(seed)
        self.photos = [read(path) for path in paths]
        self.procedural = procedural

    def batch(self, count: int, size: int, plain: bool = False) -> Tensor:
        """A batch of ``count`` pictures; with ``plain``, without noise, blur and mixtures."""
        return as_input(np.stack([self.crop(size, plain) for _ in range(count)]))

    def crop(self, size: int, plain: bool = False) -> Image:
        """One picture (size, size, 3) with values mostly in [0, 1]."""
        rng = self.rng
        kinds = (
            self.noise, self.leaves, self.strokes, self.strokes, self.waves,
            self.drawing, self.drawing, self.drawing,
        )  # fmt: skip
        is_procedural = rng.random() < self.procedural
        image = kinds[rng.integers(len(kinds))](size) if is_procedural else self.photo(size)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        if rng.random() < 0.4:
            gain = np.exp(rng.normal(0, 0.2, 3)) * math.exp(rng.normal(0, 0.15))
            image = np.clip(image, 0, 1) ** math.exp(rng.normal(0, 0.25)) * gain
        if rng.random() < 0.1:
            image = image[..., rng.permutation(3)]
        if not plain:
            image = self.disturb(image)
        return np.clip(image, -0.3, 1.3).astype(np.float32)

    def disturb(self, image: Image) -> Image:
        """Sometimes a mixture, noise, blur, a contrast that exceeds [0, 1], or noise alone."""
        rng, size = self.rng, image.shape[0]
        if rng.random() < 0.12:
            image = image + (self.photo(size) - image) * self.smooth(size, rng.uniform(1, 9))
        if rng.random() < 0.15:
            image = image + rng.normal(0, rng.uniform(0.01, 0.2), image.shape)
        if rng.random() < 0.05:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3))
        if rng.random() < 0.1:
            image = image.mean() + (image - image.mean()) * rng.uniform(1, 1.6)
        if rng.random() < 0.02:
            image = np.asarray(0.5 + 0.2 * rng.standard_normal(image.shape), np.float32)
        return image

    def photo(self, size: int, zoom: float = 4.0) -> Image:
        """A crop of a photograph, reduced by a factor of up to ``zoom``."""
        image = self.photos[self.rng.integers(len(self.photos))]
        room = min(image.shape[:2]) / size
        side = int(size * min(room, math.exp(self.rng.uniform(0, math.log(zoom)))))
        y, x = (int(self.rng.integers(0, n - side + 1)) for n in image.shape[:2])
        crop = image[y : y + side, x : x + side]
        how = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
        return cv2.resize(crop, (size, size), interpolation=how).astype(np.float32) / 255

    def smooth(self, size: int, cells: float, channels: int = 1) -> Image:
        """Smooth noise in [0, 1] with about ``cells`` maxima along a side."""
        n = max(2, round(cells))
        noise = self.rng.random((n, n, channels)).astype(np.float32)
        large = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
        return np.asarray(large.reshape(size, size, -1), np.float32)

    def palette(self, n: int) -> Image:
        """Colours of a photograph, or random ones."""
        if self.rng.random() < 0.6:
            return self.photo(64, 8).reshape(-1, 3)[self.rng.integers(0, 4096, n)]
        return self.rng.random((n, 3)).astype(np.float32)

    def noise(self, size: int) -> Image:
        """1/f^a noise with correlated colours."""
        f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
        spectrum = np.fft.rfft2(self.rng.standard_normal((3, size, size)))
        image = np.fft.irfft2(spectrum / f ** self.rng.uniform(0, 2.2), (size, size))
        image = (image - image.mean()) / (image.std() + 1e-6)
        image = image.transpose(1, 2, 0) @ self.rng.normal(0, 0.6, (3, 3))
        return np.asarray(0.5 + image * self.rng.uniform(0.05, 0.35), np.float32)

    def leaves(self, size: int) -> Image:
        """Dead leaves: opaque shapes of all sizes on top of each other."""
        rng, image = self.rng, np.full((size, size, 3), 0.5, np.float32)
        for colour in self.palette(300)[: rng.integers(30, 300)]:
            radius = size * 0.015 / max(0.03, rng.random()) * rng.uniform(0.5, 2)
            centre, turn = rng.uniform(0, size, 2), rng.uniform(0, 2 * math.pi)
            corners = int(rng.choice([3, 4, 5, 24]))
            angles = turn + np.linspace(0, 2 * math.pi, corners, endpoint=False)
            points = np.stack([np.cos(angles), rng.uniform(0.2, 1) * np.sin(angles)], 1) * radius
            c, s = math.cos(turn), math.sin(turn)
            points = points @ np.array([[c, s], [-s, c]]) + centre
            cv2.fillPoly(image, [points.astype(np.int32)], colour.tolist(), cv2.LINE_AA)
        return image

    def strokes(self, size: int) -> Image:
        """Brush strokes along a smooth field, in the colours of a photograph or a palette."""
        rng = self.rng
        base = self.photo(size) if rng.random() < 0.7 else None
        field = self.smooth(size, rng.uniform(2, 7))[..., 0] * rng.uniform(2, 9)
        image = np.full((size, size, 3), 0.5, np.float32)
        if base is not None:
            image[:] = base.mean((0, 1))
        colours = self.palette(64)
        length, width = rng.uniform(6, 30), rng.uniform(1, 6)
        count = int(min(2500, 2.5 * size * size / (length * width)))
        jitter = rng.normal(0, rng.uniform(0.01, 0.12), (count, 3))
        for i in range(count):
            x, y = rng.uniform(0, size - 1, 2)
            row, column = int(y), int(x)
            points = [(x, y)]
            for _ in range(3):
                angle = field[int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))]
                x, y = x + length / 3 * math.cos(angle), y + length / 3 * math.sin(angle)
                points.append((x, y))
            color = colours[int(field[row, column] * 9) % 64]
            colour = (color if base is None else base[row, column]) + jitter[i]
            line = np.array(points).round().astype(np.int32)
            cv2.polylines(image, [line], False, colour.tolist(), max(1, round(width)), cv2.LINE_AA)
        return image

    def drawing(self, size: int) -> Image:
        """Pen strokes, hatching, letters, dots or outlined shapes on a plain ground."""
        rng = self.rng
        ground, *inks = self.palette(6)
        if rng.random() < 0.6:
            ground = np.full(3, rng.choice([0.0, 0.95, 1.0, 1.0]), np.float32)
        if rng.random() < 0.6:
            inks = [np.full(3, 1 - ground.mean(), np.float32) * rng.uniform(0.7, 1)] * len(inks)
        image = np.empty((size, size, 3), np.float32)
        image[:] = ground
        marks = (self.pen, self.hatching, self.letters, self.dots, self.outlines)
        for mark in rng.permutation(len(marks))[: rng.integers(1, 4)]:
            marks[mark](image, [ink.tolist() for ink in inks], ground.tolist())
        return cv2.GaussianBlur(image, (0, 0), 0.6) if rng.random() < 0.3 else image

    def pen(self, image: Image, inks: list[list[float]], ground: list[float]) -> None:  # noqa: ARG002
        """Long curved lines of one width, or of several."""
        rng, size = self.rng, image.shape[0]
        step, wide = rng.uniform(2, 10), rng.uniform(1, 5)
        bend, count = rng.uniform(0.02, 0.6), int(rng.integers(4, 120))
        for _ in range(count):
            turns = np.cumsum(rng.normal(0, bend, int(rng.integers(5, 60)))) + rng.uniform(0, 7)
            way = np.stack([np.cos(turns), np.sin(turns)], 1).cumsum(0) * step
            line = (way + rng.uniform(0, size, 2)).round().astype(np.int32)
            width = max(1, round(wide * rng.uniform(0.6, 1.4)))
            cv2.polylines(image, [line], False, inks[rng.integers(len(inks))], width, cv2.LINE_AA)

    def hatching(self, image: Image, inks: list[list[float]], ground: list[float]) -> None:  # noqa: ARG002
        """Parallel or crossed lines in shapes without a drawn border."""
        rng, size = self.rng, image.shape[0]
        for _ in range(int(rng.integers(1, 7))):
            turn, gap, width = rng.uniform(0, 7), rng.uniform(3, 20), int(rng.integers(1, 4))
            lines = image.copy()
            for angle in (turn, turn + math.pi / 2)[: rng.integers(1, 3)]:
                direction = np.array([math.cos(angle), math.sin(angle)]) * size * 1.5
                across = np.array([-math.sin(angle), math.cos(angle)])
                for offset in np.arange(-size, size, gap):
                    middle = size / 2 + across * (offset + rng.normal(0, gap / 8))
                    ends = (
                        np.stack([middle - direction, middle + direction]).round().astype(np.int32)
                    )
                    cv2.polylines(lines, [ends], False, inks[0], width, cv2.LINE_AA)
            where = self.smooth(size, rng.uniform(2, 6)) > rng.uniform(0.3, 0.7)
            image[:] = np.where(where, lines, image)

    def letters(self, image: Image, inks: list[list[float]], ground: list[float]) -> None:  # noqa: ARG002
        """Lines of letters of one size."""
        rng, size = self.rng, image.shape[0]
        scale, width, font = rng.uniform(0.3, 3), int(rng.integers(1, 5)), int(rng.integers(8))
        for y in np.arange(0, size + 30 * scale, 34 * scale):
            text = "".join(chr(c) for c in rng.integers(33, 126, 60))
            position = (int(rng.integers(-20, 1)), int(y))
            mask = np.zeros((size, size), np.uint8)  # OpenCV writes on 8-bit pictures only
            cv2.putText(mask, text, position, font, scale, 255, width, cv2.LINE_AA)
            ink = np.asarray(inks[rng.integers(len(inks))], np.float32)
            image += (ink - image) * (mask[..., None] / np.float32(255))

    def dots(self, image: Image, inks: list[list[float]], ground: list[float]) -> None:  # noqa: ARG002
        """A halftone: a grid of discs whose sizes follow a smooth field or a photograph."""
        rng, size = self.rng, image.shape[0]
        gap, turn = rng.uniform(4, 24), rng.uniform(0, 7)
        tone = self.photo(size).mean(2) if rng.random() < 0.5 else self.smooth(size, 4)[..., 0]
        c, s = math.cos(turn) * gap, math.sin(turn) * gap
        reach = math.ceil(size / gap)
        for i in range(-reach, reach):
            for j in range(-reach, reach):
                x, y = size / 2 + c * i - s * j, size / 2 + s * i + c * j
                if 0 <= x < size and 0 <= y < size:
                    radius = max(1, round(gap * 0.7 * (1 - float(tone[int(y), int(x)]))))
                    ink = inks[(i + 2 * j) % len(inks)]
                    cv2.circle(image, (round(x), round(y)), radius, ink, -1, cv2.LINE_AA)

    def outlines(self, image: Image, inks: list[list[float]], ground: list[float]) -> None:
        """Flat shapes with a drawn border, on top of each other."""
        rng, size = self.rng, image.shape[0]
        width = int(rng.integers(1, 5))
        for _ in range(int(rng.integers(3, 40))):
            radius, turn = size * math.exp(rng.uniform(-3.5, -1)), rng.uniform(0, 7)
            angles = turn + np.linspace(0, 2 * math.pi, int(rng.choice([4, 5, 6, 24])))
            shape = np.stack([np.cos(angles), rng.uniform(0.3, 1) * np.sin(angles)], 1) * radius
            points = (shape + rng.uniform(0, size, 2)).round().astype(np.int32)
            fill = ground if rng.random() < 0.5 else inks[rng.integers(len(inks))]
            cv2.fillPoly(image, [points], fill, cv2.LINE_AA)
            cv2.polylines(image, [points], True, inks[0], width, cv2.LINE_AA)

    def waves(self, size: int) -> Image:
        """Warped gratings, rings, weaves and cells in a palette's colours."""
        rng = self.rng
        y, x = np.mgrid[:size, :size].astype(np.float32) / size
        warp = self.smooth(size, rng.uniform(2, 8), 2) * rng.uniform(0, 0.6)
        x, y = x + warp[..., 0], y + warp[..., 1]
        k, turn, kind = rng.uniform(8, 160), rng.uniform(0, math.pi), rng.integers(4)
        if kind == 0:
            phase = k * (x * math.cos(turn) + y * math.sin(turn))
        elif kind == 1:
            phase = k * np.hypot(x - rng.random(), y - rng.random())
        elif kind == 2:
            phase = 3 * np.sin(k * x) * np.sin(k * y) + turn
        else:
            spots = rng.random((int(rng.integers(5, 60)), 2)) * 1.3
            far = np.hypot(x[..., None] - spots[:, 0], y[..., None] - spots[:, 1])
            near = np.partition(far, 1, axis=2)
            phase = far.argmin(2) * 1.7 + (near[..., 1] - near[..., 0]) * k / 4
        t = 0.5 + 0.5 * np.sin(phase)
        t = (t > 0.5 if rng.random() < 0.25 else t).astype(np.float32)[..., None]
        a, b, c = self.palette(3)
        blend = self.smooth(size, 3)
        return np.asarray(t * a + (1 - t) * (blend * b + (1 - blend) * c), np.float32)
