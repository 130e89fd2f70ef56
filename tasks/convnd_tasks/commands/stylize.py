"""``convnd stylize``: a thin shell around `convnd_tasks.pipeline.job`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.errors import ConvndError, UsageError
from convnd.options import LOOK, OUTPUT, flag_name
from convnd.transfer.options import INITS
from convnd_tasks.modalities.arrays import ArrayOptions
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.signals.options import SignalOptions
from convnd_tasks.pipeline.flags import (
    CheckpointEvery,
    Dim,
    Metadata,
    Overwrite,
    Quiet,
    Rate,
    Report,
    Resume,
    Shard,
    SkipExisting,
    check_known,
    numeric,
    parse_shard,
    with_flags,
)
from convnd_tasks.pipeline.output import Summary, summarised
from convnd_tasks.pipeline.run import carry_out, check_paper, check_report_of, drawing_of

if TYPE_CHECKING:
    from convnd_tasks.pipeline.resolve import Plan

__all__ = ["stylize"]


@summarised("stylize")
@with_flags(ImageOptions, SignalOptions, ArrayOptions, processes=True)
def stylize(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONTENT] [STYLE]...",
            help="A file (or a folder: every file in it) to stylise, and one or more styles: files "
            "or names of built-in ones, see `convnd samples`. Without any, a built-in demo.",
            show_default=False,
        ),
    ] = None,
    dim: Dim = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Result; a folder when CONTENT is one. Default: <content>_stylized.png here.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quality: Annotated[
        int, numeric(int, 1, 100, help="Of JPEG and WebP results.", rich_help_panel=OUTPUT)
    ] = 95,
    save_every: Annotated[
        int,
        numeric(
            int,
            0,
            10_000_000,
            help="Also write a numbered picture every so many steps.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = 0,
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Signals: also draw content, style and result on ECG paper, with their spectra. "
            "The demo does, beside its result.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    report: Report = None,
    metadata: Metadata = True,
    quiet: Quiet = False,
    rate: Rate = None,
    texture: Annotated[
        bool,
        typer.Option("--texture", help="No content: every file is a style.", rich_help_panel=LOOK),
    ] = False,
    checkpoint_every: CheckpointEvery = 0,
    resume: Resume = False,
    shard: Shard = "",
    *,
    given: dict[str, Any],
    summary: Summary,
) -> None:
    """Give one thing the style of another.

    convnd stylize photo.jpg painting.jpg
    """
    from convnd_tasks.pipeline.job import Job
    from convnd_tasks.pipeline.resolve import is_film, make_plan
    from convnd_tasks.weights import ensure

    start = given.pop("init", None)
    start_file = start if start not in INITS and Path(start or "").suffix else None
    if start is not None and start_file is None:
        given["init"] = start
    part = parse_shard(shard)
    if files and is_film(files[0], dim):
        other = texture or save_every or skip_existing or report or shard
        if other or paper is not None or start_file is not None:
            raise UsageError(
                "stylize: expected a clip with none of --texture, --save-every, --paper, --report, "
                "--skip-existing, --shard and --init FILE, got one of them; leave it out, or use "
                "stylize-video"
            )
        _film(
            files,
            given,
            output,
            overwrite=overwrite,
            resume=resume,
            quiet=quiet,
            metadata=metadata,
            summary=summary,
        )
        return
    plan = make_plan(list(files or []), dim, output, texture=texture, start=start_file)
    if part is not None and not plan.batch:
        raise UsageError(
            f"--shard: expected a folder to take every {part[1]}th file of, got none; leave it out"
        )
    if part is not None:
        plan = plan.shard(*part)
    if plan.scans:
        if save_every or rate is not None or start_file is not None:
            raise UsageError(
                "stylize: expected a scan with none of --save-every, --rate and --init FILE, got "
                "one of them; leave it out"
            )
        check_paper(plan, paper)
        _scans(
            plan,
            given,
            report=report,
            overwrite=overwrite,
            skip_existing=skip_existing,
            checkpoint_every=checkpoint_every,
            resume=resume,
            metadata=metadata,
            quiet=quiet,
            summary=summary,
        )
        return
    chosen = plan.options
    check_known(chosen, given, {1: "signals", 2: "pictures"}.get(plan.dim, "arrays"))
    options = chosen.for_dim(plan.dim, **{"size": plan.size, **given})
    if texture and getattr(options, "colors", "style") != "style":
        raise UsageError(
            "--colors: expected a content whose colours to keep, got --texture; leave "
            f"{given['colors']} out"
        )
    from convnd.optimize import ProcessGroup
    from convnd_tasks.pipeline.provenance import check_skipping

    check_skipping(skip_existing=skip_existing, metadata=metadata)
    drawing = drawing_of(plan, paper, demo=not files)
    check_report_of(plan, report)
    job = Job(
        options,
        plan.dim,
        record=metadata,
        quality=quality,
        group=None if plan.batch else ProcessGroup.current(),
    )
    ensure(options.backbone, quiet=quiet)
    carry_out(
        plan,
        job,
        overwrite=overwrite,
        save_every=save_every,
        checkpoint_every=checkpoint_every,
        resume=resume,
        skip_existing=skip_existing,
        quiet=quiet,
        rate=rate,
        drawing=drawing,
        report=report,
        summary=summary,
    )


def _film(
    files: list[str],
    given: Mapping[str, Any],
    output: Path | None,
    *,
    overwrite: bool,
    resume: bool,
    quiet: bool,
    metadata: bool,
    summary: Summary,
) -> None:
    """A clip, as ``convnd stylize-video`` does it."""
    from convnd.optimize import ProcessGroup
    from convnd_tasks.commands.stylize_video import work
    from convnd_tasks.modalities.video.job import VideoJob
    from convnd_tasks.modalities.video.options import VideoOptions
    from convnd_tasks.weights import ensure

    if ProcessGroup.current().size > 1:
        raise UsageError(
            "stylize: expected one process for a clip, got several; start it without torchrun"
        )
    options = VideoOptions.for_dim(2, **given)
    ensure(options.backbone, quiet=quiet)
    job = VideoJob(options, record=metadata)
    work(files, job, output, summary, overwrite=overwrite, resume=resume, quiet=quiet)


def _scans(
    plan: Plan,
    given: Mapping[str, Any],
    *,
    report: Path | None,
    summary: Summary,
    **common: Any,
) -> None:
    """Scans, as ``convnd stylize-volume`` does them; several processes share each of them."""
    from convnd_tasks.modalities.volumes.job import ScanJob
    from convnd_tasks.modalities.volumes.options import VolumeOptions

    known = {each.name for each in dataclasses.fields(VolumeOptions)}
    other = [flag_name(name) for name in given if name not in known]
    if other:
        raise UsageError(
            f"stylize: expected options of stylize-volume for a scan, got {', '.join(other)}; "
            "leave it out, or save the values as .npy"
        )
    if report is not None and plan.batch:
        raise UsageError("--report: expected one scan, got a folder; leave it out")
    jobs = [
        ScanJob(
            options=VolumeOptions(**given),
            scan=content,
            styles=plan.styles,
            output=output,
            report=report,
            **common,
        )
        for content, output in zip(plan.contents, plan.outputs, strict=True)
        if content is not None
    ]
    if plan.remark:
        typer.echo(plan.remark, err=True)
    if not plan.batch:
        jobs[0].run(summary)
        return
    plan.make_folder()
    failed = 0
    for job in jobs:
        try:
            job.run(summary, alone=False)
        except UsageError:
            raise
        except ConvndError as error:
            failed += 1
            summary.append("failed", {"output": str(job.output), "error": str(error)})
            typer.echo(f"convnd: {error}", err=True)
    if failed:
        typer.echo(f"convnd: {failed} of {len(jobs)} failed", err=True)
        raise typer.Exit(1)
