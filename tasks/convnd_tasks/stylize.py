"""``convnd stylize``: a thin shell around `convnd_tasks.job`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from convnd.errors import ConvndError, UsageError
from convnd_tasks.options import COLORS, STARTS, StyleOptions

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from convnd_tasks.job import Job, Outcome
    from convnd_tasks.plan import Plan
    from convnd_tasks.style_transfer import Progress

__all__ = ["stylize", "stylize_volume"]

_WORK, _LOSS, _LOOK, _RUN, _OUT = (
    "How the work is done",
    "What is kept and what changes",
    "The look",
    "Where it runs",
    "What comes out",
)


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
    dim: Annotated[
        int | None,
        typer.Option(
            "--dim",
            min=1,
            help="Number of spatial axes: 1 signals, 2 images, 3 volumes. "
            "Inferred from the files when left out.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Result; a folder when CONTENT is one. Default: <content>_stylized.png here.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing results.", rich_help_panel=_OUT)
    ] = False,
    quality: Annotated[
        int, typer.Option(min=1, max=100, help="Of JPEG and WebP results.", rich_help_panel=_OUT)
    ] = 95,
    save_every: Annotated[
        int,
        typer.Option(
            min=0,
            help="Also write a numbered picture every so many steps.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = 0,
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata/--no-metadata",
            help="Keep all parameters inside the result.",
            rich_help_panel=_OUT,
        ),
    ] = True,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="No progress bar.", rich_help_panel=_OUT)
    ] = False,
    style_weight: Annotated[
        float, typer.Option(help="Beta: how much the style counts.", rich_help_panel=_LOOK)
    ] = StyleOptions.style_weight,
    content_weight: Annotated[
        float, typer.Option(help="Alpha: how much the content counts.", rich_help_panel=_LOOK)
    ] = StyleOptions.content_weight,
    style_scale: Annotated[
        float,
        typer.Option(help="Larger: larger brush strokes.", rich_help_panel=_LOOK),
    ] = StyleOptions.style_scale,
    blend: Annotated[
        str,
        typer.Option(
            metavar="W,W,...",
            help="Weight of each style; all alike when left out.",
            rich_help_panel=_LOOK,
            show_default=False,
        ),
    ] = "",
    colors: Annotated[
        str,
        typer.Option(
            help=f"Whose colours: {', '.join(COLORS)} (luminance and match keep the content's).",
            rich_help_panel=_LOOK,
        ),
    ] = StyleOptions.colors,
    smoothness: Annotated[
        float, typer.Option(help="Weight of total variation.", rich_help_panel=_LOOK)
    ] = StyleOptions.smoothness,
    texture: Annotated[
        bool,
        typer.Option("--texture", help="No content: every file is a style.", rich_help_panel=_LOOK),
    ] = False,
    backbone: Annotated[
        str, typer.Option(help="Network, see `convnd backbones`.", rich_help_panel=_LOSS)
    ] = StyleOptions.backbone,
    content_layers: Annotated[
        str, typer.Option(metavar="L,L,...", rich_help_panel=_LOSS)
    ] = ",".join(StyleOptions.content_layers),
    style_layers: Annotated[str, typer.Option(metavar="L,L,...", rich_help_panel=_LOSS)] = ",".join(
        StyleOptions.style_layers
    ),
    style_layer_weights: Annotated[
        str,
        typer.Option(
            metavar="W,W,...",
            help="One for each style layer; all alike when left out.",
            rich_help_panel=_LOSS,
            show_default=False,
        ),
    ] = "",
    statistic: Annotated[
        str, typer.Option(help="gram, moments or covariance.", rich_help_panel=_LOSS)
    ] = StyleOptions.statistic,
    normalization: Annotated[
        str, typer.Option(help="balanced, notes, gatys or mean.", rich_help_panel=_LOSS)
    ] = StyleOptions.normalization,
    pooling: Annotated[
        str, typer.Option(help="max or avg.", rich_help_panel=_LOSS)
    ] = StyleOptions.pooling,
    inflation: Annotated[
        str,
        typer.Option(help="How kernels gain axes: mean or centre.", rich_help_panel=_LOSS),
    ] = StyleOptions.inflation,
    size: Annotated[
        int | None,
        typer.Option(
            help=f"Samples along the longest axis; 0: the content's own. Default: "
            f"{StyleOptions.size} for images, its own otherwise.",
            rich_help_panel=_WORK,
            show_default=False,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Over all scales.", rich_help_panel=_WORK)
    ] = StyleOptions.steps,
    scales: Annotated[
        int, typer.Option(help="Sizes from coarse to fine.", rich_help_panel=_WORK)
    ] = StyleOptions.scales,
    optimizer: Annotated[
        str, typer.Option(help="lbfgs, adam or gradient-descent.", rich_help_panel=_WORK)
    ] = StyleOptions.optimizer,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            help="Of the optimizer; its own when left out.",
            rich_help_panel=_WORK,
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        str, typer.Option(help=f"{', '.join(STARTS)}, or a file.", rich_help_panel=_WORK)
    ] = StyleOptions.start,
    seed: Annotated[
        int, typer.Option(help="Of everything random.", rich_help_panel=_WORK)
    ] = StyleOptions.seed,
    precision: Annotated[
        str,
        typer.Option(
            help="auto (bfloat16 where it is native), float32 or bfloat16.", rich_help_panel=_RUN
        ),
    ] = StyleOptions.precision,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or mps.", rich_help_panel=_RUN)
    ] = StyleOptions.device,
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|N|off",
            help="Work in tiles of N samples along each axis; auto: where memory asks for it. "
            "The result is the same.",
            rich_help_panel=_RUN,
        ),
    ] = StyleOptions.tile,
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="What may be used, as 4GiB; auto: what is free.",
            rich_help_panel=_RUN,
        ),
    ] = StyleOptions.memory,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            min=0,
            help="Keep a checkpoint beside the result every so many steps, and when stopped.",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = 0,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on from the checkpoint; without one, start anew.",
            rich_help_panel=_RUN,
        ),
    ] = False,
) -> None:
    """Give one thing the style of another.

    convnd stylize photo.jpg painting.jpg
    """
    from convnd_tasks.job import Job
    from convnd_tasks.plan import make_plan

    start_file = start if start not in STARTS and Path(start).suffix else None
    plan = make_plan(list(files or []), dim, output, texture=texture, start=start_file)
    options = StyleOptions(
        backbone=backbone,
        content_layers=_words(content_layers),
        style_layers=_words(style_layers),
        style_layer_weights=_numbers("--style-layer-weights", style_layer_weights),
        content_weight=content_weight,
        style_weight=style_weight,
        smoothness=smoothness,
        statistic=statistic,
        normalization=normalization,
        blend=_numbers("--blend", blend),
        style_scale=style_scale,
        colors=colors,
        pooling=pooling,
        inflation=inflation,
        size=plan.size if size is None else size,
        scales=scales,
        steps=steps,
        optimizer=optimizer,
        learning_rate=learning_rate,
        start=StyleOptions.start if start_file is not None else start,
        seed=seed,
        precision=precision,
        device=device,
        tile=tile,
        memory=memory,
    )
    if texture and colors != StyleOptions.colors:
        raise UsageError(
            f"--colors: expected a content whose colours to keep, got --texture; leave {colors} out"
        )
    job = Job(options, plan.dim, record=metadata, quality=quality)
    _work(
        plan,
        job,
        overwrite=overwrite,
        save_every=save_every,
        checkpoint_every=checkpoint_every,
        resume=resume,
        quiet=quiet,
    )


def stylize_volume(
    scan: Annotated[Path, typer.Argument(help="The scan: NIfTI (.nii, .nii.gz).")],
    style: Annotated[
        list[str] | None,
        typer.Option("--style", help="A scan, or the name of a built-in one.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="Default: <scan>_stylized.nii.gz here.", show_default=False
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing result.")] = (
        False
    ),
    size: Annotated[
        int, typer.Option(help="Samples along the longest axis; 0: the scan's own.")
    ] = 0,
    steps: Annotated[int, typer.Option(help="Over all scales.")] = 60,
    style_weight: Annotated[
        float, typer.Option(help="How much the style counts.")
    ] = StyleOptions.style_weight,
    backbone: Annotated[str, typer.Option(help="See `convnd backbones`.")] = "compact",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = StyleOptions.seed,
    tile: Annotated[
        str, typer.Option(metavar="auto|N|off", help="Work in tiles; the result is the same.")
    ] = StyleOptions.tile,
    memory: Annotated[
        str, typer.Option(metavar="SIZE", help="What may be used, as 4GiB; auto: what is free.")
    ] = StyleOptions.memory,
    checkpoint_every: Annotated[
        int, typer.Option(min=0, help="Keep a checkpoint every so many steps, and when stopped.")
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint; without one, start anew.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress bar.")] = False,
) -> None:
    """Give a scan the style of another."""
    stylize(
        [str(scan), *(style or [])],
        dim=3,
        output=output,
        overwrite=overwrite,
        size=size,
        steps=steps,
        style_weight=style_weight,
        backbone=backbone,
        seed=seed,
        tile=tile,
        memory=memory,
        checkpoint_every=checkpoint_every,
        resume=resume,
        quiet=quiet,
    )


def _work(
    plan: Plan,
    job: Job,
    *,
    overwrite: bool,
    save_every: int,
    checkpoint_every: int,
    resume: bool,
    quiet: bool,
) -> None:
    failed = 0
    pairs = plan.open(job.options.seed, overwrite=overwrite or resume)
    for number, (content, target) in enumerate(pairs):
        if plan.remark and number == 0:
            typer.echo(plan.remark, err=True)
        try:
            with _Display(enabled=not quiet and sys.stderr.isatty()) as display:
                outcome = job.run(
                    content(),
                    target,
                    overwrite=overwrite,
                    save_every=save_every,
                    checkpoint_every=checkpoint_every,
                    resume=resume,
                    watch=display.show,
                    say=display.say,
                )
        except ConvndError as error:
            if not plan.batch or isinstance(error, UsageError):
                raise
            failed += 1
            typer.echo(f"convnd: {error}", err=True)
            continue
        _say(outcome)
        if outcome.stopped is not None:
            raise outcome.stopped
    if failed:
        typer.echo(f"convnd: {failed} of {len(plan.outputs)} failed", err=True)
        raise typer.Exit(1)


class _Display:
    """The progress bar on stderr; silent when nobody watches."""

    def __init__(self, *, enabled: bool) -> None:
        self._bar: Bar | None = None
        if enabled:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(elapsed_when_finished=False),
                console=Console(stderr=True),
                transient=True,
                speed_estimate_period=60,
            )
            self._task = self._bar.add_task("loading", total=1, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Draw one step."""
        if self._bar is not None:
            extent = "x".join(str(each) for each in reversed(progress.values.shape[2:]))
            self._bar.update(
                self._task,
                description=extent,
                completed=progress.done,
                note=f"step {progress.step}/{progress.steps}  loss {progress.loss:.4g}",
            )

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            typer.echo(line, err=True)


def _say(outcome: Outcome) -> None:
    extent = "x".join(str(each) for each in reversed(outcome.shape))
    stopped = "" if outcome.stopped is None else "stopped early, kept: "
    typer.echo(
        f"{stopped}{outcome.path}  {extent}, {outcome.steps} steps, loss {outcome.loss:.4g}, "
        f"{outcome.seconds:.1f} s"
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in _words(text))
    except ValueError:
        raise UsageError(
            f"{option}: expected numbers with commas between, got {text!r}; for example 2,1"
        ) from None
