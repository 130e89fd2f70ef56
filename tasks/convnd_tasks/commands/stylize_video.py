"""``convnd stylize-video``: ``stylize`` with the options and defaults of videos alone."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnd_tasks.commands.live import page_beside
from convnd_tasks.commands.stylize import Styles
from convnd_tasks.modalities import options_class
from convnd_tasks.pipeline.completion import complete_inputs
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.output import CommandOutput, with_json_output
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["stylize_video"]


@with_json_output("stylize-video")
@with_flags(options_class("videos"), settings=JobSettings, kind="videos")
def stylize_video(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VIDEO] [STYLE]...",
            help="A video, or a folder of numbered pictures or of videos; styles are pictures, "
            "names of built-in ones, or with --mode block videos. Nothing: a built-in demo.",
            show_default=False,
            autocompletion=complete_inputs,
        ),
    ] = None,
    style: Styles = None,
    *,
    typed_options: dict[str, Any],
    typed_settings: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Give a video the style of a picture, without flicker; times and sound stay as they are.

    convnd stylize-video clip.mp4 painting.jpg
    """
    from convnd_tasks.pipeline.run import run_command

    with page_beside(typed_settings):
        run_command(
            files, style, 3, typed_options, typed_settings, command_output, modality="videos"
        )
