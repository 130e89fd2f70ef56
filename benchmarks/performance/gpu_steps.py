"""Time and memory of a step on a device, against the loop of neural-style-pt in plain torch."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import convnd
from benchmarks.common import peak_mib
from benchmarks.measurement import Row
from benchmarks.performance.step import WIDTHS
from convnd.optimize import evaluate_whole
from convnd.transfer.options import TransferOptions
from convnd.transfer.style_transfer import StyleTransfer

REPEATS = 5
STYLE = (0, 3, 6, 11, 16)  # conv1_1 ... conv5_1 among the convolutions and poolings
CONTENT = 12  # conv4_2
TINY = 64


def steps(device: torch.device, *, tiny: bool) -> dict[str, Callable[[], Row]]:
    """Every step by name.

    Args:
        device: the device.
        tiny: whether all sizes are the smallest, for a test.
    """
    table: dict[str, Callable[[], Row]] = {}

    def add(case: str, shape: tuple[int, ...], backbone: str, precision: str) -> None:
        table[f"{backbone} {precision}, {case}"] = partial(
            measure, device, partial(convnd_step, device, shape, backbone, precision)
        )

    def add_plain(case: str, shape: tuple[int, ...], *, tf32: bool = False) -> None:
        name = f"plain torch {'tf32' if tf32 else 'float32'}, {case}"
        table[name] = partial(measure, device, partial(plain_step, device, shape, tf32))

    for size in (TINY,) if tiny else (512, 1024, 2048, 4096):
        shape = (1, 3, size, size)
        add(f"{size}²", shape, "vgg19", "bfloat16")
        add(f"{size}²", shape, "vgg19", "float32")
        add_plain(f"{size}²", shape)
        add_plain(f"{size}²", shape, tf32=True)
        add(f"{size}²", shape, "compact", "bfloat16")
        add(f"{size}²", shape, "compact", "float32")
    table["whole transfer, default options"] = partial(whole_transfer, device, tiny=tiny)
    for size in (16,) if tiny else (64, 128):
        cube = (1, 1, size, size, size)
        for precision in ("bfloat16", "float32"):
            add(f"{size}³", cube, "compact", precision)
            add(f"{size}³", cube, "vgg19", precision)
    leads = {"12 leads, 1 s": 500} if tiny else {"12 leads, 10 s": 5000, "12 leads, 1 h": 1_800_000}
    for case, samples in leads.items():
        for precision in ("bfloat16", "float32"):
            add(case, (1, 12, samples), "compact-1d", precision)
            add(case, (1, 12, samples), "vgg19", precision)
    return table


def convnd_step(
    device: torch.device, shape: tuple[int, ...], backbone: str, precision: str
) -> Callable[[], object]:
    """Loss and gradient of the default objective; the leads of a signal are channels."""
    axes, channels = len(shape) - 2, shape[1]
    generator = torch.Generator().manual_seed(0)
    options = TransferOptions(backbone=backbone, precision=precision, device=str(device))
    transfer = StyleTransfer(options, spatial_dims=axes, in_channels=channels)
    x = torch.rand(shape, generator=generator).to(device)
    objective = transfer.objective(x, [x.flip(-1)], [1.0] * axes)
    x = x + 0.01
    return lambda: evaluate_whole(objective, x)


def whole_transfer(device: torch.device, *, tiny: bool) -> Row:
    """Time and largest memory of `convnd.stylize` for a picture with its default options."""
    reset_memory(device)
    start = time.perf_counter()
    options = {"size": TINY, "steps": 2} if tiny else {}
    result = convnd.stylize("town", "waves", device=str(device), **options)
    seconds = time.perf_counter() - start
    return {"ms": f"{1e3 * seconds:.0f}", "steps": result.steps, **memory(device)}


class PlainNetwork(nn.Module):
    """The convolutions of VGG-19 with random weights, run as neural-style-pt runs them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList()
        for width in WIDTHS:
            if width:
                weight = torch.randn(width, channels, 3, 3, generator=generator)
                self.weights.append(weight * (2 / (9 * channels)) ** 0.5)
                channels = width
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gram matrices of the style layers, and the features of the content layer."""
        grams, content, weights = [], x, iter(self.weights)
        for index, width in enumerate(WIDTHS):
            x = F.relu(F.conv2d(x, next(weights), padding=1)) if width else F.max_pool2d(x, 2)
            if index in STYLE:
                rows = x.flatten(2)[0]
                grams.append(rows @ rows.T / rows.numel())
            if index == CONTENT:
                content = x
        return grams, content


def plain_step(device: torch.device, shape: tuple[int, ...], tf32: bool) -> Callable[[], object]:
    """Loss and gradient: mean squared errors of Gram matrices and features, frozen weights."""
    network = PlainNetwork(shape[1]).to(device)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.no_grad():
        grams, _ = network(x.flip(-1))
        _, content = network(x)
    x = x + 0.01

    def run() -> object:
        leaf = x.clone().requires_grad_()
        found_grams, found = network(leaf)
        loss = 5 * F.mse_loss(found, content)
        for one, target in zip(found_grams, grams, strict=True):
            loss = loss + 100 * F.mse_loss(one, target)
        return loss.item(), torch.autograd.grad(loss, leaf)

    def run_in_format() -> object:
        before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        try:
            return run()
        finally:
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before

    return run_in_format


def measure(device: torch.device, make: Callable[[], Callable[[], object]]) -> Row:
    """Median time of a step, and the largest memory, with weights and targets."""
    reset_memory(device)
    run = make()
    run()
    run()
    seconds = []
    for _ in range(REPEATS):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return {
        "ms": f"{1e3 * statistics.median(seconds):.2f}",
        "fastest, ms": f"{1e3 * min(seconds):.2f}",
        **memory(device),
    }


def reset_memory(device: torch.device) -> None:
    """Free what is not in use, and begin to count."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def memory(device: torch.device) -> dict[str, int]:
    """Largest memory since `reset_memory`, in MiB; on a CPU that of the process."""
    if device.type != "cuda":
        return {"peak MiB": round(peak_mib())}
    return {
        "peak MiB": round(torch.cuda.max_memory_allocated(device) / 2**20),
        "reserved MiB": round(torch.cuda.max_memory_reserved(device) / 2**20),
    }


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
