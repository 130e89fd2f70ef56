"""``convnd stylize-volume``: a thin shell around `convnd_tasks.volumes`."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convnd.errors import InputFileError, NumericalError, UsageError
from convnd_tasks.flags import (
    LOOK,
    OUT,
    WORK,
    Metadata,
    Overwrite,
    Quiet,
    Report,
    SkipExisting,
    numbers,
    with_flags,
)
from convnd_tasks.summary import Summary, summarised
from convnd_tasks.volume_options import VolumeOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convnd.grid import Grid

__all__ = ["stylize_volume"]


@summarised("stylize-volume")
@with_flags(VolumeOptions, processes=True)
def stylize_volume(
    scan: Annotated[
        str,
        typer.Argument(
            help="NIfTI (.nii, .nii.gz; 4-D: each frame), the folder of a DICOM series, .nrrd, "
            ".mha, or .npy with --spacing."
        ),
    ],
    style: Annotated[
        list[str] | None,
        typer.Option(
            "--style",
            help="A scan, a picture, or the name of a built-in one (`convnd samples`); may be "
            "given several times. Left out: a built-in one.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Default: <scan>_stylized.nii.gz here.",
            show_default=False,
            rich_help_panel=OUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    dtype: Annotated[
        str,
        typer.Option(
            help="float32, or input: the scan's own integers; the rounding error is reported.",
            rich_help_panel=OUT,
        ),
    ] = "float32",
    montage: Annotated[
        bool,
        typer.Option(
            "--montage/--no-montage",
            help="Also <output>.png: three planes of scan, style, result and difference.",
            rich_help_panel=OUT,
        ),
    ] = True,
    report: Report = None,
    metadata: Metadata = True,
    quiet: Quiet = False,
    mask: Annotated[
        str | None,
        typer.Option(
            help="A volume of the scan's shape: nothing changes where it is 0.",
            show_default=False,
            rich_help_panel=LOOK,
        ),
    ] = None,
    spacing: Annotated[
        str,
        typer.Option(
            metavar="X,Y,Z",
            help="Millimetres between samples, for .npy and .npz.",
            show_default=False,
            rich_help_panel=WORK,
        ),
    ] = "",
    *,
    given: dict[str, Any],
    summary: Summary,
) -> None:
    """Give a scan the style of another; affine, units and Hounsfield values stay true.

    convnd stylize-volume scan.nii --style other.nii.gz
    """
    from convnd_tasks.stylize import Display
    from convnd_tasks.weights import ensure

    options = VolumeOptions(**given)
    if dtype not in ("float32", "input"):
        raise UsageError(f"--dtype: expected float32 or input, got {dtype!r}; choose one")
    steps_mm = numbers("--spacing", spacing)
    from convnd import io
    from convnd.io.atomic import atomic_path
    from convnd.optimize import Group
    from convnd_tasks import samples, volumes
    from convnd_tasks.keeping import keep_last_good
    from convnd_tasks.record import check_skipping, figures, is_made, say_made
    from convnd_tasks.report import check_report

    check_skipping(skip_existing=skip_existing, metadata=metadata)
    began = time.monotonic()
    target = output or Path(f"{_stem(scan)}_stylized.nii.gz")
    picture = target.with_name(f"{_stem(target.name)}.png")
    names = style or [samples.styles(3)[0]]
    made_from = _parameters(options, scan, names, mask, dtype, spacing) if metadata else {}
    if skip_existing and is_made(target, made_from, overwrite=overwrite):
        summary.append("skipped", {"output": str(target)})
        beside = [picture if montage else None, report]
        say_made(target, [each for each in beside if each is not None])
        return
    io.check_output(target, overwrite=overwrite, record=metadata)
    if montage:
        io.check_output(picture, overwrite=overwrite)
    if report is not None:
        check_report(report, overwrite=overwrite)
    content = open_volume(scan, steps_mm)
    volumes.check_scan(content, scan)
    if not style:
        typer.echo(f"no style given, using the built-in one: {names[0]}", err=True)
    styles = [_open_style(name, options.seed) for name in names]
    region = None if mask is None else open_volume(mask, steps_mm)
    if dtype == "input":
        io.as_stored(content)  # or the error, before any work
    io.rehearse(target, content)
    ensure(options.backbone, quiet=quiet)
    with Display(enabled=not quiet and sys.stderr.isatty()) as display:
        result = volumes.stylize_scan(content, styles, options, mask=region, watch=display.show)
    if Group.current().rank != 0:  # every process has the result, and the first writes it
        if result.stopped is not None:
            raise result.stopped
        return
    for remark in result.remarks:
        typer.echo(remark, err=True)
    grid = result.grid
    if dtype == "input":
        grid, error, clipped = io.as_stored(grid)
        typer.echo(
            f"rounded to the scan's integers: error at most {error:.3g}"
            + (f"; {clipped} values out of range were clipped" if clipped else ""),
            err=True,
        )
    went = figures(result.steps, result.losses[-1], result.stopped, result.setbacks)
    record = {**made_from, **went} if metadata else None
    if isinstance(result.stopped, NumericalError):
        raise keep_last_good(
            result.stopped, target, lambda path: io.write(path, grid, record=record)
        ) from result.stopped
    io.write(target, grid, overwrite=overwrite, record=record)
    if montage or report is not None:
        from convnd_tasks import volume_figures

        figure = volume_figures.montage(content, styles[0], grid, result.losses)
        if montage:
            with atomic_path(picture, overwrite=overwrite) as temporary:
                temporary.write_bytes(figure)
        if report is not None:
            from convnd_tasks import volume_report

            volume_report.write(
                report,
                content,
                styles,
                grid,
                result,
                options,
                scan=scan,
                style_names=names,
                figure=figure,
                overwrite=overwrite,
            )
    seconds = time.monotonic() - began
    summary.append(
        "results",
        {
            "output": str(target),
            "shape": list(grid.shape),
            "steps": result.steps,
            "steps_taken_back": result.setbacks,
            "loss": result.losses[-1],
            "seconds": round(seconds, 3),
            "stopped_early": result.stopped is not None,
            "remarks": list(result.remarks),
        },
    )
    summary.add(
        montage=str(picture) if montage else None, report=None if report is None else str(report)
    )
    extent = " x ".join(str(each) for each in grid.shape)
    kept = "" if result.stopped is None else "stopped early, kept: "
    back = f" ({result.setbacks} taken back)" if result.setbacks else ""
    typer.echo(
        f"{kept}{target}  {extent}, {result.steps} steps{back}, loss {result.losses[-1]:.4g}, "
        f"{seconds:.1f} s"
    )
    if result.stopped is not None:
        raise result.stopped


def open_volume(name: str, spacing: tuple[float, ...] = ()) -> Grid:
    """A volume from any file or folder that holds one.

    Args:
        name: the path.
        spacing: mm along three axes, for arrays; empty is the file's own.

    Raises:
        InputFileError: it cannot be read, or holds another number of axes.
        UsageError: an array without a spacing, or a spacing for a file that has its own.
    """
    from convnd import io

    grid = io.read(name)
    array = name.lower().endswith((".npy", ".npz"))
    if spacing and not array:
        raise UsageError(
            f"--spacing: expected an array (.npy, .npz), got {name}, which has its own; leave it "
            "out"
        )
    if array and grid.ndim == 2:  # (I, J, K) was read as channels and two axes
        grid = type(grid)(values=grid.values[:, None], header=grid.header)
    if array and grid.ndim == 3:
        if not spacing and grid.units != ("mm",) * 3:
            raise UsageError(
                f"--spacing: expected millimetres along three axes for {name}, got none; for "
                "example --spacing 0.6,0.6,5"
            )
        if spacing:
            if len(spacing) != 3 or not all(0 < step < float("inf") for step in spacing):
                raise UsageError(
                    "--spacing: expected three numbers above 0, got "
                    f"{', '.join(f'{step:g}' for step in spacing)}; for example 0.6,0.6,5"
                )
            grid = dataclasses.replace(grid, spacing=spacing, units=("mm",) * 3)
    if grid.ndim != 3:
        raise InputFileError(
            f"{name}: expected a volume of three axes, got {grid.ndim}; use convnd stylize "
            f"--dim {grid.ndim}"
        )
    return grid


def _open_style(name: str, seed: int) -> Grid:
    from convnd import io
    from convnd_tasks import samples

    path = Path(name)
    if not path.suffix and not path.exists():
        rank = 2 if name in samples.styles(2) and name not in samples.styles(3) else 3
        return samples.style(name, spatial_dims=rank, seed=seed)
    if path.suffix and not path.is_dir() and io.spatial_dims(path) == 2:
        return io.read(path)
    return open_volume(name)


def _stem(name: str) -> str:
    from convnd import io

    text = Path(name).resolve().name if Path(name).is_dir() else Path(name).name
    endings = sorted(io.suffixes(), key=len, reverse=True)
    ending = next((end for end in endings if text.lower().endswith(end)), "")
    return text[: len(text) - len(ending)]


def _parameters(
    options: VolumeOptions,
    scan: str,
    styles: Sequence[str],
    mask: str | None,
    dtype: str,
    spacing: str,
) -> dict[str, str]:
    from convnd.optimize import Group
    from convnd_tasks.record import INPUT, parameters

    inputs = [scan, *styles, *([] if mask is None else [mask])]
    extra = [f"--style={INPUT % (1 + number)}" for number in range(len(styles))]
    extra += [f"--dtype={dtype}"]
    extra += [] if mask is None else [f"--mask={INPUT % (1 + len(styles))}"]
    extra += [f"--spacing={spacing}"] if spacing else []
    return parameters(
        "stylize-volume",
        inputs,
        options,
        extra=extra,
        order=[INPUT % 0],
        processes=Group.current().size,
    )
