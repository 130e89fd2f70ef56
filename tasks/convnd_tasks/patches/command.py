"""``convnd patches``: a thin shell around `convnd_tasks.patches.job`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from convnd_tasks.patches.options import PatchOptions

__all__ = ["patches"]

_WHAT, _MORE, _RUN, _OUT = (
    "What is looked for",
    "What else is shown",
    "Where it runs",
    "What comes out",
)


def patches(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Images, recordings, scans or clips; folders of them; or names of built-in ones "
            "(`convnd samples`). Without any, the built-in ones.",
            show_default=False,
        ),
    ] = None,
    layer: Annotated[
        str,
        typer.Option(
            "--layer", help="Commas between; see `convnd backbones NAME`.", rich_help_panel=_WHAT
        ),
    ] = ",".join(PatchOptions.layers),
    units: Annotated[
        str,
        typer.Option(help="0-15, 3,7,20, random:16 or all.", rich_help_panel=_WHAT),
    ] = PatchOptions.units,
    top: Annotated[
        int, typer.Option(min=1, help="Patches for each unit.", rich_help_panel=_WHAT)
    ] = PatchOptions.top,
    distinct: Annotated[
        str,
        typer.Option(
            help="apart: of overlapping patches the best alone; input: one for each input; "
            "all: overlaps too.",
            rich_help_panel=_WHAT,
        ),
    ] = PatchOptions.distinct,
    dim: Annotated[
        int | None,
        typer.Option(
            "--dim",
            min=1,
            help="Number of spatial axes: 1 signals, 2 images, 3 volumes. "
            "Inferred from the files when left out.",
            show_default=False,
            rich_help_panel=_WHAT,
        ),
    ] = None,
    backbone: Annotated[
        str,
        typer.Option(
            help="See `convnd backbones`; or package.module:name of a module of yours.",
            rich_help_panel=_WHAT,
        ),
    ] = PatchOptions.backbone,
    size: Annotated[
        int,
        typer.Option(
            min=0,
            help="Bring inputs to so many samples along the longest axis; 0: their own.",
            rich_help_panel=_WHAT,
        ),
    ] = PatchOptions.size,
    scale: Annotated[
        bool,
        typer.Option(
            "--scale/--raw",
            help="Map values other than colours to about 0 … 1, or take them as they are.",
            rich_help_panel=_WHAT,
        ),
    ] = PatchOptions.scale,
    optimal: Annotated[
        bool,
        typer.Option(
            "--optimal", help="Also each unit's own optimal input.", rich_help_panel=_MORE
        ),
    ] = PatchOptions.optimal,
    steps: Annotated[
        int, typer.Option(min=1, help="Of the optimal inputs.", rich_help_panel=_MORE)
    ] = PatchOptions.steps,
    explain: Annotated[
        str,
        typer.Option(
            help="Also what in each patch excited the unit: guided, deconvnet or gradient.",
            rich_help_panel=_MORE,
            show_default=False,
        ),
    ] = PatchOptions.explain,
    channel_maps: Annotated[
        str,
        typer.Option(
            metavar="INPUT",
            help="Also where each unit is active in this input.",
            rich_help_panel=_MORE,
            show_default=False,
        ),
    ] = PatchOptions.channel_maps,
    gram: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="BEFORE STYLE AFTER",
            help="Also which channels are active together, before and after a transfer.",
            rich_help_panel=_MORE,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder of the results.", rich_help_panel=_OUT),
    ] = Path("patches"),
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also all of it as one page, .html.", rich_help_panel=_OUT, show_default=False
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results.", rich_help_panel=_OUT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress bar.", rich_help_panel=_OUT)
    ] = False,
    batch: Annotated[
        int,
        typer.Option(min=1, help="Inputs of one size to run together.", rich_help_panel=_RUN),
    ] = PatchOptions.batch,
    seed: Annotated[
        int, typer.Option(help="Of everything random.", rich_help_panel=_RUN)
    ] = PatchOptions.seed,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=_RUN)
    ] = PatchOptions.device,
) -> None:
    """Show what the units of a network look for: the patches that excite them most.

    convnd patches photos/ --layer relu3_1 --units 0-15 --report report.html
    """
    from convnd_tasks.patches.job import run
    from convnd_tasks.weights import ensure

    options = PatchOptions(
        layers=tuple(word.strip() for word in layer.split(",") if word.strip()),
        units=units,
        top=top,
        distinct=distinct,
        backbone=backbone,
        size=size,
        scale=scale,
        optimal=optimal,
        steps=steps,
        explain=explain,
        channel_maps=channel_maps,
        gram=gram or (),
        batch=batch,
        seed=seed,
        device=device,
    )
    ensure(backbone, quiet=quiet)
    outcome = run(
        list(inputs or []),
        dim,
        options,
        output,
        report=report,
        overwrite=overwrite,
        progress=not quiet and sys.stderr.isatty(),
    )
    for error in outcome.failed:
        typer.echo(f"convnd: {error}", err=True)
    for path in outcome.pictures:
        typer.echo(str(path))
    typer.echo(f"{output}  {outcome.patches} patches of {outcome.inputs} inputs")
    if report is not None:
        typer.echo(str(report))
    if outcome.failed:
        typer.echo(f"convnd: {len(outcome.failed)} of {outcome.inputs} failed", err=True)
        raise typer.Exit(1)
