"""Time of each layer of VGG-19: torch, Winograd's algorithm in torch, and the kernels in C.

The script times every convolution, forward and backward to its input, on one thread in float32. It
prints the processor time of torch's direct convolution, of `winograd_conv_nd` and of `NativeConv`,
and a lower bound: a quarter of the multiplications at the rate of a large matrix product on this
machine.

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.performance.layers
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from benchmarks.measurement import add_json_option, write_results
from convnd.backbones import load
from convnd.backbones.kernels import NativeConv, native, winograd_conv_nd, winograd_is_faster
from convnd.nn.layout import channels_last

_LAYERS = ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"]


def fastest(work: Callable[[], object], repeats: int) -> float:
    """Shortest processor time of this thread in seconds, after one warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def measure_layer(
    name: str, weight: torch.Tensor, extent: int, peak: float, repeats: int
) -> dict[str, object]:
    """Time one layer forward and backward.

    Args:
        name: name of the layer.
        weight: ``(O, C, 3, 3)``.
        extent: side of the square input in pixels.
        peak: multiplications per second of a large matrix product.
        repeats: number of runs; the fastest counts.
    """
    outputs, channels = weight.shape[:2]
    x = channels_last(torch.rand(1, channels, extent, extent))
    gradient = channels_last(torch.rand(1, outputs, extent, extent))
    gate = gradient > 0.5
    flipped = channels_last(weight.transpose(0, 1).flip(2, 3))
    direct_weight = channels_last(weight)
    count = 2 * weight.numel() * extent**2  # forward and backward

    def direct() -> None:
        torch.nn.functional.conv2d(x, direct_weight, padding=1)
        torch.nn.functional.conv2d(gradient, flipped, padding=1)

    row: dict[str, object] = {
        "layer": name,
        "channels": f"{channels} to {outputs}",
        "pixels": extent,
        "direct, ms": 1e3 * fastest(direct, repeats),
    }
    taps = weight.movedim((1, 0), (-2, -1)).contiguous().movedim((-1, -2), (0, 1))

    def in_torch() -> None:
        winograd_conv_nd(x, taps)
        winograd_conv_nd(gradient, taps, adjoint=True)

    # A backbone takes the direct convolution where Winograd's algorithm in torch is slower.
    is_used = winograd_is_faster((extent, extent), channels, outputs)
    row["in torch, ms"] = 1e3 * fastest(in_torch if is_used else direct, repeats)
    if native.is_available():
        forward, backward = NativeConv(weight), NativeConv(weight.transpose(0, 1).flip(2, 3))

        def compiled() -> None:
            forward(x, relu=True)
            backward(gradient, gate=gate)

        row["compiled, ms"] = 1e3 * fastest(compiled, repeats)
    return {**row, "bound, ms": 1e3 * count / 4 / peak}


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
    for column in [column for column in rows[0] if column.endswith("ms")]:
        total[column] = sum(float(str(row[column])) for row in rows)
    print(total)
    write_results(
        args.json,
        f"The convolutions of VGG-19 at {args.size}², layer by layer",
        [*rows, total],
        section="Speed",
        conditions="one thread, float32, least processor time of several runs",
        summary=f"A large matrix product runs at {2e-9 * peak:.0f} GFLOP/s. The bound is a quarter "
        "of the multiplications at that rate.",
    )


if __name__ == "__main__":
    main()
