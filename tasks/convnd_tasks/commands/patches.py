"""``convnd patches``: show what the units of a network respond to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.options import OUTPUT
from convnd_tasks.inspect.options import VIEWS, PatchOptions
from convnd_tasks.pipeline.completion import complete_inputs
from convnd_tasks.pipeline.flags import with_flags
from convnd_tasks.pipeline.output import CommandOutput, echo, with_json_output
from convnd_tasks.pipeline.parameters import Dim, Overwrite, Quiet, Report
from convnd_tasks.runtime.wording import count_text

if TYPE_CHECKING:
    from convnd_tasks.inspect.job import PatchResult

__all__ = ["patches"]


_Gram = Annotated[
    tuple[str, str, str] | None,
    typer.Option(
        metavar="BEFORE STYLE AFTER",
        help="Also compare the Gram matrices before and after a transfer.",
        rich_help_panel=VIEWS,
        show_default=False,
    ),
]
_Folder = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FOLDER", help="Folder of the results.", rich_help_panel=OUTPUT
    ),
]
_DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Search only the first input, write nothing, and print how long the job takes and "
        "what it would write.",
        rich_help_panel=OUTPUT,
    ),
]


@with_json_output("patches")
@with_flags(PatchOptions)
def patches(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT",
            help="Images, signals, scans or videos; folders of them; or names of built-in "
            "samples (`convnd samples`). Default: the built-in samples.",
            show_default=False,
            autocompletion=complete_inputs,
        ),
    ] = None,
    dim: Dim = None,
    gram: _Gram = None,
    output: _Folder = Path("patches"),
    report: Report = None,
    overwrite: Overwrite = False,
    dry_run: _DryRun = False,
    quiet: Quiet = False,
    *,
    typed_options: dict[str, Any],
    command_output: CommandOutput,
) -> None:
    """Show what the units of a network respond to: the patches that excite them most.

    convnd patches photos/ --layer relu3_1 --units 0-15 --report report.html
    """
    from convnd_tasks.inspect.job import estimate_patches, run_patches
    from convnd_tasks.pipeline.progress import ProgressDisplay, ensure_weights
    from convnd_tasks.pipeline.watching import current_watcher

    options = PatchOptions(gram=gram or (), **typed_options)
    ensure_weights(options.backbone, quiet=quiet)
    if dry_run:
        estimate = estimate_patches(
            list(inputs or []), dim, options, output, report=report, overwrite=overwrite
        )
        echo(*estimate.lines())
        command_output.add(dry_run=estimate.record(1))
        return
    watcher = current_watcher()

    def on_progress(done: int, total: int) -> None:
        display.update_count(done, total, "inputs")
        watcher.on_count(done, total)

    with ProgressDisplay(enabled=not quiet, terminal=sys.stderr.isatty()) as display:
        result = run_patches(
            list(inputs or []),
            dim,
            options,
            output,
            report=report,
            overwrite=overwrite,
            on_progress=on_progress,
            on_message=display.message,
        )
    _print(result, output, report, command_output)


def _print(
    result: PatchResult, output: Path, report: Path | None, command_output: CommandOutput
) -> None:
    """Print the files that were written, and the inputs that failed."""
    command_output.add(
        output=str(output),
        inputs=result.inputs,
        patches=result.patches,
        pictures=[str(path) for path in result.pictures],
        report=None if report is None else str(report),
        failed=[{"error": str(error)} for error in result.errors],
        messages=result.messages,
    )
    for error in result.errors:
        echo(f"convnd: {error}", err=True)
    echo(*map(str, result.pictures))
    inputs = count_text(result.inputs, "inputs")
    echo(f"{output}  {count_text(result.patches, 'patches')} of {inputs}")
    if report is not None:
        echo(str(report))
    if result.errors:
        echo(f"convnd: {len(result.errors)} of {result.inputs} failed", err=True)
        raise typer.Exit(1)
