"""``convnd export``: a trained network as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnd.options import OUTPUT
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Overwrite

__all__ = ["export"]

_SUFFIX = ".onnx"


@with_json_output("export")
def export(
    network: Annotated[
        Path, typer.Argument(metavar="FILE.safetensors", help="A network of `convnd train`.")
    ],
    output: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE.onnx]",
            help="The file to write. Default: the same name with .onnx.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    *,
    command_output: CommandOutput,
) -> None:
    """Write a trained network in the format ONNX, for programs without torch.

    convnd export painting.safetensors painting.onnx
    """
    from convnd.errors import InputFileError, UsageError
    from convnd.feedforward.network_file import read_network
    from convnd.feedforward.onnx_file import write_onnx
    from convnd.feedforward.transform_net import TransformNet

    target = network.with_suffix(_SUFFIX) if output is None else output
    if target.suffix.lower() != _SUFFIX:
        raise UsageError(
            f"write {target}",
            expected="a name ending in .onnx",
            got=target.suffix or "no suffix",
            remedy="rename it",
        )
    trained = read_network(network)
    if not isinstance(trained.network, TransformNet):
        raise InputFileError(
            str(network),
            expected="a network for patterns of a style",
            got="one for the look of scans, whose limits and safety figures are not in it",
            remedy="use it with convnd stylize-volume",
        )
    write_onnx(target, trained.network, overwrite=overwrite)
    axes, channels = trained.network.shape.spatial_dims, trained.network.shape.channels
    command_output.add(path=str(target), spatial_dims=axes, channels=channels)
    echo(f"{target}  input x and output y: (batch, {channels}, {', '.join(['size'] * axes)})")
