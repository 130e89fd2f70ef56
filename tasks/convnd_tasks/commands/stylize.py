"""``convnd stylize``: give a content the style of another, whatever their kind of data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnd_tasks.commands.live import page_beside
from convnd_tasks.modalities import options_class
from convnd_tasks.pipeline.completion import complete_inputs, complete_styles
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.output import CommandOutput, with_json_output
from convnd_tasks.pipeline.parameters import Dim
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Styles", "stylize"]

Styles = Annotated[
    list[str] | None,
    typer.Option(
        "--style",
        metavar="STYLE",
        help="A further style; may be repeated.",
        show_default=False,
        autocompletion=complete_styles,
    ),
]


@with_json_output("stylize")
@with_flags(
    *map(options_class, ("pictures", "signals", "arrays", "volumes", "videos")),
    settings=JobSettings,
    processes=True,
)
def stylize(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTENT] [STYLE]...",
            help="A picture, signal, array, scan or video (or a folder of them) to stylise, and "
            "styles: files or names of built-in ones, see `convnd samples`. Nothing: a built-in "
            "demo.",
            show_default=False,
            autocompletion=complete_inputs,
        ),
    ] = None,
    style: Styles = None,
    dim: Dim = None,
    *,
    typed_options: dict[str, Any],
    typed_settings: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Give a picture, signal, scan, array or video the style of another.

    convnd stylize photo.jpg painting.jpg
    """
    from convnd_tasks.pipeline.run import run_command

    with page_beside(typed_settings):
        run_command(files, style, dim, typed_options, typed_settings, command_output)
