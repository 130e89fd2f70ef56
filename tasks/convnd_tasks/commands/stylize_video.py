"""``convnd stylize-video``: a thin shell around `convnd_tasks.modalities.video.job`."""

from __future__ import annotations

import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.errors import ConvndError, InputFileError, StopSignal, UsageError
from convnd.options import OUTPUT, RESOURCES
from convnd_tasks.modalities.video.options import NOT_OF_CLIPS, VideoOptions
from convnd_tasks.pipeline.flags import Metadata, Overwrite, Quiet, Report, numeric, with_flags
from convnd_tasks.pipeline.output import Summary, summarised

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd_tasks.modalities.video.job import VideoJob, VideoOutcome

__all__ = ["stylize_video", "work"]

_PART = "Which frames"
_GO_ON = "; the same command with --resume goes on"


@summarised("stylize-video")
@with_flags(VideoOptions, without=NOT_OF_CLIPS)
def stylize_video(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CLIP] [STYLE]...",
            help="A clip (.mp4, .mov, .mkv, .webm, .avi, .gif, or a folder of numbered pictures), "
            "and pictures or names of built-in ones as styles; with --mode block also clips, whose "
            "movement is style too. Without any, a built-in demo.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A clip (.mp4, .mkv, .webm, .gif), or a folder for pictures. Default: "
            "<clip>_stylized here, of the clip's own kind.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    crf: Annotated[
        int | None,
        numeric(
            int,
            0,
            63,
            help="Constant rate factor: smaller keeps more. Default: 18 for H.264, 24 for VP9.",
            rich_help_panel=OUTPUT,
            show_default=False,
        ),
    ] = None,
    audio: Annotated[
        bool, typer.Option("--audio/--no-audio", help="Copy the sound.", rich_help_panel=OUTPUT)
    ] = True,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures",
            help="Also <output>-sheet.png, -slit.png (one column over time) and -frames.png.",
            rich_help_panel=OUTPUT,
        ),
    ] = True,
    report: Report = None,
    metadata: Metadata = True,
    quiet: Quiet = False,
    start: Annotated[
        str, typer.Option("--from", metavar="SECONDS", help="Begin there.", rich_help_panel=_PART)
    ] = "0",
    end: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="SECONDS", help="End there.", rich_help_panel=_PART, show_default=False
        ),
    ] = None,
    every: Annotated[
        int,
        numeric(int, 1, 1_000_000, help="Only every Nth frame.", rich_help_panel=_PART),
    ] = 1,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="FPS",
            help="Frames per second of a folder of pictures, as 25 or 30000/1001. Default: 25.",
            rich_help_panel=_PART,
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the frames that an interrupted run has kept.",
            rich_help_panel=RESOURCES,
        ),
    ] = False,
    *,
    given: dict[str, Any],
    summary: Summary,
) -> None:
    """Give a clip the style of a picture, without flicker; times and sound stay as they are.

    convnd stylize-video clip.mp4 painting.jpg
    """
    from convnd_tasks.modalities.video.input import Part
    from convnd_tasks.modalities.video.job import VideoJob
    from convnd_tasks.weights import ensure

    options = VideoOptions(**given)
    ensure(options.backbone, quiet=quiet)
    first, last = _seconds("--from", start), None if end is None else _seconds("--to", end)
    if last is not None and last <= first:
        raise UsageError(
            f"--to: expected a time after --from, which is {start} s, got {end} s; correct it"
        )
    work(
        list(files or []),
        VideoJob(
            options,
            part=Part(start=first, end=last, every=every),
            crf=crf,
            audio=audio,
            record=metadata,
        ),
        output,
        summary,
        overwrite=overwrite,
        resume=resume,
        pictures=pictures,
        report=report,
        quiet=quiet,
        rate=None if rate is None else _seconds("--rate", rate),
    )


def work(
    files: list[str],
    job: VideoJob,
    output: Path | None,
    summary: Summary,
    *,
    overwrite: bool = False,
    resume: bool = False,
    pictures: bool = True,
    report: Path | None = None,
    quiet: bool = False,
    rate: Fraction | None = None,
) -> None:
    """Do what was asked for, and say so; also for ``convnd stylize`` when it is given a clip.

    Args:
        files: clip and styles; nothing is the built-in demo.
        job: options, and how the result is written.
        output: the result, or None for the default.
        summary: is told the figures.
        overwrite: replace existing results.
        resume: go on from kept frames.
        pictures: also write contact sheet, slit scan and the course of the work.
        report: also write a report.
        quiet: no progress bar.
        rate: frames per second of a folder.

    Raises:
        ConvndError: see `convnd_tasks.modalities.video.job.VideoJob.run`.
    """
    from convnd import io
    from convnd_tasks import samples
    from convnd_tasks.modalities.video.files import (
        BLOCK_DEMO,
        DEMO,
        clip_style,
        default_output,
        drawn_beside,
        open_video,
        write_pictures,
    )
    from convnd_tasks.modalities.video.job import VideoInputs
    from convnd_tasks.modalities.video.keeping import FrameStore
    from convnd_tasks.pipeline.progress import Display
    from convnd_tasks.pipeline.report import check_report
    from convnd_tasks.pipeline.resolve import open_input
    from convnd_tasks.samples import video

    options = job.options
    demo = BLOCK_DEMO if options.mode == "block" else DEMO
    clip = open_video(files[0] if files else next(iter(video.CONTENTS)), rate, demo)
    if options.texture and len(files) > 1:
        raise UsageError(
            f"--texture: expected one clip, got {len(files)} files; the clip alone is the style"
        )
    names = files[1:] or [samples.styles(2)[0]]
    if options.texture:
        names = [str(clip.info.path)]
    elif len(files) == 1:
        typer.echo(f"no style given, using the built-in one: {names[0]}", err=True)
    target = output or default_output(clip, demo=not files, resume=resume)
    job.check(clip.info, target, overwrite=overwrite, resume=resume)
    drawn = drawn_beside(target) if pictures else {}
    for path in drawn.values():
        io.check_output(path, overwrite=overwrite or resume)
    if report is not None:
        check_report(report, overwrite=overwrite or resume)

    def style(name: str) -> Grid:
        if not io.is_video(name):
            return open_input(name, 2, role="style", seed=options.seed)
        if options.mode != "block":
            raise UsageError(
                f"style: expected a picture with --mode {options.mode}, got the clip {name}; add "
                "--mode block, where its movement is style, too"
            )
        moving = open_video(name, demo=demo)
        grid = clip_style(moving, options)
        if moving.damage:
            typer.echo(f"{name}: {moving.damage}; the others are style", err=True)
        return grid

    inputs = VideoInputs(
        clip=clip,
        styles=[clip_style(clip, options)] if options.texture else [style(name) for name in names],
        names=[clip.info.path.name, *names],
    )
    store = FrameStore(target)
    try:
        with Display(enabled=not quiet and sys.stderr.isatty()) as display:
            outcome = job.run(
                inputs,
                target,
                overwrite=overwrite,
                resume=resume,
                watch=display.show,
                tell=display.tell,
            )
    except (KeyboardInterrupt, StopSignal, ConvndError) as error:
        if not store.finished:
            store.close()
        elif not isinstance(error, UsageError):
            # The same input would fail at the same frame.
            more = "" if isinstance(error, InputFileError) else _GO_ON
            kept = f"{store.finished} finished frames are kept in {store.folder}"
            typer.echo(kept + more, err=True)
        raise
    write_pictures(drawn, outcome, overwrite=overwrite or resume)
    if report is not None:
        from convnd_tasks.modalities.video import report as video_report

        video_report.write(
            report,
            clip.info,
            outcome,
            job.options,
            names=inputs.names,
            overwrite=overwrite or resume,
        )
    _say(outcome)
    summary.append("results", _figures(outcome))
    summary.add(
        pictures=[str(path) for path in drawn.values()],
        report=None if report is None else str(report),
    )
    if outcome.damage:
        summary.append("failed", {"input": str(clip.info.path), "error": outcome.damage})
        typer.echo(f"convnd: {clip.info.path}: {outcome.damage}; the others are done", err=True)
        raise typer.Exit(1)


def _say(outcome: VideoOutcome) -> None:
    from convnd_tasks.modalities.video.job import mean_of

    records = outcome.records
    count = len(records)
    size = f"{outcome.size[1]}x{outcome.size[0]}"
    scenes = f", {outcome.scenes} scenes" if outcome.scenes > 1 else ""
    each = f", {outcome.seconds / outcome.fresh:.1f} s per frame" if outcome.fresh else ""
    error, own = mean_of(records, "e_warp"), mean_of(records, "input_e_warp")
    along = f", E_warp {error:.3g} (input {own:.3g})" if error == error else ""
    typer.echo(
        f"{outcome.path}  {size}, {count} frames{scenes}{along}{each}, {outcome.seconds:.1f} s"
    )


def _figures(outcome: VideoOutcome) -> dict[str, Any]:
    from convnd_tasks.modalities.video.job import mean_of

    records = outcome.records
    return {
        "output": str(outcome.path),
        "shape": list(outcome.size),
        "frames": len(records),
        "frames_kept_before": len(records) - outcome.fresh,
        "scenes": outcome.scenes,
        "steps": sum(record["steps"] for record in records),
        "rejected_steps": sum(record["rejected_steps"] for record in records),
        "e_warp": mean_of(records, "e_warp"),
        "input_e_warp": mean_of(records, "input_e_warp"),
        "seconds": round(outcome.seconds, 3),
    }


def _seconds(option: str, text: str) -> Fraction:
    """A number as it is written, exactly.

    Raises:
        UsageError: it is none, or below 0; the message names the option.
    """
    found = Fraction(-1)
    # No exponents: a fraction of 1e99999999 would be worked out.
    if re.fullmatch(r"\s*\d{1,9}(\.\d{0,12}|/0*[1-9]\d{0,8})?\s*", text, re.ASCII):
        found = Fraction(text.strip().rstrip("."))
    if option == "--rate" and not 0 < found <= 1000:
        raise UsageError(
            f"--rate: expected 0 < rate <= 1000 frames per second, got {text!r}; for example 25"
        )
    if found < 0:
        raise UsageError(
            f"{option}: expected a number of seconds from 0 to 999999999, got {text!r}; for "
            "example 2.5"
        )
    return found
