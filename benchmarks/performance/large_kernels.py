"""Time of a convolution by Fourier transforms over that of torch's, by the size of the kernel.

    python -m benchmarks.performance.large_kernels --repeats 5 --json large_kernels.json

Both have "same" padding and compute the same values. They take turns in one process, and the
figures are medians of processor time, which other work on the machine changes less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measurement import add_json_option, write_results
from convnd.nn import conv_nd, fft_conv_nd


@dataclass(frozen=True)
class Case:
    """Convolutions ``(1, channels, *size)`` with as many filters, by some sizes of the kernel."""

    size: tuple[int, ...]
    channels: int
    kernels: tuple[int, ...]
    groups: int = 1


CASES = [
    Case((4096,), 16, (15, 31, 63, 127, 255)),
    Case((128, 128), 1, (5, 9, 15, 31)),
    Case((64, 64), 16, (5, 9, 15, 31)),
    Case((128, 128), 32, (7, 15, 31), groups=32),
    Case((32, 32, 32), 1, (3, 5, 7, 11)),
    Case((24, 24, 24), 8, (3, 5, 7, 11)),
    Case((12, 12, 12, 12), 1, (3, 5, 7)),
    Case((10, 10, 10, 10), 4, (3, 5)),
]


def measure(case: Case, kernel: int, repeats: int, *, backward: bool) -> dict[str, float]:
    """Median seconds of processor time, by the name of the way."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, case.channels, *case.size, generator=generator)
    shape = (case.channels, case.channels // case.groups, *[kernel] * len(case.size))
    weight = torch.randn(shape, generator=generator)
    ways: dict[str, Callable[..., Tensor]] = {"direct": conv_nd, "fft": fft_conv_nd}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats + 1):
        for name, convolve in ways.items():
            inputs = [tensor.detach().requires_grad_(backward) for tensor in (x, weight)]
            start = time.process_time()
            y = convolve(*inputs, padding="same", groups=case.groups)
            if backward:
                y.backward(torch.ones_like(y))
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def main() -> None:
    """Measures every case and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    add_json_option(parser)
    options = parser.parse_args()
    rows = []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for case in CASES:
        size = "×".join(map(str, case.size))
        channels = f"{case.channels}" + (" depthwise" if case.groups > 1 else "")
        for kernel in case.kernels:
            row: dict[str, object] = {"input": size, "channels": channels, "taps": kernel}
            for backward in (False, True):
                seconds = measure(case, kernel, options.repeats, backward=backward)
                part = "both passes" if backward else "forward"
                row[f"direct, {part}, ms"] = round(1000 * seconds["direct"], 1)
                row[f"fft, {part}, ms"] = round(1000 * seconds["fft"], 1)
                row[f"ratio, {part}"] = round(seconds["fft"] / seconds["direct"], 2)
            rows.append(row)
            print(*row.values(), sep="\t", flush=True)
    write_results(
        options.json,
        "Convolution by Fourier transforms",
        rows,
        section="Speed",
        summary="Processor time of `fft_conv_nd` and `conv_nd` with as many filters as channels, "
        "for kernels of `taps` along every axis; a ratio below 1 means that the transforms win.",
    )


if __name__ == "__main__":
    main()
