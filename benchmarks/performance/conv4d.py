"""Time of a 4-D convolution over the time of ``conv3d`` calls with as many multiply-adds.

    python -m benchmarks.performance.conv4d --repeats 7 --json conv4d.json

A kernel of K taps along the folded axis has two references: K calls of ``conv3d``, one for each
tap, without summing their outputs; and one call with K times the channels, without gathering the
inputs. Their tensors exist before the clock starts. The ratio is to the faster reference. With
``--jax``, JAX's own 4-D convolution, compiled before the clock starts, takes part. All candidates
take turns in one process; times are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measurement import add_json_option, write_results
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


def convnd_call(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The convolution as the library does it."""
    return [conv_nd(x, weight)]


def convnd_transposed(x: Tensor, weight: Tensor) -> list[Tensor]:
    """The transposed convolution as the library does it."""
    return [conv_transpose_nd(x, weight)]


def jax_seconds(x: Tensor, weight: Tensor, *, backward: bool) -> Callable[[], float]:
    """Return a clock of JAX's convolution over four axes, or of its gradients as well."""
    import jax
    import jax.numpy as jnp

    def convolve(x: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(x, weight, (1,) * 4, "VALID")

    def loss(x: Any, weight: Any) -> Any:
        return convolve(x, weight).sum()

    run = jax.jit(jax.value_and_grad(loss, (0, 1)) if backward else convolve)
    arrays = jnp.asarray(x.numpy()), jnp.asarray(weight.numpy())
    jax.block_until_ready(run(*arrays))

    def clock() -> float:
        start = time.perf_counter()
        jax.block_until_ready(run(*arrays))
        return time.perf_counter() - start

    return clock


def measure(
    case: Case, *, backward: bool, transposed: bool, repeats: int, with_jax: bool = False
) -> dict[str, Any]:
    """Median seconds of convnd and of the references, and the ratio to the faster reference."""
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

    def calls(stack: Tensor, *taps: Tensor) -> list[Tensor]:
        return [conv3d(stack, tap) for tap in taps]

    run = convnd_transposed if transposed else convnd_call
    joint = [stack.repeat(1, case.kernel, 1, 1, 1), torch.cat(taps, 0 if transposed else 1)]
    times: dict[str, list[float]] = {"ours": [], "calls": [], "joint": []}
    clock = jax_seconds(x, weight, backward=backward) if with_jax and not transposed else None
    if clock is not None:
        times["jax"] = []
    for _ in range(repeats + 1):
        times["ours"].append(seconds(run, [x, weight], backward=backward))
        times["calls"].append(seconds(calls, [stack, *taps], backward=backward))
        times["joint"].append(seconds(calls, joint, backward=backward))
        if clock is not None:
            times["jax"].append(clock())
    # The first round warms up.
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    return {
        **asdict(case),
        "operator": "transposed" if transposed else "conv",
        "pass": "forward+backward" if backward else "forward",
        "seconds": medians,
        "ratio": medians["ours"] / min(medians["calls"], medians["joint"]),
    }


def seconds(
    function: Callable[..., list[Tensor]], tensors: list[Tensor], *, backward: bool
) -> float:
    """Seconds of one call, with the gradients of all tensors if ``backward``."""
    inputs = [tensor.detach().requires_grad_(backward) for tensor in tensors]
    start = time.perf_counter()
    outputs = function(*inputs)
    if backward:
        torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
    return time.perf_counter() - start


def main() -> None:
    """Measures every case and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)), help="numbers")
    parser.add_argument("--jax", action="store_true", help="also JAX (pip install jax)")
    add_json_option(parser)
    options = parser.parse_args()
    cases = [CASES[number] for number in options.cases]
    rows = []
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, milliseconds")
    titles = ("input", "weight", "operator", "pass", "ratio", "ours", "calls", "joint", "jax")
    print("{:>17} {:>10} {:>10} {:>16} {:>5} {:>6} {:>6} {:>6} {:>6}".format(*titles))
    for case, transposed, backward in product(cases, (False, True), (False, True)):
        row = measure(
            case,
            backward=backward,
            transposed=transposed,
            repeats=options.repeats,
            with_jax=options.jax,
        )
        rows.append(row)
        shape = "×".join(map(str, (case.batch, case.channels, *case.size)))
        weight = f"{case.filters}×{case.channels}×{case.kernel}⁴"
        times = " ".join(f"{1000 * seconds:>6.0f}" for seconds in row["seconds"].values())
        head = f"{shape:>17} {weight:>10} {row['operator']:>10} {row['pass']:>16}"
        print(f"{head} {row['ratio']:>5.2f} {times}", flush=True)
    write_results(options.json, "Convolution over four axes", rows)


if __name__ == "__main__":
    main()
