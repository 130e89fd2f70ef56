"""``convnd view``: a local page that shows jobs while they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convnd.errors import UsageError
from convnd.options import OUTPUT
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import numeric

__all__ = ["view"]

_Port = Annotated[
    int,
    numeric(int, 0, 65535, "--port", help="Port of the page; 0: any that is free."),
]
_Folder = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FOLDER",
        help="Folder of the results; the page reads and writes nothing else. Default: this folder.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
_ReadOnly = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Only show the results of a folder: nothing is started, changed or written.",
        show_default=False,
    ),
]


@with_json_output("view")
def view(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTENT] [STYLE]...",
            help="Content and styles to begin with: files in the folder, or built-in ones.",
            show_default=False,
        ),
    ] = None,
    output: _Folder = None,
    read_only: _ReadOnly = None,
    port: _Port = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    *,
    command_output: CommandOutput,
) -> None:
    """Open a local page that stylises pictures, signals, scans and clips, and shows every step.

    The page is on this computer only (127.0.0.1), and its address holds a secret. Ctrl-C ends it;
    jobs keep their checkpoints.

    convnd view photo.jpg waves
    """
    from convnd_tasks.view import run

    if read_only is not None and (files or output is not None):
        raise UsageError(
            "--read-only", expected="no files and no --output", got="some", remedy="leave them out"
        )
    folder = read_only or output or Path()

    def on_start(address: str) -> None:
        command_output.add(address=address, folder=str(folder.resolve()))
        echo(address)
        echo("Ctrl-C ends the page; unfinished jobs keep their checkpoints.", err=True)

    run.run(
        folder,
        files or [],
        read_only=read_only is not None,
        port=port,
        browser=browser,
        on_start=on_start,
    )
