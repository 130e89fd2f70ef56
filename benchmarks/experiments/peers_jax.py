"""Layers of `convnd.nn` against those of Equinox, which computes with JAX, in one to five axes.

    pip install equinox
    python -m benchmarks.experiments.peers_jax --json peers_jax.json

Equinox has convolutions and poolings for any number of axes, and shares no code with torch. Random
arguments make a layer of either; both get the same weights and input, in float64. Values and the
gradients of input and weights have to be equal. The script exits with 1 if one is not.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measurement import add_json_option, write_results
from convnd import nn as cn

RANKS = (1, 2, 3, 4, 5)
TOLERANCE = 1e-9
SUMMARY = (
    "Random arguments (kernel, stride, padding, dilation, groups, border) for layers of one to "
    "five axes. Equal means that values and gradients of input and weights agree to 1e-9 in "
    "float64."
)

Case = tuple[str, nn.Module, Any, tuple[int, ...], str]
"""Name, our layer, theirs, shape of the input without batch, and the arguments as text."""


def each(rank: int, draw: Callable[[], int]) -> tuple[int, ...]:
    """A number for each axis."""
    return tuple(draw() for _ in range(rank))


def convolution(rank: int, rng: random.Random, eqx: Any, key: Any) -> Case:
    """A convolution with random arguments."""
    groups = rng.choice([1, 1, 2])
    border = rng.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    options: dict[str, Any] = {
        "kernel_size": each(rank, lambda: rng.randint(1, 3)),
        "stride": each(rank, lambda: rng.randint(1, 2)),
        "padding": rng.choice([each(rank, lambda: rng.randint(0, 2)), "same", "valid"]),
        "dilation": each(rank, lambda: rng.randint(1, 2)),
        "groups": groups,
        "padding_mode": border,
    }
    if options["padding"] == "same":  # JAX pads by TensorFlow's rule, which reads the stride
        options["stride"] = (1,) * rank
    channels = (2 * groups, groups)
    theirs = eqx.nn.Conv(rank, *channels, **_for_equinox(options), key=key)
    ours = cn.ConvNd(*channels, **options, spatial_dims=rank)
    return "conv", ours, theirs, (channels[0], *each(rank, lambda: rng.randint(5, 6))), str(options)


def transposed(rank: int, rng: random.Random, eqx: Any, key: Any) -> Case:
    """A transposed convolution with random arguments."""
    kernel = each(rank, lambda: rng.randint(1, 3))
    stride = each(rank, lambda: rng.randint(1, 2))
    options: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": stride,
        "padding": tuple(rng.randint(0, (n - 1) // 2) for n in kernel),
        "output_padding": tuple(rng.randint(0, n - 1) for n in stride),
        "groups": rng.choice([1, 2]),
    }
    theirs = eqx.nn.ConvTranspose(rank, 2, 2, **options, key=key)
    ours = cn.ConvTransposeNd(2, 2, **options, spatial_dims=rank)
    return "conv_transpose", ours, theirs, (2, *each(rank, lambda: rng.randint(3, 4))), str(options)


def pooling(rank: int, rng: random.Random, eqx: Any, _key: Any) -> Case:
    """A maximum or average pooling with random arguments."""
    kernel = each(rank, lambda: rng.randint(1, 3))
    options: dict[str, Any] = {
        "kernel_size": kernel,
        "stride": each(rank, lambda: rng.randint(1, 3)),
        "padding": tuple(rng.randint(0, n // 2) for n in kernel),
    }
    name = rng.choice(["max_pool", "avg_pool"])
    kind, layer = {
        "max_pool": (_ranked(eqx, "MaxPool", rank), cn.MaxPoolNd),
        "avg_pool": (_ranked(eqx, "AvgPool", rank), cn.AvgPoolNd),
    }[name]
    ours: nn.Module = layer(**options, spatial_dims=rank)
    size = each(rank, lambda: rng.randint(4, 6))
    return name, ours, kind(**options), (2, *size), str(options)


def adaptive(rank: int, rng: random.Random, eqx: Any, _key: Any) -> Case:
    """An adaptive pooling; Equinox divides axes into other windows unless they are even."""
    output = each(rank, lambda: rng.randint(1, 3))
    size = tuple(n * rng.randint(1, 2) for n in output)
    name = rng.choice(["adaptive_max_pool", "adaptive_avg_pool"])
    import jax.numpy as jnp

    operation = jnp.max if name == "adaptive_max_pool" else jnp.mean
    theirs = eqx.nn.AdaptivePool(output, rank, operation)
    layer = cn.AdaptiveMaxPoolNd if name == "adaptive_max_pool" else cn.AdaptiveAvgPoolNd
    return name, layer(output, spatial_dims=rank), theirs, (2, *size), f"{size} to {output}"


def _ranked(eqx: Any, kind: str, rank: int) -> Callable[..., Any]:
    """Equinox's pooling of a rank; above three axes, its general one."""
    if rank <= 3:
        made: Callable[..., Any] = getattr(eqx.nn, f"{kind}{rank}d")
        return made
    import jax
    import jax.numpy as jnp

    def make(kernel_size: tuple[int, ...], stride: Any, padding: Any) -> Callable[..., Any]:
        shared = {"kernel_size": kernel_size, "stride": stride, "padding": padding}
        if kind == "MaxPool":
            return eqx.nn.Pool(-jnp.inf, jax.lax.max, rank, **shared)  # type: ignore[no-any-return]
        total = eqx.nn.Pool(0.0, jax.lax.add, rank, **shared)
        return lambda x: total(x) / np.prod(kernel_size)

    return make


def _for_equinox(options: dict[str, Any]) -> dict[str, Any]:
    padding = options["padding"]
    words = {"zeros": "ZEROS", "reflect": "REFLECT", "replicate": "REPLICATE"}
    mode = words.get(options["padding_mode"], "CIRCULAR")
    return {
        **options,
        "padding": padding.upper() if isinstance(padding, str) else padding,
        "padding_mode": mode,
    }


def difference(case: Case, seed: int) -> float:
    """The largest difference of values and gradients, relative to the largest value."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    _, ours, theirs, shape, _ = case
    values = np.random.default_rng(seed).standard_normal(shape)
    ours = ours.double()
    weights = [parameter.detach().numpy() for parameter in ours.parameters()]
    if weights:
        shapes = [theirs.weight.shape, theirs.bias.shape]
        given = [_as_equinox(ours, weights[0]), weights[1].reshape(shapes[1])]
        theirs = eqx.tree_at(lambda layer: [layer.weight, layer.bias], theirs, given)

    def objective(pair: Any) -> Any:
        layer, x = pair
        y = layer(x)
        return (y**2).sum() / 2, y

    arrays = (theirs, jnp.asarray(values))
    (_, expected), gradients = eqx.filter_value_and_grad(objective, has_aux=True)(arrays)
    x = torch.tensor(values)[None].requires_grad_()
    y = ours(x)
    grads = torch.autograd.grad((y**2).sum() / 2, [x, *ours.parameters()])
    pairs: list[tuple[Tensor, Any]] = [(y[0], expected), (grads[0][0], gradients[1])]
    if weights:
        theirs_weight = np.asarray(jax.device_get(gradients[0].weight))
        pairs.append((torch.tensor(_as_equinox(ours, grads[1].numpy())), theirs_weight))
        pairs.append((grads[2], np.asarray(gradients[0].bias).ravel()))
    worst = 0.0
    for mine, other in pairs:
        reference = np.asarray(other)
        if tuple(mine.shape) != reference.shape:
            return float("inf")
        error = np.abs(mine.detach().numpy() - reference).max(initial=0)
        worst = max(worst, float(error / (1 + np.abs(reference).max(initial=0))))
    return worst


def _as_equinox(layer: nn.Module, weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Weights in Equinox's order: transposed ones are flipped, with the channels swapped."""
    if not isinstance(layer, cn.ConvTransposeNd):
        return weight
    groups, (_, outputs, *kernel) = layer.groups, weight.shape
    parts = weight.reshape(groups, -1, outputs, *kernel).swapaxes(1, 2)
    merged = parts.reshape(groups * outputs, -1, *kernel)
    return np.flip(merged, tuple(range(2, merged.ndim))).copy()


def main() -> int:
    """Compares random layers, and prints the counts of each kind and rank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=6, help="of each kind and number of axes")
    add_json_option(parser)
    options = parser.parse_args()
    import equinox as eqx
    import jax

    jax.config.update("jax_enable_x64", True)
    counts: dict[str, Counter[int]] = {}
    worst: dict[str, float] = {}
    failures = 0
    for rank in RANKS:
        for make in (convolution, transposed, pooling, adaptive):
            for seed in range(options.cases):
                torch.manual_seed(seed)
                case = make(rank, random.Random(seed), eqx, jax.random.PRNGKey(seed))
                error = difference(case, seed)
                name = case[0]
                counts.setdefault(name, Counter())[rank] += 1
                worst[name] = max(worst.get(name, 0.0), error)
                if not error < TOLERANCE:
                    failures += 1
                    print(f"{name}, {rank} axes, {case[3]}, {case[4]}: {error:.2g}")
    rows = [
        {
            "layer": name,
            **{f"{rank} axes" if rank > 1 else "1 axis": counter[rank] for rank in RANKS},
            "largest difference": worst[name],
        }
        for name, counter in counts.items()
    ]
    for row in rows:
        print("  ".join(f"{value!s:>18}" for value in row.values()))
    print(f"{failures} of {sum(sum(counter.values()) for counter in counts.values())} differ")
    write_results(
        options.json,
        f"Layers against Equinox {eqx.__version__} on JAX {jax.__version__}",
        rows,
        section="Other projects' tests",
        summary=SUMMARY,
    )
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
