"""``convnd patches``: a thin shell around `convnd_tasks.inspect.job`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from convnd_tasks.inspect.options import MORE, PatchOptions
from convnd_tasks.pipeline.flags import OUT, Dim, Overwrite, Quiet, with_flags
from convnd_tasks.pipeline.output import Summary, summarised

__all__ = ["patches"]


@summarised("patches")
@with_flags(PatchOptions)
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
    dim: Dim = None,
    gram: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            metavar="BEFORE STYLE AFTER",
            help="Also which channels are active together, before and after a transfer.",
            rich_help_panel=MORE,
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", help="Folder of the results.", rich_help_panel=OUT),
    ] = Path("patches"),
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also all of it as one page, .html.", rich_help_panel=OUT, show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    *,
    given: dict[str, Any],
    summary: Summary,
) -> None:
    """Show what the units of a network look for: the patches that excite them most.

    convnd patches photos/ --layer relu3_1 --units 0-15 --report report.html
    """
    from convnd_tasks.inspect.job import run
    from convnd_tasks.weights import ensure

    options = PatchOptions(gram=gram or (), **given)
    ensure(options.backbone, quiet=quiet)
    outcome = run(
        list(inputs or []),
        dim,
        options,
        output,
        report=report,
        overwrite=overwrite,
        progress=not quiet and sys.stderr.isatty(),
    )
    summary.add(
        output=str(output),
        inputs=outcome.inputs,
        patches=outcome.patches,
        pictures=[str(path) for path in outcome.pictures],
        report=None if report is None else str(report),
        failed=[{"error": str(error)} for error in outcome.failed],
        remarks=outcome.remarks,
    )
    for remark in outcome.remarks:
        typer.echo(remark, err=True)
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
