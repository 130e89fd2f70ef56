"""A step of VGG-19 layer by layer: where does the time of Winograd's algorithm go?

For every convolution, forwards and backwards to its input, on one thread in float32: processor
time, the share of each part of the algorithm, the time of torch's direct convolution, and the
bound: the multiplications that are left, at the rate of a large matrix product on this machine.

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.performance.layers
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch

from benchmarks.measurement import add_json_option, write_results
from convnd.backbones import load
from convnd.backbones.kernels import winograd
from convnd.nn.layout import channels_last

_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"]
_PARTS = {
    "kernel": (winograd, "_transform_taps"),
    "data": (winograd._BlockedConvolution, "_transform"),
    "products": (torch, "bmm"),
    "output": (winograd._BlockedConvolution, "_finish"),
}
"""Parts of the algorithm, each with the function that computes it."""


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Least processor time of this thread in seconds, after one warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return min(seconds)


@contextlib.contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Add up the processor time of each part in the block."""
    seconds: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                seconds[name] += time.thread_time() - start

        return run

    with contextlib.ExitStack() as stack:
        for name, (owner, attribute) in _PARTS.items():
            function = timed(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, function))
        yield seconds


def measure_layer(
    name: str, weight: torch.Tensor, extent: int, peak: float, repeats: int
) -> dict[str, object]:
    """Time one layer forwards and backwards.

    Args:
        name: of the layer.
        weight: ``(O, C, 3, 3)``.
        extent: of the square input in pixels.
        peak: multiplications per second of a large matrix product.
        repeats: number of runs, of which the fastest counts.
    """
    outputs, channels = weight.shape[:2]
    x = channels_last(torch.rand(1, channels, extent, extent))
    gradient = channels_last(torch.rand(1, outputs, extent, extent))
    flipped = channels_last(weight.transpose(0, 1).flip(2, 3))
    direct_weight = channels_last(weight)
    count = 2 * weight.numel() * extent**2  # forwards and backwards

    def direct() -> None:
        torch.nn.functional.conv2d(x, direct_weight, padding=1)
        torch.nn.functional.conv2d(gradient, flipped, padding=1)

    row: dict[str, object] = {"layer": name, "channels": f"{channels} to {outputs}"}
    seconds = fastest(direct, repeats)
    row |= {"pixels": extent, "direct, ms": 1e3 * seconds}
    if not winograd.winograd_is_faster((extent, extent), channels, outputs):
        return {**row, "bound, ms": 1e3 * count / peak, "used, ms": 1e3 * seconds}
    taps = weight.movedim((1, 0), (-2, -1)).contiguous().movedim((-1, -2), (0, 1))

    def fast() -> None:
        winograd.winograd_conv_nd(x, taps)
        winograd.winograd_conv_nd(gradient, taps, adjoint=True)

    seconds = fastest(fast, repeats)
    with timed_parts() as parts:
        fast()
    total = sum(parts.values())
    shares = {f"{part}, %": round(100 * spent / total) for part, spent in parts.items()}
    row |= {"used, ms": 1e3 * seconds, "bound, ms": 1e3 * count / 4 / peak}
    return {**row, **shares}


def main() -> None:
    """Measure every convolution of VGG-19 up to relu5_1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    matrix = torch.rand(1024, 1024)
    peak = 1024**3 / fastest(lambda: matrix @ matrix, 5)
    print(f"a large matrix product: {2e-9 * peak:.0f} GFLOP/s")
    network = load("vgg19", spatial_dims=2, in_channels=3, layers=_LAYERS)
    rows = []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim != 4:
                continue
            layer = name.split(".")[1]
            stride = int(network.receptive_fields[layer].stride[0])
            row = measure_layer(layer, parameter, args.size // stride, peak, args.repeats)
            rows.append(row)
            print(
                {k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()}, flush=True
            )
    total: dict[str, object] = {"layer": "all"}
    for column in ("direct, ms", "used, ms", "bound, ms"):
        total[column] = sum(float(str(row[column])) for row in rows)
    print(total)
    write_results(
        args.json,
        f"The convolutions of VGG-19 at {args.size}², layer by layer",
        [*rows, total],
        section="Speed",
        conditions="one thread, float32, least processor time of several runs",
        summary=f"A large matrix product runs at {2e-9 * peak:.0f} GFLOP/s. The bound is a quarter "
        "of the multiplications at that rate where Winograd's algorithm is used, else all of them.",
    )


if __name__ == "__main__":
    main()
