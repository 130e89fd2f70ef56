"""From names of files to a job: kind of data, contents, styles and results."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from convnd import io
from convnd.errors import ConvndError, UsageError
from convnd.shapes import is_count_text
from convnd_tasks import samples
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.modalities.regions import parse_regions
from convnd_tasks.pipeline.folders import list_contents, list_scans
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.job_styles import (
    JobStyles,
    check_job_styles,
    check_regions,
    named_styles,
    resolve_styles,
)
from convnd_tasks.pipeline.keyframe_arguments import check_keyframes, parse_keyframes
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.pipeline.output_paths import (
    batch_outputs,
    check_output_name,
    default_output,
    single_output,
)
from convnd_tasks.pipeline.style_folders import style_outputs

__all__ = ["parse_shard", "resolve"]

_DEMO_DEFAULTS: Mapping[int, Mapping[str, int]] = {
    1: {"size": 0},
    2: {"size": 320},
    4: {"size": 16, "steps": 15},
}
"""Defaults of the built-in demo by number of axes, for under 20 s on two cores."""


def resolve(
    files: Sequence[str],
    styles: Sequence[str] = (),
    *,
    dim: int | None = None,
    output: str | os.PathLike[str] | None = None,
    texture: bool = False,
    init: str | None = None,
    modality: str | None = None,
    resume: bool = False,
    recursive: bool = False,
    region: Sequence[str] | None = None,
    sheet: bool = False,
    keyframe: Sequence[str] = (),
) -> JobSpec:
    """Turn names of files into a job, without reading any data.

    Args:
        files: content, or a folder of contents, and styles; empty is the built-in demo.
        styles: further styles.
        dim: number of spatial axes as typed, or None.
        output: path of the result or, ending in a slash, of its folder; None is the default.
        texture: whether every file is a style.
        init: path of the file that the optimisation starts from, or None.
        modality: the kind of data that the command is for, or None for any.
        resume: whether an unfinished demo is continued, under its first name.
        recursive: whether folders in a folder of contents are searched, too.
        region: see `JobSettings.region`; None is no map of regions.
        sheet: whether the results become one picture, see `JobSettings.sheet`.
        keyframe: ``FRAME=FILE``, see `JobSettings.keyframe`.

    Raises:
        UsageError: the files are of several kinds, or of another one than ``dim`` or ``modality``.
        InputFileError: an input does not exist, or a folder has no file of a known kind.

    >>> resolve(["town", "waves"]).outputs[0].name
    'town_stylized.png'
    """
    regions = None if region is None else parse_regions(region)
    keyframes = parse_keyframes(keyframe)
    names = [*files, *styles] or ([_demo_texture(modality, dim)] if texture else [])
    demo = not names
    _check_names(names, init, output, dim, texture=texture)
    _check_further_styles(names, regions, keyframes, dim, texture=texture)
    further = [*named_styles(regions), *keyframes.values()]
    dim, kind = infer_kind([*names, *further], dim, init, modality, texture=texture)
    batch = not demo and not texture and _is_batch(names[0], kind, recursive=recursive)
    typed = names[0 if texture else 1 :]
    job_styles = resolve_styles(typed, regions, keyframes, kind, dim, demo=demo, sheet=sheet)
    check_job_styles(job_styles, texture=texture, batch=batch, sheet=sheet)
    spec = _describe(kind, dim, job_styles, init, demo=demo)
    content = names[0] if names else _demo_content(kind, dim)
    if batch:
        spec = _with_folder(spec, content, output, recursive=recursive)
    else:
        default = default_output(content, kind, dim, demo=demo, resume=resume)
        target = None if job_styles.from_folders else output
        spec = _with_content(spec, content, default, target, texture=texture)
    each_style = job_styles.from_folders and not sheet
    return _with_each_style(spec, content, output) if each_style else spec


def _with_content(
    spec: JobSpec,
    content: str,
    default: Path,
    output: str | os.PathLike[str] | None,
    *,
    texture: bool,
) -> JobSpec:
    """Return the job with one content and its output."""
    path, folder = single_output(default, spec.modality, output)
    # The texture of a video has the times and the size of its style.
    contents = (None,) if texture and spec.modality != "videos" else (content,)
    return dataclasses.replace(spec, contents=contents, outputs=(path,), folder=folder)


def _describe(kind: str, dim: int, styles: JobStyles, init: str | None, *, demo: bool) -> JobSpec:
    """Return the job without contents and outputs."""
    has_defaults = demo and kind not in ("videos", "volumes")
    return JobSpec(
        modality=kind,
        dim=dim,
        styles=styles.names,
        init=init,
        defaults=_DEMO_DEFAULTS.get(dim, {}) if has_defaults else {},
        demo=demo,
        message=styles.message,
        regions=styles.regions,
        shared_styles=styles.shared,
        keyframes=styles.keyframes,
    )


def _with_each_style(spec: JobSpec, source: str, output: str | os.PathLike[str] | None) -> JobSpec:
    """Return the job with one result for each content and style."""
    pairs = [*itertools.product(spec.contents, spec.styles)]
    outputs, folder = style_outputs(spec.outputs, spec.styles, source, output)
    return dataclasses.replace(
        spec,
        contents=tuple(content for content, _ in pairs),
        styles=tuple(style for _, style in pairs),
        outputs=outputs,
        folder=folder,
        batch=True,
        each_style=True,
    )


def _with_folder(
    spec: JobSpec, folder: str, output: str | os.PathLike[str] | None, *, recursive: bool
) -> JobSpec:
    """Return the job with the files of a folder as contents."""
    listing = list_contents(Path(folder), spec.modality, spec.dim, recursive=recursive)
    contents = tuple(map(str, listing.files))
    outputs, results = batch_outputs(folder, contents, spec.modality, spec.dim, output)
    return dataclasses.replace(
        spec,
        contents=contents,
        outputs=outputs,
        folder=results,
        batch=True,
        left_out=listing.left_out,
    )


def _check_further_styles(
    names: Sequence[str],
    regions: Mapping[str, str] | None,
    keyframes: Mapping[int, str],
    dim: int | None,
    *,
    texture: bool,
) -> None:
    """Check that styles of regions and keyframes exist, and fit the other inputs."""
    if regions is not None:
        check_regions(names, regions, dim, texture=texture)
    if keyframes:
        check_keyframes(names, keyframes, texture=texture, demo=not names)


def _check_names(
    names: Sequence[str],
    init: str | None,
    output: str | os.PathLike[str] | None,
    dim: int | None,
    *,
    texture: bool,
) -> None:
    """Check that all inputs exist, and that the system accepts the path of the output."""
    for number, name in enumerate(names):
        check_input(name, "style" if number or texture else "content", dim)
    if init is not None:
        check_input(init, "init")
    if output is not None:
        check_output_name(os.fspath(output))


def parse_shard(text: str) -> tuple[int, int] | None:
    """Parse ``"I/N"``.

    Returns:
        I and N; None for "".

    Raises:
        UsageError: the text has another form, or I is not between 1 and N.

    >>> parse_shard("2/4"), parse_shard("")
    ((2, 4), None)
    """
    if not text:
        return None
    number, _, count = text.partition("/")
    if is_count_text(number) and is_count_text(count) and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise UsageError(
        "--shard", expected="I/N with 1 <= I <= N", got=repr(text), remedy="for example 1/4"
    )


def _demo_content(kind: str, dim: int) -> str:
    samples.check_demo(dim)
    if kind == "videos":
        from convnd_tasks.samples import video

        return next(iter(video.CONTENTS))
    return samples.contents(dim)[0]


def _demo_texture(modality: str | None, dim: int | None) -> str:
    """Return the style of a texture without files, which only the command for videos has."""
    if modality == "videos":
        return _demo_content(modality, 3)
    raise UsageError(
        "--texture",
        expected="at least one style",
        got="no file",
        remedy="give a file or the name of a built-in style, for example "
        f"{samples.styles(dim or 2)[0]}",
    )


def _is_batch(content: str, kind: str, *, recursive: bool) -> bool:
    """Return whether a content is a folder of contents, and not of slices or frames of one."""
    folder = Path(content)
    if not folder.is_dir():
        return False
    if kind not in ("volumes", "videos"):
        return True
    try:
        names = [path.name.lower() for path in folder.iterdir() if path.is_file()]
    except OSError:
        return False  # reading the content raises the error
    if kind == "videos":
        videos = [name for name in names if name.endswith(tuple(io.VIDEO_SUFFIXES))]
        pictures = [suffix for suffix in io.suffixes() if io.spatial_dims(f"x{suffix}") == 2]
        other_names = set(names) - set(videos)
        return bool(videos) and not any(name.endswith(tuple(pictures)) for name in other_names)
    if recursive:
        return True
    with contextlib.suppress(ConvndError):
        return bool(list_scans(folder))
    return False
