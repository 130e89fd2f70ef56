"""``convnd stylize-volume``: a thin shell around `convnd_tasks.modalities.volumes.job`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from convnd.options import LOOK, OUTPUT, WORK
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.pipeline.flags import (
    CheckpointEvery,
    Metadata,
    Overwrite,
    Quiet,
    Report,
    Resume,
    SkipExisting,
    numbers,
    with_flags,
)
from convnd_tasks.pipeline.output import Summary, summarised

__all__ = ["stylize_volume"]


@summarised("stylize-volume")
@with_flags(VolumeOptions, processes=True)
def stylize_volume(
    scan: Annotated[
        str,
        typer.Argument(
            help="NIfTI (.nii, .nii.gz; 4-D: each frame), the folder of a DICOM series, .nrrd, "
            ".mha, or .npy with --spacing."
        ),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="A scan, a picture, or the name of a built-in one (`convnd samples`); may be "
            "given several times. Left out: a built-in one.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Default: <scan>_stylized.nii.gz here.",
            show_default=False,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, or input: the scan's own integers; the rounding error is reported.",
            rich_help_panel=OUTPUT,
        ),
    ] = "float32",
    montage: Annotated[
        bool,
        typer.Option(
            "--montage/--no-montage",
            help="Also <output>.png: three planes of scan, style, result and difference.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    report: Report = None,
    metadata: Metadata = True,
    quiet: Quiet = False,
    mask: Annotated[
        str | None,
        typer.Option(
            help="A volume of the scan's shape: nothing changes where it is 0.",
            show_default=False,
            rich_help_panel=LOOK,
        ),
    ] = None,
    spacing: Annotated[
        str,
        typer.Option(
            metavar="X,Y,Z",
            help="Millimetres between samples, for .npy and .npz.",
            show_default=False,
            rich_help_panel=WORK,
        ),
    ] = "",
    checkpoint_every: CheckpointEvery = 0,
    resume: Resume = False,
    *,
    given: dict[str, Any],
    summary: Summary,
) -> None:
    """Give a scan the style of another; affine, units and Hounsfield values stay true.

    convnd stylize-volume scan.nii --style other.nii.gz
    """
    from convnd_tasks.modalities.volumes.job import ScanJob

    ScanJob(
        options=VolumeOptions(**given),
        scan=scan,
        styles=tuple(style or ()),
        output=output,
        overwrite=overwrite,
        skip_existing=skip_existing,
        dtype=dtype,
        montage=montage,
        report=report,
        metadata=metadata,
        quiet=quiet,
        mask=mask,
        spacing=numbers("--spacing", spacing),
        checkpoint_every=checkpoint_every,
        resume=resume,
    ).run(summary)
