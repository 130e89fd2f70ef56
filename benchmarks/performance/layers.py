"""Roofline of a step by layer: operations, bytes, time and bound of convolutions and Gram matrices.

The script times every convolution of a network, forward and backward to its input, and the Gram
matrix of every style layer, on one thread in float32. It prints the processor time of torch's
direct convolution, of `winograd_conv_nd` and of `NativeConv`. The bound is the larger of two times:
the multiplications that are needed (a quarter of them with a kernel of 3x3, by Winograd's
algorithm) at the rate of a large matrix product on this machine, and the bytes that are read and
written at least at the rate of a copy of 256 MB.

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python -m benchmarks.performance.layers
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks.measurement import add_json_option, write_results
from convnd.backbones import load
from convnd.backbones.kernels import NativeConv, native, winograd_conv_nd, winograd_is_faster
from convnd.malloc import keep_large_blocks, tune_malloc
from convnd.nn.layout import channels_last
from convnd.stats import gram_matrix

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


class Machine(NamedTuple):
    """Rates of this machine on one thread.

    Args:
        products: multiplications per second of a large matrix product.
        bytes: bytes per second that a large copy reads and writes.
    """

    products: float
    bytes: float

    @classmethod
    def measure(cls) -> Machine:
        """Measure both rates."""
        matrix = torch.rand(1024, 1024)
        source, target = torch.rand(2, 2**26)
        return cls(
            1024**3 / fastest(lambda: matrix @ matrix, 5),
            2 * 4 * 2**26 / fastest(lambda: target.copy_(source), 5),
        )

    def bound(self, products: float, values: float) -> dict[str, object]:
        """Return operations, bytes and the bound of work in float32.

        Args:
            products: multiplications that are needed.
            values: numbers that are read or written.
        """
        seconds = {"products": products / self.products, "memory": 4 * values / self.bytes}
        limit = max(seconds, key=lambda name: seconds[name])
        return {
            "GFLOP": 2e-9 * products,
            "MB": 4e-6 * values,
            "bound, ms": 1e3 * seconds[limit],
            "bound by": limit,
        }


def measure_convolution(
    name: str, weight: torch.Tensor, extent: int, machine: Machine, repeats: int
) -> dict[str, object]:
    """Time one convolution forward and backward.

    Args:
        name: name of the layer.
        weight: ``(O, C, K, K)``.
        extent: side of the square input in pixels.
        machine: rates of this machine.
        repeats: number of runs; the fastest counts.
    """
    outputs, channels, width = weight.shape[:3]
    x = channels_last(torch.rand(1, channels, extent, extent))
    gradient = channels_last(torch.rand(1, outputs, extent, extent))
    gate = gradient > 0.5
    flipped = channels_last(weight.transpose(0, 1).flip(2, 3))
    direct_weight = channels_last(weight)

    def direct() -> None:
        torch.nn.functional.conv2d(x, direct_weight, padding=width // 2)
        torch.nn.functional.conv2d(gradient, flipped, padding=width // 2)

    row: dict[str, object] = {
        "layer": name,
        "channels": f"{channels} to {outputs}",
        "kernel": width,
        "pixels": extent,
        "direct, ms": 1e3 * fastest(direct, repeats),
    }
    taps = weight.movedim((1, 0), (-2, -1)).contiguous().movedim((-1, -2), (0, 1))

    def in_torch() -> None:
        winograd_conv_nd(x, taps)
        winograd_conv_nd(gradient, taps, adjoint=True)

    # A backbone takes the direct convolution where Winograd's algorithm in torch is slower.
    is_used = width == 3 and winograd_is_faster((extent, extent), channels, outputs)
    row["in torch, ms"] = 1e3 * fastest(in_torch, repeats) if is_used else row["direct, ms"]
    if native.is_available():
        forward, backward = NativeConv(weight), NativeConv(weight.transpose(0, 1).flip(2, 3))

        def compiled() -> None:
            forward(x, relu=True)
            backward(gradient, gate=gate)

        row["compiled, ms"] = 1e3 * fastest(compiled, repeats)
    products = 2 * weight.numel() * extent**2 / (4 if width == 3 else 1)
    # Input, result and both gradients; the gate takes one byte for each number.
    return {**row, **machine.bound(products, (2 * channels + 2.25 * outputs) * extent**2)}


def measure_gram(
    name: str, channels: int, extent: int, machine: Machine, repeats: int
) -> dict[str, object]:
    """Time one Gram matrix forward and backward, see `measure_convolution`."""
    x = channels_last(torch.rand(1, channels, extent, extent)).requires_grad_()
    cotangent = torch.rand(1, channels, channels)

    def work() -> None:
        with torch.enable_grad():
            torch.autograd.grad(gram_matrix(x), x, cotangent)

    seconds = fastest(work, repeats)
    columns = ("direct, ms", "in torch, ms", "compiled, ms")
    return {
        "layer": f"Gram of {name}",
        "channels": f"{channels}",
        "pixels": extent,
        **dict.fromkeys(columns, 1e3 * seconds),
        # The matrix is symmetric: half of the products of the forward pass are needed.
        **machine.bound(1.5 * channels**2 * extent**2, 3 * channels * extent**2),
    }


def main() -> None:
    """Measure every convolution up to relu5_1, and the Gram matrices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--network", default="vgg19", choices=("vgg19", "compact"))
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_malloc()  # as the command line does, with as much free memory
    keep_large_blocks(True)
    machine = Machine.measure()
    rates = (
        f"A large matrix product runs at {2e-9 * machine.products:.0f} GFLOP/s, and a copy reads "
        f"and writes {1e-9 * machine.bytes:.0f} GB/s."
    )
    print(rates)
    network = load(args.network, spatial_dims=2, in_channels=3, layers=_LAYERS)
    styles = [name for name in _LAYERS if name.endswith("_1")]
    rows = []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            group, layer = name.split(".")[:2]
            if parameter.ndim != 4 or group == "projections":
                continue  # projections are applied to the Gram matrices
            extent = args.size // int(network.receptive_fields[layer].stride[0])
            label = layer if group == "convolutions" else f"{layer}, {group.removesuffix('s')}"
            rows.append(measure_convolution(label, parameter, extent, machine, args.repeats))
        features = network(torch.rand(1, 3, 64, 64), styles, raw=styles)
        for name in styles:
            extent = args.size // int(network.receptive_fields[name].stride[0])
            channels = features[name].shape[1]
            rows.append(measure_gram(name, channels, extent, machine, args.repeats))
    total: dict[str, object] = {"layer": "all"}
    for column in ("direct, ms", "in torch, ms", "compiled, ms", "GFLOP", "MB", "bound, ms"):
        total[column] = sum(float(str(row[column])) for row in rows)
    for row in (*rows, total):
        print({k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()})
    write_results(
        args.json,
        f"The layers of {args.network} at {args.size}²",
        [*rows, total],
        section="Speed",
        conditions="one thread, float32, least processor time of several runs",
        summary=f"{rates} The bound of a convolution of 3x3 is a quarter of its multiplications.",
    )


if __name__ == "__main__":
    main()
