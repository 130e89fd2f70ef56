"""``convnd trace``: sizes, parameters, receptive fields and cost of a stack of layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Annotated

import typer

from convnd.shapes import Row, parse_layer, parse_shape
from convnd.shapes import trace as trace_shapes
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import numeric
from convnd_tasks.runtime.tables import align_columns, receptive_field_record

__all__ = ["as_record", "as_table", "trace"]


@with_json_output("trace")
def trace(
    shape: Annotated[
        str,
        typer.Argument(metavar="SHAPE", help="Samples along each axis, then channels: 14x14x14x1."),
    ],
    layers: Annotated[
        list[str],
        typer.Argument(
            metavar="LAYER",
            show_default=False,
            help="conv:5:16 (5 taps along every axis, 16 filters), pool:2, avgpool:3, "
            "convtranspose:4:8; 5x3x3 is a size per axis. Options follow after commas: "
            "stride=2, dilation=2, padding=same (or causal, or 1, or 1/2 for before/after), "
            "groups=4, bias=no, output_padding=1.",
        ),
    ],
    dim: Annotated[
        int | None,
        numeric(int, 1, 16, "--dim", help="Number of spatial axes. Default: inferred from SHAPE."),
    ] = None,
    *,
    command_output: CommandOutput,
) -> None:
    """Trace a shape through a stack of layers: sizes, parameters, receptive fields, cost.

    Works in any number of dimensions and runs no network. "field" is the receptive field of an
    output position in input samples, "stride" the distance between the fields of neighboring
    positions, and "offset" the start of the first field.

    Example: convnd trace --dim 3 14x14x14x1 conv:5:16 conv:5:32
    """
    size, channels = parse_shape(shape, dim)
    stack = [parse_layer(text, len(size)) for text in layers]
    rows = trace_shapes(size, channels, stack)
    command_output.add(**as_record(rows))
    header, *lines = as_table(rows)
    echo(header, bold=True)
    echo(*lines)


def as_table(rows: Sequence[Row]) -> list[str]:
    r"""Format the rows as lines of aligned columns, with a header and a line of totals.

    >>> rows = trace_shapes((14,), 1, [parse_layer("conv:5:16", 1)])
    >>> print("\n".join(as_table(rows)))
    layer      kernels    output  parameters  multiply-adds  field  stride  offset
    input                   14×1
    conv:5:16  16 of 5×1   10×16          96            800      5       1       0
    total                                 96            800
    """
    titles = ("layer", "kernels", "output", "parameters", "multiply-adds")
    table = [(*titles, "field", "stride", "offset")]
    channels = 0
    for row in rows:
        output = _times((*row.size, row.channels))
        if row.layer is None:
            table.append((row.text, "", output, "", "", "", "", ""))
        else:
            kernels = _times(row.layer.kernel)
            if row.layer.channels is not None:
                kernel = (*row.layer.kernel, channels // row.layer.groups)
                kernels = f"{row.channels} of {_times(kernel)}"
            field = row.field
            cost = (f"{row.parameters:,}", f"{row.multiply_adds:,}")
            extent = (_times(field.span), _brief(field.stride), _brief(field.offset))
            table.append((row.text, kernels, output, *cost, *extent))
        channels = row.channels
    parameters, multiply_adds = _totals(rows)
    table.append(("total", "", "", f"{parameters:,}", f"{multiply_adds:,}", "", "", ""))
    return align_columns(table, numbers=range(2, len(table[0])))


def as_record(rows: Sequence[Row]) -> dict[str, object]:
    """Convert the rows to data for JSON.

    A fraction, which transposed convolutions produce, becomes text such as ``"1/2"``.

    >>> as_record(trace_shapes((14,), 1, [parse_layer("conv:5:16", 1)]))["parameters"]
    96
    """
    parameters, multiply_adds = _totals(rows)
    return {
        "spatial_dims": len(rows[0].size),
        "parameters": parameters,
        "multiply_adds": multiply_adds,
        "layers": [
            {
                "layer": row.text,
                "size": list(row.size),
                "channels": row.channels,
                "parameters": row.parameters,
                "multiply_adds": row.multiply_adds,
                "receptive_field": receptive_field_record(row.field),
            }
            for row in rows
        ],
    }


def _totals(rows: Sequence[Row]) -> tuple[int, int]:
    return sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows)


def _times(values: Iterable[object]) -> str:
    return "×".join(map(str, values))


def _brief(values: tuple[int | Fraction, ...]) -> str:
    """Format values per axis; one number if all axes have the same."""
    return _times(values[:1] if len(set(values)) == 1 else values)
