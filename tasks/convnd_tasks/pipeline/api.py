"""`convnd.stylize` and `convnd.evaluate`: the pipeline as functions, also for data in memory."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.options import flags_of
from convnd.registry import unknown_name
from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.function_job import FunctionJob, open_styles
from convnd_tasks.pipeline.in_memory import as_input, is_name, kind_of_grid, spacing_text
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.job_styles import built_in_style, check_networks
from convnd_tasks.pipeline.keyframe_arguments import keyframe_words
from convnd_tasks.pipeline.region_arguments import RegionArguments
from convnd_tasks.pipeline.resolve import resolve
from convnd_tasks.pipeline.style_result import StyleResult
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.metrics import Measure

    Data = str | os.PathLike[str] | Grid | Tensor | NDArray[np.generic] | Image

__all__ = ["evaluate", "stylize"]


def stylize(
    content: Data | None,
    style: Data | Sequence[Data] = (),
    *,
    out: str | os.PathLike[str] | None = None,
    dim: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    **options: Any,
) -> StyleResult:
    r"""Give a content the style of another; both may be of any kind and number of axes.

    In a notebook, a picture below the cell shows the steps; ``quiet=True`` leaves it out.

    The function minimises :math:`\alpha J_{content}(C, G) + \beta J_{style}(S, G)` over
    :math:`G` (Gatys et al., 2016).

    Args:
        content: a path, the name of a built-in sample, a `Grid`, a PIL image, or a tensor or array
            ``(*S)``, ``(C, *S)`` or ``(1, C, *S)``; 8-bit arrays may be ``(H, W, 3)``. None makes
            a texture.
        style: one style or several, of the same types, or the file of a network of ``convnd
            train``; without one, a built-in style is taken.
        out: path of the result; None does not write it.
        dim: number of spatial axes, for a tensor or array whose shape does not tell.
        on_progress: is called with every step.
        on_message: is called with lines for users.
        options: options of the command line, with underscores: fields of
            `convnd.transfer.options.TransferOptions`, of the options of the kind of data, and of
            `JobSettings`. With ``spacing``, for example ``(0.6, 0.6, 5)`` mm, arrays of three axes
            are scans. ``regions`` and ``style_regions`` may be data in memory: whole numbers for
            each position; ``region`` maps their labels to styles, for example
            ``region={1: painting, 2: "keep"}``. ``keyframe`` maps numbers of frames to pictures.

    Returns:
        The result with its losses.

    Raises:
        UsageError: an option does not exist, does not apply, or is out of range.
        InputFileError: an input cannot be read or stylised.
        OutputExistsError: the result exists and may not be replaced.
        ResourceError: there is not enough memory.
        NumericalError: loss or gradient is not finite, see `convnd.optimize.minimize`.

    >>> import torch
    >>> wave = torch.linspace(0, 9, 200).sin()
    >>> result = stylize(wave, wave.flip(0), dim=1, steps=1)
    >>> tuple(result.values.shape), result.steps
    ((1, 1, 200), 1)
    """
    import torch

    with torch.inference_mode(mode=False):  # of the caller: gradients are needed
        styles = list(style) if isinstance(style, list | tuple) else [style]
        settings, options = _split_settings(options)
        regions = RegionArguments.take_from(settings)
        inputs: TransferInputs | None = None
        if all(is_name(data) for data in (content, *styles, *regions.data) if data is not None):
            settings |= regions.as_settings() | ({"texture": True} if content is None else {})
            keyframe = keyframe_words(settings)
            spec = _resolve_files(content, styles, out, dim, settings, keyframe)
        else:
            inputs = _open_with_regions(content, styles, regions, dim, settings)
            spec = _describe_inputs(inputs, out)
            if not spec.styles:
                name, message = built_in_style(spec.modality, spec.dim)
                spec = dataclasses.replace(spec, styles=(name,), message=message)
        return FunctionJob(
            spec=spec,
            inputs=inputs,
            out=out,
            settings=settings,
            options=options,
            on_progress=on_progress,
            on_message=on_message,
        ).run()


def evaluate(
    content: Data,
    result: Data,
    style: Data | Sequence[Data] = (),
    *,
    dim: int | None = None,
    rate: float | str | None = None,
    **options: Any,
) -> dict[str, Measure]:
    """Measure what a result keeps of its content and takes from its styles.

    Args:
        content: the input of the transfer, of any type that `stylize` takes.
        result: the output of the transfer, of the same types.
        style: the styles of the transfer, of the same types.
        dim: number of spatial axes, for a tensor or array whose shape does not tell.
        rate: samples per second of signals that do not hold it.
        options: options of ``convnd evaluate``, with underscores, which say how files are read;
            ``leads`` applies to data in memory as well.

    Returns:
        The measures, by name.

    Raises:
        UsageError: an option does not exist, or does not apply.
        InputFileError: a file cannot be read, or the grids cannot be compared.
        DependencyError: a package that is needed is missing.

    >>> import torch
    >>> wave = torch.linspace(0, 99, 400).sin()
    >>> measures = evaluate(wave, wave + 0.1, wave, dim=1, rate=100)
    >>> round(measures["psd_distance"].value, 4)
    0.0018
    """
    from convnd_tasks.pipeline.evaluation import evaluate_files
    from convnd_tasks.pipeline.job_options import READING_OPTIONS

    for name in options:
        if name not in READING_OPTIONS:
            raise unknown_name("option", name, list(READING_OPTIONS))
    styles = list(style) if isinstance(style, list | tuple) else [style]
    settings, options = _split_settings({"rate": rate, **options})
    if all(is_name(data) for data in (content, result, *styles)):
        names = [str(one) for one in styles]
        measures = evaluate_files(
            str(content), str(result), names, dim=dim, options=options, settings=settings
        )
    else:
        measures = _evaluate_data(content, result, styles, dim, options, settings)
    return {measure.name: measure for measure in measures}


def _evaluate_data(
    content: Any,
    result: Any,
    styles: Sequence[Any],
    dim: int | None,
    options: Mapping[str, Any],
    settings: dict[str, Any],
) -> list[Measure]:
    """Compare a result in memory with its content and styles."""
    from convnd_tasks.pipeline.job_options import make_options

    spacing = settings.pop("spacing", "")  # of arrays, which are volumes with it
    inputs = _open_inputs(content, styles, dim, settings.get("rate"), spacing)
    spec = _describe_inputs(inputs, None)
    transfer_options = make_options(spec, options, settings)
    modality = modality_class(spec.modality)(transfer_options, JobSettings(**settings), spec.dim)
    inputs = open_styles(inputs, spec, modality)
    output = as_input(result, spec.dim, "content", settings.get("rate"), spacing)
    return modality.metrics(inputs, output)


def _split_settings(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into the fields of `JobSettings`, as they are typed, and all others."""
    names = flags_of(JobSettings)
    settings = {name: value for name, value in options.items() if name in names}
    if settings.get("rate", "") is None:
        del settings["rate"]  # as if it were not given
    for name in ("dry_run", "live"):
        if settings.get(name):
            remedy = f"use convnd … --{name.replace('_', '-')}"
            raise UsageError(name, expected="the command line", got="Python", remedy=remedy)
    if "rate" in settings:
        settings["rate"] = str(settings["rate"])
    if settings.get("spacing") is not None:
        settings["spacing"] = spacing_text(settings["spacing"])
    return settings, {name: value for name, value in options.items() if name not in names}


def _resolve_files(
    content: Any,
    styles: Sequence[Any],
    out: str | os.PathLike[str] | None,
    dim: int | None,
    settings: Mapping[str, Any],
    keyframe: Sequence[str],
) -> JobSpec:
    """Describe the job of stylising a file."""
    files = [os.fspath(data) for data in (content, *styles) if data is not None]
    sheet = bool(settings.get("sheet"))
    spec = resolve(
        files,
        dim=dim,
        output=None if sheet else out,
        texture=bool(settings.get("texture")),
        region=settings.get("region", ()) if "regions" in settings else None,
        sheet=sheet,
        keyframe=keyframe,
    )
    if spec.batch:
        raise UsageError(
            "stylize", expected="one content", got="a folder", remedy="call it for each file"
        )
    return spec


def _open_with_regions(
    content: Any,
    styles: Sequence[Any],
    regions: RegionArguments,
    dim: int | None,
    settings: dict[str, Any],
) -> TransferInputs:
    """Open data in memory and files, with the styles and the maps of regions."""
    if content is None and not (styles or regions.styles):
        raise UsageError("stylize", expected="at least one style", got="none", remedy="give one")
    if is_name(content) and io.is_video(os.fspath(content)):
        raise UsageError(
            "stylize",
            expected="files as styles of a video",
            got="data in memory",
            remedy="write them to files first",
        )
    spacing = settings.pop("spacing", "")  # of arrays, which are volumes with it
    rate = settings.get("rate")
    inputs = _open_inputs(content, [*styles, *regions.styles], dim, rate, spacing)
    maps = regions.open(len(styles), inputs.template.ndim, rate)
    return dataclasses.replace(inputs, regions=maps)


def _open_inputs(
    content: Any, styles: Sequence[Any], dim: int | None, rate: str | None, spacing: str
) -> TransferInputs:
    """Convert data in memory, and open files, as the inputs of a transfer."""
    content = None if content is None else as_input(content, dim, "content", rate, spacing)
    rank = dim or (None if content is None else content.ndim)
    names = [
        os.fspath(data) if is_name(data) and is_network(os.fspath(data)) else f"style {number}"
        for number, data in enumerate(styles, 1)
    ]
    check_networks(names, texture=content is None)
    grids = [
        as_input(data, rank, "style", rate, spacing)
        for name, data in zip(names, styles, strict=True)
        if not is_network(name)  # the kind of data opens it, see `_open_network`
    ]
    return TransferInputs(
        content=content,
        styles=grids,
        names=names if content is None else ["content", *names],
        rate_given=rate is not None,
    )


def _describe_inputs(inputs: TransferInputs, out: str | os.PathLike[str] | None) -> JobSpec:
    """Describe the job of stylising data in memory."""
    return JobSpec(
        modality=kind_of_grid(inputs.template),
        dim=inputs.template.ndim,
        contents=(None if inputs.content is None else "content",),
        styles=tuple(name for name in inputs.names if name != "content"),
        outputs=(Path("result" if out is None else out),),
    )
