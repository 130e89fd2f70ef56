"""PyTorch's own inputs of its operators and layers, given to those of `convnd.nn`.

    pip install expecttest
    python -m benchmarks.experiments.peers_torch --json peers_torch.json

The wheel of torch holds the inputs that PyTorch tests its operators with (``op_db``) and its layers
(``module_db``), and inputs that have to be refused. Each is given to torch's operator and to the
one of `convnd.nn`. An input counts as

- equal, if values, type and gradients are those of torch, or if both refuse it;
- unsupported, if only convnd refuses it, with an error of its own;
- different, in all other cases; the script then exits with 1.

Inputs without a batch axis get one, which the layers of convnd require.
"""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from benchmarks.measurement import Table, add_json_option, write_results
from convnd import nn as cn
from convnd.errors import ConvndError

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex128)
MODES = {"bilinear": "linear", "trilinear": "linear", "bicubic": "cubic"}
PLAIN = ("conv", "conv_transpose", "max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool")

SUMMARY = (
    "Inputs that PyTorch tests itself with, in five number formats, given to torch and to "
    "`convnd.nn`: equal values, number formats and gradients, or an error. Unsupported are crops "
    "to an empty result, batch normalisation without spatial axes, and paddings of one number in "
    "a list. "
    'What torch refuses and convnd computes is `padding="same"` with strides and an average '
    "over an empty batch."
)

Function = Callable[..., Any]


def with_batch(function: Function, rank: int) -> Function:
    """A function that gives inputs without a batch axis one."""

    def call(x: Tensor, *arguments: Any, **options: Any) -> Any:
        if x.ndim != rank + 1:
            return function(x, *arguments, **options)
        result = function(x[None], *arguments, **options)
        return tuple(part[0] for part in result) if isinstance(result, tuple) else result[0]

    return call


def pad(x: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """`pad_nd` with torch's flat list of the last axes, in reverse order."""
    pairs = [*zip(pad[::2], pad[1::2], strict=True)][::-1]
    before = x.shape[: x.ndim - len(pairs)]
    batch = before if len(before) == 2 else (1, math.prod(before))
    result = cn.pad_nd(x.reshape(*batch, *x.shape[len(before) :]), pairs, mode, value)
    return result.view(*before, *result.shape[2:])


def interpolate(x: Tensor, size: Any = None, mode: str = "nearest", **options: Any) -> Any:
    """`interpolate_nd` with torch's names of modes."""
    if options.pop("antialias", False):
        raise ConvndError("antialias")
    return cn.interpolate_nd(x, size, mode=MODES.get(mode, mode), **options)


def last_axes(function: Function) -> Function:
    """A function of ``(C, H, W)`` over all axes before."""

    def call(x: Tensor, **options: int) -> Tensor:
        batch = math.prod(x.shape[:-3])
        result: Tensor = function(x.reshape(batch, *x.shape[-3:]), **options)
        return result.view(*x.shape[:-3], *result.shape[1:])

    return call


def functions() -> dict[str, Function]:
    """The functions of convnd by torch's names."""
    table: dict[str, Function] = {
        f"{name}{rank}d": with_batch(getattr(cn, f"{name}_nd"), rank)
        for name in PLAIN
        for rank in (1, 2, 3)
    }
    table |= {"pad": pad, "interpolate": interpolate, "unfold": with_batch(cn.unfold_nd, 2)}
    table["grid_sample"] = cn.grid_sample_nd
    table["pixel_shuffle"] = last_axes(cn.pixel_shuffle_nd)
    table["pixel_unshuffle"] = last_axes(cn.pixel_unshuffle_nd)
    return {f"nn.functional.{name}": function for name, function in table.items()}


def leaves(values: Any) -> Iterator[Tensor]:
    """All tensors in nested arguments."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from leaves(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from leaves(value)


def fresh(values: Any) -> Any:
    """Copies of nested arguments whose tensors are leaves."""
    if isinstance(values, Tensor):
        return values.detach().clone().requires_grad_(values.requires_grad)
    if isinstance(values, Mapping):
        return {name: fresh(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return type(values)(fresh(value) for value in values)
    return values


def result_and_gradients(function: Function, arguments: Any, options: Any) -> list[Tensor]:
    """Outputs and the gradients of their squares, or the error that the function raises."""
    arguments, options = fresh(arguments), fresh(options)
    outputs = list(leaves(function(*arguments, **options)))
    inputs = [tensor for tensor in leaves([arguments, options]) if tensor.requires_grad]
    smooth = [y for y in outputs if y.requires_grad]
    if not inputs or not smooth:
        return outputs
    total = sum((y * y.detach().conj()).real.double().sum() for y in smooth)
    gradients = torch.autograd.grad(total, inputs, allow_unused=True)  # type: ignore[arg-type]
    return outputs + [gradient for gradient in gradients if gradient is not None]


def verdict(ours: Function, theirs: Function, arguments: Any, options: Any) -> tuple[str, str]:
    """Compare two functions; the second word says why."""
    try:
        expected: Any = result_and_gradients(theirs, arguments, options)
    except Exception as error:  # whatever torch raises, it refuses the input
        expected = error
    try:
        results = result_and_gradients(ours, arguments, options)
    except ConvndError as error:
        return ("equal", "") if isinstance(expected, Exception) else ("unsupported", str(error))
    except Exception as error:  # torch's own, for example of a number format
        if isinstance(expected, Exception):
            return "equal", ""
        return "different", f"{type(error).__name__}: {error}"
    if isinstance(expected, Exception):
        return "different", f"torch refuses: {expected}"
    try:
        assert len(results) == len(expected)
        for result, other in zip(results, expected, strict=True):
            assert_close(result, other)
    except AssertionError as error:
        return "different", str(error)
    return "equal", ""


def operator_rows() -> Iterator[tuple[str, str, Function, Function, Any, Any]]:
    """Every input of every operator that convnd has too."""
    from torch.testing._internal.common_methods_invocations import op_db

    table = functions()
    for op in op_db:
        if op.name not in table:
            continue
        name = " ".join(
            filter(None, [op.name.removeprefix("nn.functional."), op.variant_test_name])
        )
        for dtype in DTYPES:
            if dtype not in op.dtypes:
                continue
            gradients = dtype in op.backward_dtypes and dtype in (torch.float64, torch.complex128)
            for sample in op.sample_inputs("cpu", dtype, requires_grad=gradients):
                arguments = (sample.input, *sample.args)
                yield name, "inputs", table[op.name], op.op, arguments, sample.kwargs
        if op.error_inputs_func is not None:
            for error_input in op.error_inputs("cpu"):
                sample = error_input.sample_input
                arguments = (sample.input, *sample.args)
                yield name, "errors", table[op.name], op.op, arguments, sample.kwargs


def make_layer(theirs: type[nn.Module], rank: int, arguments: Any, options: Any) -> nn.Module:
    """The layer of convnd for one of torch."""
    kind = theirs.__name__[:-2]
    options = {**options, "spatial_dims": rank}
    if kind.endswith("Pad"):
        mode = {"Circular": "circular", "Reflection": "reflect", "Replication": "replicate"}
        padding, *value = arguments or [options.pop("padding")]
        if not isinstance(padding, int):
            padding = [*zip(padding[::2], padding[1::2], strict=True)][::-1]
        return cn.PadNd(padding, mode.get(kind[:-3], "constant"), *value, **options)
    layer: nn.Module = getattr(cn, f"{kind}Nd")(*arguments, **options)
    return layer


def module_rows() -> Iterator[tuple[str, str, Function, Function, Any, Any]]:
    """Every input of every layer that convnd has too."""
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        kind, rank = info.module_cls.__name__[:-2], info.module_cls.__name__[-2:-1]
        if not rank.isdigit() or not (hasattr(cn, f"{kind}Nd") or kind.endswith("Pad")):
            continue
        for dtype in DTYPES:
            if dtype not in info.dtypes:
                continue
            for training in (True, False):
                inputs = info.module_inputs_func(
                    info, device="cpu", dtype=dtype, requires_grad=False, training=training
                )
                for given in inputs:
                    made, forward = given.constructor_input, given.forward_input
                    functions = layer_functions(info.module_cls, int(rank), made, dtype, training)
                    yield f"nn.{kind}{rank}d", "inputs", *functions, forward.args, forward.kwargs


def layer_functions(
    theirs: type[nn.Module], rank: int, made: Any, dtype: torch.dtype, training: bool
) -> tuple[Function, Function]:
    """Functions that make a layer with the same random weights, and call it."""

    def call(make: Callable[[], nn.Module]) -> Function:
        def run(x: Tensor, *arguments: Any, **options: Any) -> Any:
            torch.manual_seed(0)
            layer = make().to(dtype).train(training)
            x = x.requires_grad_(dtype in (torch.float64, torch.complex128))
            outputs = list(leaves(layer(x, *arguments, **options)))
            if not x.requires_grad or not outputs[0].requires_grad:
                return outputs
            total = (outputs[0] * outputs[0].detach().conj()).real.sum()
            leaf = [x, *layer.parameters()]
            state = [value for value in layer.state_dict().values() if value.is_floating_point()]
            gradients = torch.autograd.grad(total, leaf)
            return [part.detach() for part in (*outputs, *gradients, *state)]

        return run

    arguments, options = made.args, made.kwargs
    ours = call(lambda: make_layer(theirs, rank, arguments, options))
    return with_batch_of_layer(ours, rank), call(lambda: theirs(*arguments, **options))


def with_batch_of_layer(function: Function, rank: int) -> Function:
    """As `with_batch`, for the outputs and the gradient of the input alone."""

    def call(x: Tensor, *arguments: Any, **options: Any) -> Any:
        if x.ndim != rank + 1:
            return function(x, *arguments, **options)
        y, *rest = function(x.detach()[None], *arguments, **options)
        if rest and rest[0].shape[:1] == (1,) and rest[0].ndim == rank + 2:
            rest[0] = rest[0][0]  # indices of a pooling, or the gradient of the input
        return [y[0], *rest]

    return call


def main() -> int:
    """Gives every input to both, and prints the counts of each operator."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="operators and layers whose name contains this")
    parser.add_argument("--reasons", action="store_true", help="print why inputs are not equal")
    add_json_option(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: dict[str, dict[str, Counter[str]]] = {"operators": {}, "layers": {}}
    reasons: Counter[str] = Counter()
    for kind, rows in (("operators", operator_rows()), ("layers", module_rows())):
        for name, role, ours, theirs, arguments, keywords in rows:
            if options.only not in name:
                continue
            word, reason = verdict(ours, theirs, arguments, keywords)
            counts[kind].setdefault(name, Counter())[f"{role} {word}"] += 1
            if reason:
                reasons[f"{word}: {name}: {' '.join(reason.split())[:160]}"] += 1
    tables = []
    for kind, table in counts.items():
        lines = [row_of(name, counter) for name, counter in table.items()]
        total: Counter[str] = sum(table.values(), Counter())
        lines.append(row_of(f"all {len(lines)}", total))
        tables.append(Table(caption=f"Inputs of PyTorch's {kind}", rows=lines))
        for line in lines:
            print(
                " ".join(
                    f"{value!s:>{28 if n == 0 else 12}}" for n, value in enumerate(line.values())
                )
            )
    if options.reasons:
        for reason, count in reasons.most_common():
            print(f"{count:>5} {reason}")
    write_results(
        options.json,
        "PyTorch's own inputs of operators and layers",
        tables,
        section="Other projects' tests",
        summary=SUMMARY,
    )
    return int(any(row["different"] for table in tables for row in table.rows))


def row_of(name: str, counter: Counter[str]) -> dict[str, Any]:
    """The counts of one operator."""
    return {
        "name": name,
        "inputs": sum(count for word, count in counter.items() if word.startswith("inputs")),
        "equal": counter["inputs equal"],
        "unsupported": counter["inputs unsupported"],
        "different": counter["inputs different"],
        "refused by torch": sum(count for word, count in counter.items() if "errors" in word),
        "by convnd too": counter["errors equal"],
    }


if __name__ == "__main__":
    sys.exit(main())
