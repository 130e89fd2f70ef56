"""The tasks that `benchmarks.performance.gpu` runs on two devices: each returns numbers to compare.

The numbers are losses of the first steps, measures or features, never finished pictures: an
optimisation amplifies rounding, so that two exact devices end at different pictures.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from convnd_tasks import samples
from convnd_tasks.inspect.job import run_patches
from convnd_tasks.inspect.options import PatchOptions
from convnd_tasks.pipeline.job import Job
from convnd_tasks.pipeline.job_options import make_options
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.training_job import open_job
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.settings import JobSettings
from torch import Tensor

import convnd
from convnd.backbones import choose_device
from convnd.grid import Grid
from convnd.losses import PerceptualLoss
from convnd.nn import ConvNd, ConvTransposeNd, MaxPoolNd, resize_nd
from convnd.optimize import evaluate_whole
from convnd.stats import STATISTICS
from convnd.transfer.options import TransferOptions
from convnd.transfer.problem import TransferProblem
from convnd.transfer.style_transfer import StyleTransfer

Task = Callable[[str], list[float]]
"""Runs on the device of that name."""

STEPS = 2
EXACT: dict[str, Any] = {"precision": "float32", "backbone": "compact", "scales": 1}


def tasks(size: int) -> dict[str, Task]:
    """Every task by name.

    Args:
        size: samples along an axis of a picture; volumes have half of it, signals eight times.
    """
    picture = samples.content("town", spatial_dims=2, size=size)
    style = samples.style("waves", spatial_dims=2, size=size)
    scan = samples.content("chest", spatial_dims=3, size=size // 2)
    volume_style = samples.style("cells", spatial_dims=3, size=size // 2)
    soft = samples.style("soft", spatial_dims=3, size=size // 2)
    labels = torch.zeros(picture.shape, dtype=torch.int64)
    labels[:, : size // 2] = 1
    stylize = partial(losses, picture, style, size=0)
    table: dict[str, Task] = {
        "picture": stylize,
        "picture, vgg19": partial(stylize, backbone="vgg19"),
        # The first step of L-BFGS is so small that bfloat16 rounds the change of the gradient, from
        # which the second step is computed.
        "picture, automatic precision": partial(stylize, precision="auto", steps=1),
        "gradient": partial(gradient, picture.values, style.values),
        "three sizes, adam": partial(stylize, scales=3, optimizer="adam"),
        "gradient descent": partial(stylize, optimizer="gradient-descent"),
        "signal": partial(losses, "ecg", "arrhythmia", size=8 * size),
        "scan, look": partial(values_of, scan, soft, transfer="look"),
        "scan, paint": partial(losses, scan, volume_style, transfer="paint"),
        "texture": partial(losses, None, style, size=size),
        "random start, two styles": partial(
            losses, picture, [style, picture], init="random", size=0
        ),
        "start from the style": partial(stylize, init="style"),
        "instant": partial(values_of, picture, style, init="instant", steps=0, size=0),
        "instant start": partial(stylize, init="instant"),
        "regions": partial(stylize, regions=labels, region={0: "keep", 1: style}),
        "strength 0.5": partial(stylize, strength=0.5),
        "photograph (affine term)": partial(stylize, affine_weight=3000.0),
        "total variation": partial(stylize, tv_weight=0.1),
        "seamless": partial(stylize, seamless=True),
        "tiles": partial(stylize, tile=str(max(32, size // 2))),
        "average pooling, zeros beyond the border": partial(
            stylize, pooling="avg", padding="zeros"
        ),
        "color transfer": partial(stylize, colors="luminance"),
        "resumed": partial(resumed, picture.values, style.values),
        "batches": partial(batches, picture.values, style.values),
        "augmentation of scans": partial(augmentation, scan, soft),
        "train": train,
        "patches": patches,
        "evaluate": partial(evaluate, picture, style),
        "video": partial(video, max(32, size // 2)),
    }
    for name in STATISTICS:
        table[f"style loss: {name}"] = partial(stylize, style_loss=name)
    field = wave((16,) * 4)
    table["array of 4 axes"] = partial(losses, field, field.roll(3, -1), dim=4)
    table["deterministic"] = partial(stylize, deterministic=True)  # last: it binds the process
    return table


def wave(size: tuple[int, ...]) -> Tensor:
    """A smooth field with a fine pattern, in ``[0, 1]``."""
    phase = sum(
        torch.arange(extent).view(-1, *[1] * (len(size) - 1 - axis)) * (0.3 + 0.4 * axis)
        for axis, extent in enumerate(size)
    )
    return torch.as_tensor(phase).sin() * 0.4 + 0.5


def losses(content: Any, style: Any, device: str, **options: Any) -> list[float]:
    """Losses of the first steps of `convnd.stylize`."""
    found: list[float] = []
    convnd.stylize(
        content,
        style,
        device=device,
        on_progress=lambda progress: found.append(progress.loss),
        **{"steps": STEPS, **(EXACT if options.get("transfer") != "look" else {}), **options},
    )
    return [loss for loss in found if loss == loss]  # NaN where nothing was optimised


def values_of(content: Any, style: Any, device: str, **options: Any) -> list[float]:
    """Means over 16 parts of a result."""
    return parts_of(convnd.stylize(content, style, device=device, **options).values)


def parts_of(values: Tensor) -> list[float]:
    """Means over 16 parts."""
    return [float(part.double().mean()) for part in values.detach().cpu().flatten().chunk(16)]


def problem_of(
    content: Tensor, style: Tensor, device: str, **options: Any
) -> tuple[StyleTransfer, TransferProblem]:
    """A transfer and its problem."""
    given = TransferOptions(device=device, steps=4, size=0, **{**EXACT, **options})
    transfer = StyleTransfer(given, spatial_dims=2, in_channels=3)
    return transfer, TransferProblem(content, [style])


def gradient(content: Tensor, style: Tensor, device: str) -> list[float]:
    """Norms of the gradient at the content over 16 parts."""
    transfer, _ = problem_of(content, style, device, backbone="vgg19")
    x, target = content.to(transfer.device), style.to(transfer.device)
    found = evaluate_whole(transfer.objective(x, [target], [1.0, 1.0]), x + 0.01)
    return [float(part.norm()) for part in found.gradient.cpu().flatten().chunk(16)]


def resumed(content: Tensor, style: Tensor, device: str) -> list[float]:
    """Losses of a run that continues from the state of another, after step 2."""
    transfer, problem = problem_of(content, style, device)
    states = [progress.state() for progress in itertools.islice(transfer.run(problem), 3)]
    return [progress.loss for progress in transfer.run(problem, resume=states[-1])]


def batches(content: Tensor, style: Tensor, device: str) -> list[float]:
    """A perceptual loss and its gradient, for two pictures at once."""
    x = torch.cat([content, content.flip(3)]).to(place(device)).requires_grad_()
    y = resize_nd(style, content.shape[2:]).to(place(device))
    loss = PerceptualLoss(spatial_dims=2, backbone="compact").to(place(device))
    total = loss(x, torch.cat([y, y]))
    (found,) = torch.autograd.grad(total, x)
    return [float(total), *(float(part.norm()) for part in found.flatten().chunk(16))]


def augmentation(scan: Grid, style: Grid, device: str) -> list[float]:
    """A scan with random noise of a style, from the device and back."""
    torch.manual_seed(0)
    change = convnd.ScanLook([style], spacing=scan.spacing)
    result = change(scan.values[0].to(place(device)))
    return parts_of(torch.as_tensor(result))


def train(device: str) -> list[float]:
    """Losses of the first steps of a training."""
    found: list[float] = []
    options = TrainingOptions(
        steps=3, size=96, crop=64, batch=2, width=4, levels=1, blocks=1, device=device
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "style.safetensors")
        job = open_job(["waves"], 2, None, options, file)
        job.run(file, on_progress=lambda progress: found.append(progress.loss))
        found += values_of("town", str(file), device, size=64)
    return found


def patches(device: str) -> list[float]:
    """The activations of the patches that excite two units most, with all views."""
    options = PatchOptions(
        layers=("relu2_1",), units="0-1", top=2, backbone="compact", size=64, device=device,
        optimal=True, steps=3, explain="gradient", channel_maps="town",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = run_patches(["town", "landscape"], 2, options, Path(folder, "patches"))
        written = json.loads(Path(folder, "patches", "patches.json").read_text())
    return [found.patches, *numbers(written)]


def numbers(tree: object, key: str = "") -> Iterator[float]:
    """All activations of a record."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            yield from numbers(branch, str(name))
    elif isinstance(tree, list):
        for branch in tree:
            yield from numbers(branch, key)
    elif key == "activation" and isinstance(tree, float):
        yield tree


def evaluate(content: Grid, style: Grid, device: str) -> list[float]:
    """All measures of a picture; they are computed where a device is found."""
    with on_device(device):
        found = convnd.evaluate(
            content, dataclasses.replace(content, values=content.values.sqrt()), style
        )
    return [float(measure.value) for measure in found.values() if measure.value is not None]


@contextmanager
def on_device(device: str) -> Iterator[None]:
    """Let measures, which choose the device themselves, use this one."""
    with ExitStack() as stack:
        for module in ("images.features", "video.metrics"):
            name = f"convnd_tasks.modalities.{module}.choose_device"
            stack.enter_context(mock.patch(name, return_value=place(device), create=True))
        yield


def video(size: int, device: str) -> list[float]:
    """Losses of two frames of the built-in video."""
    found: list[float] = []
    spec = JobSpec(
        modality="videos", dim=3, contents=("video",), styles=("waves",), outputs=(Path("result"),)
    )
    settings: dict[str, Any] = {"figures": False, "end": "0.1"}
    options = make_options(
        spec,
        {"steps": STEPS, "size": size, "device": device, **EXACT},
        settings,
    )
    with tempfile.TemporaryDirectory() as folder:
        Job(spec, options, JobSettings(**settings)).run(
            "video",
            Path(folder, "result"),
            on_progress=lambda progress: found.append(progress.loss),
        )
    return found


def place(device: str) -> torch.device:
    """The device of that name."""
    return choose_device(device)


def layers() -> dict[str, Task]:
    """Outputs and gradients of the layers over 1 to 5 axes, in float64."""
    table: dict[str, Task] = {}
    for rank in range(1, 6):
        for name, make in {
            "ConvNd": lambda n: ConvNd(2, 4, 3, 2, padding=1, spatial_dims=n),
            "ConvNd, reflect": lambda n: ConvNd(
                2, 4, 3, padding=1, padding_mode="reflect", spatial_dims=n
            ),
            "ConvTransposeNd": lambda n: ConvTransposeNd(2, 4, 3, 2, spatial_dims=n),
            "MaxPoolNd": lambda n: MaxPoolNd(2, spatial_dims=n),
        }.items():
            table[f"{name}, {rank} axes"] = partial(layer_numbers, make, rank)
    return table


def layer_numbers(make: Callable[[int], torch.nn.Module], rank: int, device: str) -> list[float]:
    """Means of the output of a layer, and of all gradients."""
    torch.manual_seed(0)
    layer = make(rank).double().to(place(device))
    x = torch.randn(2, 2, *[7, 6, 5, 6, 5][:rank], dtype=torch.float64).to(place(device))
    y = layer(x.requires_grad_())
    found = torch.autograd.grad((y * y).sum(), [x, *layer.parameters()])
    return [number for values in (y, *found) for number in parts_of(values)]
