"""``convnd backbones``: list the networks, or the layers of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnd_tasks.pipeline.completion import complete_weights
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import numeric
from convnd_tasks.runtime.tables import align_columns, receptive_field_record

__all__ = ["backbones"]


@with_json_output("backbones")
def backbones(
    name: Annotated[
        str | None,
        typer.Argument(
            help="List the layers of this network.",
            show_default=False,
            autocompletion=complete_weights,
        ),
    ] = None,
    dim: Annotated[
        int, numeric(int, 1, 16, "--dim", help="Number of spatial axes of the data.")
    ] = 2,
    channels: Annotated[
        int, numeric(int, 1, 1_000_000, help="Number of channels of the data.")
    ] = 3,
    *,
    command_output: CommandOutput,
) -> None:
    """List the networks, or the layers of one.

    Every network works in any number of dimensions; `--dim` and `--channels` set the data for
    which parameters are counted.
    """
    from convnd.backbones import BACKBONES

    names = [*BACKBONES] if name is None else [name]
    records = [_record(backbone, dim, channels) for backbone in names]
    command_output.add(**({"backbones": records} if name is None else records[0]))
    for record in records:
        echo(f"{record['name']}  {record['summary']}", bold=True)
        echo(*_description(record))
    if name is not None:
        echo("", *_layer_table(records[0]))


def _record(name: str, dim: int, channels: int) -> dict[str, Any]:
    from convnd.backbones import BACKBONES
    from convnd.backbones.weights import WEIGHTS, user_path

    source = BACKBONES[name]
    shipped = WEIGHTS[source.weights] if source.weights in WEIGHTS else None  # noqa: SIM401
    parameters = source.plan.parameters(dim, channels)
    fields = source.plan.receptive_fields(dim)
    total = sum(parameters.values())
    return {
        "name": name,
        "summary": source.summary,
        "trained_rank": 2,
        "spatial_dims": dim,
        "in_channels": channels,
        "parameters": total,
        "bytes": 4 * total,
        "stored_bytes": user_path(name).stat().st_size if shipped is None else shipped.origin.size,
        "licence": "yours" if shipped is None else shipped.licence,
        "provenance": "added by the user" if shipped is None else shipped.provenance,
        "layers": [
            {
                "layer": layer,
                "channels": source.plan.channels[layer],
                "parameters": parameters.get(layer, 0),
                "receptive_field": receptive_field_record(fields[layer]),
            }
            for layer in source.plan.layers
        ],
    }


def _description(record: dict[str, Any]) -> list[str]:
    layers = record["layers"]
    dim = record["spatial_dims"]
    last = layers[-1]["receptive_field"]
    return [
        f"  rank        trained on {record['trained_rank']} spatial axes, works with any number;",
        "              with more axes it is applied to planes, see --inflation of stylize",
        f"  layers      {len(layers)}, {layers[0]['layer']} to {layers[-1]['layer']}: "
        f"{layers[0]['channels']} to {layers[-1]['channels']} channels, stride to "
        f"{last['stride'][0]}, receptive field to {last['span'][0]}",
        f"  weights     {record['parameters']:,} at --dim {dim} with {record['in_channels']} "
        f"channels, {_mib(record['bytes'])} as float32",
        f"  file        {_mib(record['stored_bytes'])}",
        f"  licence     {record['licence']}",
        f"  provenance  {record['provenance']}",
    ]


def _layer_table(record: dict[str, Any]) -> list[str]:
    table = [("layer", "channels", "stride", "receptive field", "parameters")]
    for row in record["layers"]:
        field = row["receptive_field"]
        numbers = row["channels"], field["stride"][0], field["span"][0]
        table.append((row["layer"], *map(str, numbers), f"{row['parameters']:,}"))
    table.append(("total", "", "", "", f"{record['parameters']:,}"))
    return align_columns(table, numbers=range(1, len(table[0])))


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.3g} MiB" if size < 1 << 30 else f"{size / (1 << 30):.3g} GiB"
