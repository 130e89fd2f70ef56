"""How long a 4-D convolution takes, against ``conv3d`` calls with as many multiply-adds.

    python benchmarks/conv4d.py
    python benchmarks/conv4d.py --json --repeats 7

The yardstick for a kernel of K taps along the folded axis is K calls of ``conv3d``, one for each
tap, on tensors that already lie ready: what one would do by hand, without the additions. Both
take turns in one process; times are the medians of the repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnd.nn import conv_nd, conv_transpose_nd


@dataclass(frozen=True)
class Case:
    """A convolution without padding: ``(batch, channels, *size)`` by ``filters`` of ``kernel``."""

    batch: int
    channels: int
    size: tuple[int, int, int, int]
    filters: int
    kernel: int


CASES = [
    Case(1, 1, (16, 32, 32, 32), 16, 3),
    Case(1, 8, (16, 24, 24, 24), 16, 3),
    Case(2, 16, (8, 16, 16, 16), 32, 3),
    Case(1, 32, (10, 16, 16, 16), 32, 3),
    Case(1, 4, (12, 16, 16, 16), 8, 5),
    Case(1, 64, (6, 10, 10, 10), 64, 3),
]


def ours(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The convolution as the library does it."""
    return [conv_nd(x, weight)]


def ours_transposed(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The transposed convolution as the library does it."""
    return [conv_transpose_nd(x, weight)]


def measure(case: Case, *, backward: bool, transposed: bool, repeats: int) -> dict[str, object]:
    """Median seconds of ours and of the yardstick, and their ratio."""
    generator = torch.Generator().manual_seed(0)
    steps, *volume = case.size
    x = torch.randn(case.batch, case.channels, *case.size, generator=generator)
    weight = torch.randn(case.filters, case.channels, *[case.kernel] * 4, generator=generator)
    # Each of K taps sees all input steps in a transposed convolution, and all output steps in a
    # convolution.
    folded = case.batch * (steps if transposed else steps - case.kernel + 1)
    stack = torch.randn(folded, case.channels, *volume, generator=generator)
    taps = [weight[:, :, tap].contiguous() for tap in range(case.kernel)]
    if transposed:
        weight = weight.transpose(0, 1).contiguous()
        taps = [tap.transpose(0, 1).contiguous() for tap in taps]
    conv3d = F.conv_transpose3d if transposed else F.conv3d

    def yardstick(stack: Tensor, *taps: Tensor) -> list[Tensor]:
        return [conv3d(stack, tap) for tap in taps]

    run = ours_transposed if transposed else ours
    times: dict[str, list[float]] = {"ours": [], "yardstick": []}
    for _ in range(repeats + 1):
        times["ours"].append(seconds(run, [x, weight], backward=backward))
        times["yardstick"].append(seconds(yardstick, [stack, *taps], backward=backward))
    # The first round warms up.
    mine, theirs = (statistics.median(times[name][1:]) for name in ("ours", "yardstick"))
    return {
        **asdict(case),
        "operator": "transposed" if transposed else "conv",
        "pass": "forward+backward" if backward else "forward",
        "seconds": mine,
        "yardstick_seconds": theirs,
        "ratio": mine / theirs,
    }


def seconds(
    function: Callable[..., list[Tensor]], tensors: list[Tensor], *, backward: bool
) -> float:
    """Time of one call, with the gradients of all tensors if asked for."""
    inputs = [tensor.detach().requires_grad_(backward) for tensor in tensors]
    start = time.perf_counter()
    outputs = function(*inputs)
    if backward:
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return time.perf_counter() - start


def main() -> None:
    """Measure every case and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    if not options.json:
        print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
        print(
            f"{'input':>22} {'weight':>14} {'operator':>11} {'pass':>17} {'ours':>9} {'ratio':>6}"
        )
    for case in CASES:
        for transposed in (False, True):
            for backward in (False, True):
                row = measure(
                    case, backward=backward, transposed=transposed, repeats=options.repeats
                )
                rows.append(row)
                if not options.json:
                    shape = "×".join(map(str, (case.batch, case.channels, *case.size)))
                    weight = f"{case.filters}×{case.channels}×{case.kernel}⁴"
                    print(
                        f"{shape:>22} {weight:>14} {row['operator']:>11} {row['pass']:>17} "
                        f"{1000 * float(str(row['seconds'])):>6.0f} ms {row['ratio']:>6.2f}",
                        flush=True,
                    )
    if options.json:
        print(json.dumps({"torch": torch.__version__, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
