"""One scan from its file to a file: what ``convnd stylize-volume`` and ``convnd stylize`` share."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from convnd.errors import NumericalError, UsageError
from convnd_tasks.modalities.volumes.inputs import open_style, open_volume, stem
from convnd_tasks.modalities.volumes.options import VolumeOptions

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd_tasks.modalities.volumes.scan import VolumeResult
    from convnd_tasks.pipeline.output import CommandOutput

__all__ = ["ScanJob"]


@dataclass(frozen=True, kw_only=True)
class ScanJob:
    """A scan to be stylised, and what is to be written.

    Args:
        options: see `VolumeOptions`.
        scan: path.
        styles: paths or names of samples; none takes the first built-in one.
        output: the result's path; None is ``<scan>_stylized.nii.gz`` here.
        overwrite: replace existing files.
        skip_existing: do nothing where the output was made with the same parameters.
        dtype: "float32", or "input" for the scan's own integers.
        montage: also write ``<output>.png``.
        report: also write a report here.
        metadata: keep all parameters with the result.
        quiet: no progress bar.
        mask: path of a volume that is 0 where nothing is to change.
        spacing: mm along three axes, for arrays.
        checkpoint_every: keep a checkpoint beside the output every so many steps, and when a
            signal stops the work, which then waits for its step to end; 0 is never.
        resume: go on from the checkpoint, if there is one; what comes out may then be replaced.

    Raises:
        UsageError: another ``dtype``, or skipping what no record is kept of.
    """

    options: VolumeOptions
    scan: str
    styles: tuple[str, ...] = ()
    output: Path | None = None
    overwrite: bool = False
    skip_existing: bool = False
    dtype: str = "float32"
    montage: bool = True
    report: Path | None = None
    metadata: bool = True
    quiet: bool = False
    mask: str | None = None
    spacing: tuple[float, ...] = ()
    checkpoint_every: int = 0
    resume: bool = False

    def __post_init__(self) -> None:
        from convnd_tasks.pipeline.provenance import check_skipping

        if self.dtype not in ("float32", "input"):
            raise UsageError(f"--dtype: expected float32 or input, got {self.dtype!r}; choose one")
        check_skipping(skip_existing=self.skip_existing, metadata=self.metadata)

    @property
    def target(self) -> Path:
        """Where the result goes."""
        return self.output or Path(f"{stem(self.scan)}_stylized.nii.gz")

    @property
    def picture(self) -> Path | None:
        """Where the montage goes; None for none."""
        target = self.target
        return target.with_name(f"{stem(target.name)}.png") if self.montage else None

    def run(self, summary: CommandOutput, *, alone: bool = True) -> None:
        """Transfer, write, and say what was done.

        Args:
            summary: is told of the result.
            alone: no scan of several.

        Raises:
            ConvndError: see `stylize_scan` and `convnd.io`; before
                anything is written.
            NumericalError: the last good result is kept, in a file that the message names.
        """
        from convnd import io
        from convnd.optimize import ProcessGroup
        from convnd_tasks import samples
        from convnd_tasks.modalities.volumes import scan as volumes
        from convnd_tasks.pipeline.checkpoints import Keeping, keep_last_good
        from convnd_tasks.pipeline.progress import Display
        from convnd_tasks.pipeline.provenance import figures, is_made, say_made
        from convnd_tasks.pipeline.report import check_report
        from convnd_tasks.weights import ensure

        began = time.monotonic()
        target, picture = self.target, self.picture
        names = list(self.styles) or [samples.styles(3)[0]]
        made_from = self._parameters(names) if self.metadata else {}
        keeping = Keeping(target, self.checkpoint_every, ProcessGroup.current())
        # What was stopped has a checkpoint beside it, and is gone on with rather than refused.
        overwrite = self.overwrite or (self.resume and keeping.path.exists())
        if self.skip_existing and is_made(target, made_from, overwrite=overwrite):
            summary.append("skipped", {"output": str(target)})
            say_made(target, [each for each in (picture, self.report) if each is not None])
            return
        io.check_output(target, overwrite=overwrite, provenance=self.metadata)
        if picture is not None:
            io.check_output(picture, overwrite=overwrite)
        if self.report is not None:
            check_report(self.report, overwrite=overwrite)
        content = open_volume(self.scan, self.spacing)
        volumes.check_scan(content, self.scan)
        if not self.styles:
            typer.echo(f"no style given, using the built-in one: {names[0]}", err=True)
        styles = [open_style(name, self.options.seed, content, self.spacing) for name in names]
        region = None if self.mask is None else open_volume(self.mask, self.spacing)
        if self.dtype == "input":
            io.quantize(content)  # or the error, before any work
        io.dry_run_write(target, content)
        state = keeping.open(
            self.options, volumes.depends_on(content, styles, region), resume=self.resume
        )
        ensure(self.options.backbone, quiet=self.quiet)
        with Display(enabled=not self.quiet and sys.stderr.isatty()) as display:
            result = volumes.stylize_scan(
                content,
                styles,
                self.options,
                mask=region,
                watch=display.show,
                keeping=keeping,
                resume=state,
            )
        grid = result.grid
        if grid is None:  # the first process has it, and writes it
            if result.stopped is not None:
                raise result.stopped
            return
        for remark in result.remarks:
            typer.echo(remark, err=True)
        if self.dtype == "input":
            grid, error, clipped = io.quantize(grid)
            typer.echo(
                f"rounded to the scan's integers: error at most {error:.3g}"
                + (f"; {clipped} values out of range were clipped" if clipped else ""),
                err=True,
            )
        went = figures(result.steps, result.losses[-1], result.stopped, result.rejected_steps)
        record = {**made_from, **went} if self.metadata else None
        if isinstance(result.stopped, NumericalError):
            raise keep_last_good(
                result.stopped, target, lambda path: io.write(path, grid, provenance=record)
            ) from result.stopped
        io.write(target, grid, overwrite=overwrite, provenance=record)
        self._illustrate(names, content, styles, grid, result, overwrite=overwrite)
        if result.stopped is None:
            keeping.close()
        self._say(summary, grid, result, seconds=time.monotonic() - began, alone=alone)
        if result.stopped is not None:
            raise result.stopped

    def _illustrate(
        self,
        names: Sequence[str],
        content: Grid,
        styles: Sequence[Grid],
        grid: Grid,
        result: VolumeResult,
        *,
        overwrite: bool,
    ) -> None:
        """The montage and the report."""
        from convnd.io.atomic import atomic_path

        if self.picture is None and self.report is None:
            return
        from convnd_tasks.modalities.volumes import figures as volume_figures

        figure = volume_figures.montage(content, styles[0], grid, result.losses)
        if self.picture is not None:
            with atomic_path(self.picture, overwrite=overwrite) as temporary:
                temporary.write_bytes(figure)
        if self.report is not None:
            from convnd_tasks.modalities.volumes import report as volume_report

            volume_report.write(
                self.report,
                content,
                styles,
                grid,
                result,
                self.options,
                scan=self.scan,
                style_names=names,
                figure=figure,
                overwrite=overwrite,
            )

    def _say(
        self,
        summary: CommandOutput,
        grid: Grid,
        result: VolumeResult,
        *,
        seconds: float,
        alone: bool,
    ) -> None:
        beside = {
            "montage": None if self.picture is None else str(self.picture),
            "report": None if self.report is None else str(self.report),
        }
        summary.append(
            "results",
            {
                "output": str(self.target),
                "shape": list(grid.shape),
                "steps": result.steps,
                "rejected_steps": result.rejected_steps,
                "loss": result.losses[-1],
                "seconds": round(seconds, 3),
                "stopped_early": result.stopped is not None,
                "remarks": list(result.remarks),
                **({} if alone else beside),
            },
        )
        if alone:
            summary.add(**beside)
        extent = " x ".join(str(each) for each in grid.shape)
        kept = "" if result.stopped is None else "stopped early, kept: "
        back = f" ({result.rejected_steps} rejected)" if result.rejected_steps else ""
        typer.echo(
            f"{kept}{self.target}  {extent}, {result.steps} steps{back}, "
            f"loss {result.losses[-1]:.4g}, {seconds:.1f} s"
        )

    def _parameters(self, styles: Sequence[str]) -> dict[str, str]:
        from convnd.optimize import ProcessGroup
        from convnd_tasks.pipeline.provenance import INPUT, parameters

        inputs = [self.scan, *styles, *([] if self.mask is None else [self.mask])]
        extra = [f"--style={INPUT % (1 + number)}" for number in range(len(styles))]
        extra += [f"--dtype={self.dtype}"]
        extra += [] if self.mask is None else [f"--mask={INPUT % (1 + len(styles))}"]
        spacing = ",".join(map(str, self.spacing))
        extra += [f"--spacing={spacing}"] if spacing else []
        return parameters(
            "stylize-volume",
            inputs,
            self.options,
            extra=extra,
            order=[INPUT % 0],
            processes=ProcessGroup.current().size,
        )
