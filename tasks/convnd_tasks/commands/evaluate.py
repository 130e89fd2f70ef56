"""``convnd evaluate``: compare a result with its content and style."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from convnd_tasks.modalities import options_class
from convnd_tasks.pipeline.completion import complete_styles
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.job_options import READING_OPTIONS
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Dim
from convnd_tasks.runtime.settings import JobSettings

__all__ = ["evaluate"]


@with_json_output("evaluate")
@with_flags(
    *map(options_class, ("pictures", "signals", "arrays", "volumes", "videos")),
    settings=JobSettings,
    only=READING_OPTIONS,
)
def evaluate(
    content: Annotated[str, typer.Argument(help="The input that was stylised.")],
    result: Annotated[str, typer.Argument(help="The stylised file.")],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="A style of the result: a file, or the name of a built-in one. May be repeated.",
            metavar="STYLE",
            show_default=False,
            autocompletion=complete_styles,
        ),
    ] = None,
    dim: Dim = None,
    *,
    typed_options: dict[str, Any],
    typed_settings: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Measure what a style transfer kept of the content and took from the style.

    convnd evaluate ecg.csv ecg_stylized.csv --style noisy.csv
    """
    from convnd_tasks.modalities.metrics import as_json, as_table
    from convnd_tasks.pipeline.evaluation import evaluate_files

    measures = evaluate_files(
        content, result, style or [], dim=dim, options=typed_options, settings=typed_settings
    )
    command_output.add(measures=as_json(measures))
    if not measures:
        echo("nothing is measured without a style; add --style", err=True)
        return
    echo(*as_table(measures))
