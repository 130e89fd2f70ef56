"""``convnd train``: train a network for one style."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.options import OUTPUT
from convnd_tasks.pipeline.completion import complete_styles
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Dim, Overwrite, Quiet
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.wording import count_text

if TYPE_CHECKING:
    from convnd_tasks.pipeline.training import TrainingResult

__all__ = ["train"]

_Styles = Annotated[
    list[str],
    typer.Argument(
        metavar="STYLE...",
        help="Styles: files or names of built-in ones, see `convnd samples`. Several are blended.",
        autocompletion=complete_styles,
    ),
]
_Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        help="Contents to train on: pictures, signals, arrays or scans. Default: built-in ones.",
        show_default=False,
    ),
]
_Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="File of the network.", rich_help_panel=OUTPUT
    ),
]


@with_json_output("train")
@with_flags(TrainingOptions)
def train(
    styles: _Styles,
    dim: Dim = None,
    data: _Data = None,
    output: _Output = Path("style.safetensors"),
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    typed_options: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Train a network for one style, which then stylises in a fraction of a second.

    convnd train painting.jpg --minutes 15

    convnd stylize photo.jpg style.safetensors
    """
    from convnd_tasks.pipeline.progress import ProgressDisplay, ensure_weights
    from convnd_tasks.pipeline.training_job import open_job

    options = TrainingOptions(**typed_options)
    job = open_job(styles, dim, data, options, output)
    ensure_weights(*job.modality.options.backbones, quiet=quiet)
    with ProgressDisplay(enabled=not quiet, terminal=sys.stderr.isatty()) as display:
        result = job.run(
            output, overwrite=overwrite, on_progress=display.update, on_message=display.message
        )
    _report(result, output, command_output)
    if result.stopped is not None:
        raise result.stopped


def _report(result: TrainingResult, output: Path, command_output: CommandOutput) -> None:
    """Print one line about the network, and collect its figures for ``--json``."""
    network, record = result.trained.network, result.trained.record
    losses = json.loads(record["convnd:losses"])
    parameters = sum(weight.numel() for weight in network.parameters())
    steps = int(record["convnd:steps_taken"])
    command_output.add(
        output=str(output),
        parameters=parameters,
        shape=network.shape.record(),
        steps=steps,
        losses=losses,
        seconds=round(result.seconds, 3),
        stopped_early=result.stopped is not None,
    )
    early = "" if result.stopped is None else "stopped early, kept: "
    echo(
        f"{early}{output}  {parameters / 1e6:.2f} M weights, {count_text(steps, 'steps')}, "
        f"loss {losses['total']:.4g}, {result.seconds:.1f} s"
    )
