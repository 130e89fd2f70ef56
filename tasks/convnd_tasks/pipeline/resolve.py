"""From names of files to a job: kind of data, contents, styles and results."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convnd import io
from convnd.errors import ConvndError, OutputFileError, UsageError
from convnd.shapes import is_count_text
from convnd_tasks import samples
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.modalities.regions import KEEP, parse_regions
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.folders import list_contents, list_scans
from convnd_tasks.pipeline.keyframe_arguments import check_keyframes, parse_keyframes
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.pipeline.output_paths import (
    batch_outputs,
    check_output_name,
    default_output,
    single_output,
)
from convnd_tasks.pipeline.style_folders import expand_folders, has_folder, style_outputs

__all__ = ["JobSpec", "check_networks", "parse_shard", "resolve"]

_DEMO_DEFAULTS: Mapping[int, Mapping[str, int]] = {
    1: {"size": 0},
    2: {"size": 320},
    4: {"size": 16, "steps": 20},
}
"""Defaults of the built-in demo by number of axes, for under 20 s on two cores."""


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Transfers of one kind of data that share their styles.

    Args:
        modality: name of the kind of data, see `convnd_tasks.modalities`.
        dim: number of spatial axes.
        contents: path or sample name of each content; None is a texture.
        styles: path or sample name of each style.
        outputs: path of each result.
        folder: folder of the results that is made before the work, or None.
        init: path of the file that the optimisation starts from, or None.
        defaults: values of options that are not typed; the others have the defaults of their class.
        batch: whether the contents, or the styles, come from a folder. If one fails, the others are
            still stylised.
        each_style: whether the styles are one for each content, instead of all for each.
        demo: whether built-in samples are used because no file was typed.
        message: a line for users before the work, or "".
        left_out: one line about files of a folder that are not stylised, or "".
        regions: index of the style of each label of a map of regions; None keeps the content.
        shared_styles: number of styles, from the first on, that all other labels take.
        keyframes: index of the style that is the result of a frame, by the number of the frame.
    """

    modality: str
    dim: int
    contents: tuple[str | None, ...] = ()
    styles: tuple[str, ...]
    outputs: tuple[Path, ...] = ()
    folder: Path | None = None
    init: str | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    batch: bool = False
    each_style: bool = False
    demo: bool = False
    message: str = ""
    left_out: str = ""
    regions: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    shared_styles: int = 0
    keyframes: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def network(self) -> str | None:
        """Path of the trained network that makes the results, or None."""
        return next((name for name in self.styles if is_network(name)), None)

    def shard(self, number: int, count: int) -> JobSpec:
        """Return the job of one of several machines: every ``count``-th content of a folder.

        Args:
            number: number of the first content, from 1.
            count: number of machines.
        """
        share = slice(number - 1, None, count)
        return dataclasses.replace(
            self,
            contents=self.contents[share],
            outputs=self.outputs[share],
            styles=self.styles[share] if self.each_style else self.styles,
        )

    def preview(self) -> JobSpec:
        """Return the same job with pictures as results, see ``--preview``."""
        pictures = [
            path
            if path.suffix and io.spatial_dims(path) == 2
            else path.with_name(f"{path.stem}-preview.png")
            for path in self.outputs
        ]
        return dataclasses.replace(self, outputs=tuple(pictures))

    def make_folder(self) -> None:
        """Make the folder of the results.

        Raises:
            OutputFileError: the folder cannot be made.
        """
        if self.folder is None or not self.outputs:  # a share of a folder may be empty
            return
        try:
            self.folder.mkdir(exist_ok=True)
            for output in self.outputs:  # scans named after BIDS stay in folders of subjects
                if self.batch:
                    output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputFileError(
                str(self.folder),
                expected="a folder that can be written to",
                got=error.strerror,
                remedy="choose another with --output",
            ) from error


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
    """Turn names of files into a job, without reading the data of any file.

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
        region: ``LABEL=STYLE`` for regions, see `JobSettings.region`; None is no map of regions.
        sheet: whether the results become one picture, see `JobSettings.sheet`.
        keyframe: ``FRAME=FILE``, see `JobSettings.keyframe`.

    Raises:
        UsageError: the files are of several kinds, or of another one than ``dim`` or ``modality``.
        InputFileError: an input does not exist, or a folder has no file of a known kind.

    >>> spec = resolve(["town", "waves"])
    >>> spec.modality, spec.outputs[0].name
    ('pictures', 'town_stylized.png')
    """
    region_styles = parse_regions(region or ())
    keyframes = parse_keyframes(keyframe)
    further_styles = [style for style in region_styles.values() if style != KEEP]
    further_styles += keyframes.values()
    names = [*files, *styles] or ([_demo_texture(modality, dim)] if texture else [])
    demo = not names
    _check_names(names, init, output, dim, texture=texture)
    if region is not None:
        _check_regions(names, region_styles, dim, texture=texture, demo=demo)
    if keyframes:
        check_keyframes(names, keyframes, texture=texture, demo=demo)
    dim, kind = infer_kind([*names, *further_styles], dim, init, modality, texture=texture)
    batch = not demo and not texture and _is_batch(names[0], kind, recursive=recursive)
    style_names, message = tuple(names[0 if texture else 1 :]), ""
    shared = len(style_names)
    style_names = tuple(dict.fromkeys((*style_names, *further_styles)))
    if not style_names:
        style_names = (_default_style(kind, dim, demo=demo),)
        message = "" if demo else f"no style given, using the built-in one: {style_names[0]}"
    style_folders = has_folder(style_names, kind)
    if style_folders:
        style_names = expand_folders(style_names, kind, dim)
    if not (style_folders or sheet):
        check_networks(style_names, texture=texture)
    spec = JobSpec(
        modality=kind,
        dim=dim,
        styles=style_names,
        init=init,
        defaults=_DEMO_DEFAULTS.get(dim, {}) if demo and kind not in ("videos", "volumes") else {},
        demo=demo,
        message=message,
        regions={
            label: None if style == KEEP else style_names.index(style)
            for label, style in region_styles.items()
        },
        shared_styles=shared,
        keyframes={frame: style_names.index(name) for frame, name in keyframes.items()},
    )
    if batch and keyframes:
        raise UsageError(
            "--keyframe", expected="one video", got="a folder of them", remedy="give one"
        )
    if batch:
        spec = _with_folder(spec, names[0], output, recursive=recursive)
        return spec if sheet or not style_folders else _with_each_style(spec, names[0], output)
    content = _demo_content(kind, dim) if demo else names[0]
    default = default_output(content, kind, dim, demo=demo, resume=resume)
    path, folder = single_output(default, kind, None if style_folders else output)
    # The texture of a video has the times and the size of its style.
    contents = (None,) if texture and kind != "videos" else (content,)
    spec = dataclasses.replace(spec, contents=contents, outputs=(path,), folder=folder)
    return spec if sheet or not style_folders else _with_each_style(spec, content, output)


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


def _check_regions(
    names: Sequence[str], styles: Mapping[str, str], dim: int | None, *, texture: bool, demo: bool
) -> None:
    """Check that the content can have regions, and that their styles exist."""
    if texture or demo:
        raise UsageError(
            "--regions",
            expected="a content to divide",
            got="--texture" if texture else "no file",
            remedy="give the content first" if demo else "leave it out",
        )
    for style in styles.values():
        if style != KEEP:
            check_input(style, "style", dim)
            if is_network(style):
                raise UsageError(
                    "--region",
                    expected="files or names of styles",
                    got=f"the trained network {style}",
                    remedy="give its style, or --mask and the network alone",
                )
    if not styles and len(names) < 2:
        raise UsageError(
            "--regions",
            expected="a style for some region",
            got="none",
            remedy="for example --region red=painting.jpg,blue=keep",
        )


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


def check_networks(styles: Sequence[str], *, texture: bool) -> None:
    """Check that a trained network is the only style, and has a content.

    Args:
        styles: names of the styles.
        texture: whether there is no content.

    Raises:
        UsageError: there are other styles, or there is no content.
    """
    if any(map(is_network, styles)) and (len(styles) > 1 or texture):
        raise UsageError(
            "style",
            expected="a trained network alone, with a content",
            got="--texture" if texture else f"{len(styles)} styles",
            remedy="train one network with all styles, or give the styles themselves",
        )


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


def _default_style(kind: str, dim: int, *, demo: bool) -> str:
    if kind == "volumes" and not demo:  # a scan of the user changes moderately
        return samples.MATCHING_STYLE
    return samples.styles(2 if kind == "videos" else dim)[0]


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
