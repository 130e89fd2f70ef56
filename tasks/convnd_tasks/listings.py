"""``convnd backbones`` and ``convnd samples``: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["backbones", "samples"]


def backbones(
    name: Annotated[
        str | None, typer.Argument(help="List the layers of this one.", show_default=False)
    ] = None,
) -> None:
    """List the networks, or the layers of one."""
    from convnd.backbones import BACKBONES, VGG

    if name is None:
        for each in BACKBONES:
            typer.echo(f"{each:20} {BACKBONES[each].summary}")
        return
    import torch

    plan = BACKBONES[name].plan
    with torch.device("meta"):
        net = VGG(plan, spatial_dims=1, in_channels=3)
    typer.echo(f"{'layer':10} {'channels':>8} {'stride':>6} {'receptive field':>15}")
    channels = 3
    widths = iter(width for block in plan.widths for width in block)
    for layer in plan.layers:
        if layer.startswith("conv"):
            channels = next(widths)
        field = net.fields[layer]
        typer.echo(f"{layer:10} {channels:8} {field.stride[0]:6} {field.size[0]:15}")


def samples() -> None:
    """List the built-in contents and styles."""
    from convnd_tasks import samples as built_in

    for dim in (1, 2, 3):
        typer.echo(f"--dim {dim}")
        typer.echo(f"  contents  {', '.join(built_in.contents(dim))}")
        typer.echo(f"  styles    {', '.join(built_in.styles(dim))}")
