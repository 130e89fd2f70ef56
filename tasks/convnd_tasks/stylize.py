"""``convnd stylize``: a thin shell around `convnd_tasks.job`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from convnd.errors import ConvndError, UsageError
from convnd_tasks.options import COLORS, DEFAULTS, STARTS, StyleOptions

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from convnd_tasks.job import Job, Outcome
    from convnd_tasks.plan import Plan
    from convnd_tasks.style_transfer import Progress

__all__ = ["Display", "numbers", "stylize", "words"]

_WORK, _LOSS, _LOOK, _RUN, _OUT = (
    "How the work is done",
    "What is kept and what changes",
    "The look",
    "Where it runs",
    "What comes out",
)


def _default(name: str) -> str:
    """The default of an option as text, with those of single ranks."""

    def text(value: object) -> str:
        return (",".join(value) or "none") if isinstance(value, tuple) else str(value)

    kinds = {1: "signals", 2: "images", 3: "volumes"}
    others = [
        f"{text(given[name])} for {kinds.get(dim, f'{dim} axes')}"
        for dim, given in DEFAULTS.items()
        if name in given
    ]
    return ", ".join([text(getattr(StyleOptions, name)), *others])


_BACKBONE_DEFAULT, _FACTS_DEFAULT, _PRECISION_DEFAULT = map(
    _default, ("backbone", "facts", "precision")
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
            help="Number of spatial axes: 1 signals, 2 images, 3 volumes and clips. "
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
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="PNG",
            help="Signals: also draw content, style and result on ECG paper, with their spectra. "
            "The demo does, beside its result.",
            rich_help_panel=_OUT,
            show_default=False,
        ),
    ] = None,
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
    rate: Annotated[
        float | None,
        typer.Option(
            help="Samples per second of signals whose files do not say it.",
            rich_help_panel=_WORK,
            show_default=False,
        ),
    ] = None,
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
        str | None,
        typer.Option(
            help=f"Network, see `convnd backbones`. Default: {_BACKBONE_DEFAULT}.",
            rich_help_panel=_LOSS,
            show_default=False,
        ),
    ] = None,
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
        str, typer.Option(help="gram, moments, covariance, spectrum, ...", rich_help_panel=_LOSS)
    ] = StyleOptions.statistic,
    facts: Annotated[
        str | None,
        typer.Option(
            metavar="F,F,...",
            help="Statistics of the values themselves that count as style as well: spectrum, "
            "autocorrelation, distribution, ...; none for none. "
            f"Default: {_FACTS_DEFAULT}.",
            rich_help_panel=_LOSS,
            show_default=False,
        ),
    ] = None,
    fact_weight: Annotated[
        float, typer.Option(help="How much each of them counts.", rich_help_panel=_LOSS)
    ] = StyleOptions.fact_weight,
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
        str | None,
        typer.Option(
            help="auto (the fastest here), float32 (exact) or bfloat16. "
            f"Default: {_PRECISION_DEFAULT}.",
            rich_help_panel=_RUN,
            show_default=False,
        ),
    ] = None,
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
    from convnd_tasks.plan import is_film, make_plan

    start_file = start if start not in STARTS and Path(start).suffix else None
    named = None if facts is None else tuple(each for each in words(facts) if each != "none")
    given = {
        "backbone": backbone,
        "content_layers": words(content_layers),
        "style_layers": words(style_layers),
        "style_layer_weights": numbers("--style-layer-weights", style_layer_weights),
        "content_weight": content_weight,
        "style_weight": style_weight,
        "smoothness": smoothness,
        "statistic": statistic,
        "facts": named,
        "fact_weight": fact_weight,
        "normalization": normalization,
        "blend": numbers("--blend", blend),
        "style_scale": style_scale,
        "colors": colors,
        "pooling": pooling,
        "inflation": inflation,
        "scales": scales,
        "steps": steps,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "start": StyleOptions.start if start_file is not None else start,
        "seed": seed,
        "precision": precision,
        "device": device,
        "tile": tile,
        "memory": memory,
    }
    if files and is_film(files[0], dim):
        if texture or save_every or paper is not None or start_file is not None:
            raise UsageError(
                "stylize: expected a clip with none of --texture, --save-every, --paper and "
                "--start FILE, got one of them; leave it out"
            )
        if steps == StyleOptions.steps:  # nobody asked for them
            del given["steps"]
        _film(
            files,
            {**given, "size": size},
            output,
            overwrite=overwrite,
            resume=resume,
            quiet=quiet,
            metadata=metadata,
        )
        return
    plan = make_plan(list(files or []), dim, output, texture=texture, start=start_file)
    options = StyleOptions.for_dim(plan.dim, **given, size=plan.size if size is None else size)
    if texture and colors != StyleOptions.colors:
        raise UsageError(
            f"--colors: expected a content whose colours to keep, got --texture; leave {colors} out"
        )
    drawing = _drawing(plan, paper, demo=not files, overwrite=overwrite)
    job = Job(options, plan.dim, record=metadata, quality=quality)
    _work(
        plan,
        job,
        overwrite=overwrite,
        save_every=save_every,
        checkpoint_every=checkpoint_every,
        resume=resume,
        quiet=quiet,
        rate=rate,
        drawing=drawing,
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
) -> None:
    """A clip, as ``convnd stylize-video`` does it."""
    from convnd_tasks.stylize_video import work
    from convnd_tasks.video_job import VideoJob
    from convnd_tasks.video_options import VideoOptions

    options = VideoOptions.for_dim(2, **given)
    job = VideoJob(options, record=metadata)
    work(files, job, output, overwrite=overwrite, resume=resume, quiet=quiet)


def _drawing(plan: Plan, paper: Path | None, *, demo: bool, overwrite: bool) -> Path | None:
    """Where the picture of a signal goes, found to be writable; None for no picture."""
    from importlib.util import find_spec

    from convnd import io

    if paper is not None and (plan.dim != 1 or plan.batch):
        raise UsageError(
            "--paper: expected one signal, got "
            f"{'a folder' if plan.dim == 1 else f'{plan.dim} spatial axes'}; leave it out"
        )
    if paper is not None and paper.suffix.lower() != ".png":
        raise UsageError(f"--paper: expected a name ending in .png, got {paper.name!r}; change it")
    if paper is None and demo and plan.dim == 1 and find_spec("matplotlib") is not None:
        paper = io.free_path(plan.outputs[0].with_suffix(".png"))
    if paper is not None:
        io.check_output(paper, overwrite=overwrite)
    return paper


def _work(
    plan: Plan,
    job: Job,
    *,
    overwrite: bool,
    save_every: int,
    checkpoint_every: int,
    resume: bool,
    quiet: bool,
    rate: float | None = None,
    drawing: Path | None = None,
) -> None:
    failed = 0
    jobs = plan.open(job.options.seed, overwrite=overwrite or resume, rate=rate)
    for number, (content, target) in enumerate(jobs):
        if plan.remark and number == 0:
            typer.echo(plan.remark, err=True)
        try:
            with Display(enabled=not quiet and sys.stderr.isatty()) as display:
                inputs = content()
                outcome = job.run(
                    inputs,
                    target,
                    overwrite=overwrite,
                    save_every=save_every,
                    checkpoint_every=checkpoint_every,
                    resume=resume,
                    watch=display.show,
                    tell=display.tell,
                )
        except ConvndError as error:
            if not plan.batch or isinstance(error, UsageError):
                raise
            failed += 1
            typer.echo(f"convnd: {error}", err=True)
            continue
        _say(outcome)
        if drawing is not None:
            from convnd_tasks.paper import draw

            draw(drawing, inputs, outcome.grid, overwrite=overwrite)
            typer.echo(f"{drawing}  on ECG paper")
        if outcome.stopped is not None:
            raise outcome.stopped
    if failed:
        typer.echo(f"convnd: {failed} of {len(plan.outputs)} failed", err=True)
        raise typer.Exit(1)


class Display:
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

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            typer.echo(line, err=True)


def _say(outcome: Outcome) -> None:
    extent = "x".join(str(each) for each in reversed(outcome.grid.shape))
    stopped = "" if outcome.stopped is None else "stopped early, kept: "
    typer.echo(
        f"{stopped}{outcome.path}  {extent}, {outcome.steps} steps, loss {outcome.loss:.4g}, "
        f"{outcome.seconds:.1f} s"
    )


def words(text: str) -> tuple[str, ...]:
    """What stands between commas.

    >>> words("relu1_1, relu2_1")
    ('relu1_1', 'relu2_1')
    """
    return tuple(word.strip() for word in text.split(",") if word.strip())


def numbers(option: str, text: str) -> tuple[float, ...]:
    """The numbers between commas.

    Raises:
        UsageError: some of them are none; the message names the option.
    """
    try:
        return tuple(float(word) for word in words(text))
    except ValueError:
        raise UsageError(
            f"{option}: expected numbers with commas between, got {text!r}; for example 2,1"
        ) from None
