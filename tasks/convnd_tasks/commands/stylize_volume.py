"""``convnd stylize-volume``: ``stylize`` with the options and defaults of scans alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnd_tasks.commands.live import page_beside
from convnd_tasks.commands.stylize import Styles
from convnd_tasks.modalities import options_class
from convnd_tasks.pipeline.completion import complete_inputs
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["stylize_volume"]


def _print_description(wanted: bool) -> None:
    """Print the description, and end."""
    if wanted:
        from convnd_tasks.pipeline.slicer_xml import module_description

        echo(*module_description().splitlines())
        raise typer.Exit


@with_json_output("stylize-volume")
@with_flags(options_class("volumes"), settings=JobSettings, kind="volumes", processes=True)
def stylize_volume(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="SCAN [STYLE]...",
            help="NIfTI (4-D: each frame), the folder of a DICOM series, NRRD, MetaImage, or an "
            "array with --spacing; or a folder of scans. Styles are scans, pictures or names of "
            "built-in ones.",
            autocompletion=complete_inputs,
        ),
    ],
    style: Styles = None,
    xml: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--xml",
            is_eager=True,
            callback=_print_description,
            help="Print the description of this command that 3D Slicer reads.",
        ),
    ] = False,
    *,
    typed_options: dict[str, Any],
    typed_settings: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Give a scan the style of another; affine, units and Hounsfield values stay true.

    convnd stylize-volume scan.nii --style other.nii.gz
    """
    from convnd_tasks.pipeline.run import run_command

    with page_beside(typed_settings):
        run_command(
            files, style, 3, typed_options, typed_settings, command_output, modality="volumes"
        )
