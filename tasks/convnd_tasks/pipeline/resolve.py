"""Resolves names of files to a job: kind of data, contents, styles and results."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convnd import io
from convnd.errors import ConvndError, OutputFileError, UsageError
from convnd.io.atomic import output_errors
from convnd.io.reading import check_path
from convnd.io.registry import is_folder_name
from convnd.shapes import is_count
from convnd_tasks import samples
from convnd_tasks.pipeline.folders import (
    ARRAY_SUFFIXES,
    DEFAULT_SUFFIXES,
    list_contents,
    list_scans,
    result_name,
    result_names,
    typical_file,
)

__all__ = ["JobSpec", "file_paths", "infer_dim", "is_video", "kind_of", "parse_shard", "resolve"]

_DEMO_SIZE = {1: 0, 2: 320, 3: 40}
"""Longest axis of the built-in demo, for about a minute of work; 0 is the sample's own."""


_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


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
        init: path of what the optimisation starts from, or None.
        size: longest axis of the result where no ``--size`` is given; None is the options' own.
        batch: the contents come from a folder, and one that fails does not stop the others.
        demo: nothing was typed, so that built-in samples are used.
        message: what users should know beforehand, or "".
        left_out: one line about files of a folder that are not stylised, or "".
    """

    modality: str
    dim: int
    contents: tuple[str | None, ...]
    styles: tuple[str, ...]
    outputs: tuple[Path, ...]
    folder: Path | None = None
    init: str | None = None
    size: int | None = None
    batch: bool = False
    demo: bool = False
    message: str = ""
    left_out: str = ""

    def shard(self, number: int, count: int) -> JobSpec:
        """Every ``count``-th content of a folder, from the ``number``-th, counted from 1."""
        share = slice(number - 1, None, count)
        return dataclasses.replace(self, contents=self.contents[share], outputs=self.outputs[share])

    def preview(self) -> JobSpec:
        """The same job with pictures as results, see ``--preview``."""
        pictures = [
            path if io.spatial_dims(path) == 2 else path.with_name(f"{path.stem}-preview.png")
            for path in self.outputs
        ]
        return dataclasses.replace(self, outputs=tuple(pictures))

    def make_folder(self) -> None:
        """Make the folder of the results.

        Raises:
            OutputFileError: it cannot be made.
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
) -> JobSpec:
    """Turn names of files into a job; no file is opened.

    Args:
        files: content, or a folder of contents, and styles; none is the built-in demo.
        styles: further styles.
        dim: number of spatial axes as typed, or None.
        output: path of the result, or of its folder where it is one or ends in a slash; None is the
            default.
        texture: every file is a style.
        init: path of what the optimisation starts from, or None.
        modality: the kind of data that the command is for, or None for any.
        resume: whether an unfinished demo is continued, under its first name.
        recursive: whether folders in a folder of contents are searched, too.

    Raises:
        UsageError: the files do not agree with each other, with ``dim`` or with ``modality``.
        InputFileError: a folder without a file of a known kind.

    >>> spec = resolve(["photo.jpg", "painting.png"])
    >>> spec.modality, spec.outputs[0].name
    ('pictures', 'photo_stylized.png')
    """
    if texture and not (files or styles):
        if modality != "videos":
            raise UsageError(
                "--texture",
                expected="at least one style",
                got="no file",
                remedy="give a file or the name of a built-in style, for example "
                f"{samples.styles(dim or 2)[0]}",
            )
        files = [_demo_content(modality, 3)]
    demo = not files and not styles
    named = [*files, *styles]
    for name in (*named, *([] if init is None else [init])):
        check_path(name)
    if output is not None:
        _check_output_name(os.fspath(output))
    dim, kind = _infer_kind(named, dim, init, modality)
    batch = not demo and not texture and _is_batch(named[0], kind, recursive=recursive)
    contents: tuple[str | None, ...] = tuple(named[:1])
    left_out = message = ""
    if batch:
        listing = list_contents(Path(named[0]), kind, dim, recursive=recursive)
        contents, left_out = tuple(map(str, listing.files)), listing.left_out
    elif demo:
        contents = (_demo_content(kind, dim),)
    elif texture and kind != "videos":  # of a video, the style's times and size are the result's
        contents = (None,)
    chosen = tuple(named) if texture else tuple(named[1:])
    if not chosen:
        chosen = (_default_style(kind, dim),)
        message = "" if demo else f"no style given, using the built-in one: {chosen[0]}"
    outputs, folder = _outputs(
        named, contents, chosen, kind, dim, output, batch=batch, demo=demo, resume=resume
    )
    return JobSpec(
        modality=kind,
        dim=dim,
        contents=contents,
        styles=chosen,
        outputs=outputs,
        folder=folder,
        init=init,
        size=_DEMO_SIZE.get(dim, 24) if demo and kind != "videos" else None,
        batch=batch,
        demo=demo,
        message=message,
        left_out=left_out,
    )


def _infer_kind(
    named: Sequence[str], dim: int | None, init: str | None, modality: str | None
) -> tuple[int, str]:
    """Number of spatial axes and kind of data of a content and its styles; none is the demo."""
    example = named[0] if named else None
    if example is not None and Path(example).is_dir():
        example = typical_file(Path(example), dim) or example
    videos = modality == "videos" or (example is not None and is_video(example, dim))
    if videos or modality == "volumes":
        return 3, modality or "videos"
    dim = infer_dim(file_paths([example, *named[1:], init]), dim)
    return dim, modality or kind_of(dim, example, videos=False)


def infer_dim(files: Sequence[Path], dim: int | None) -> int:
    """The number of spatial axes that all files and ``--dim`` agree on.

    Args:
        files: paths; only their suffixes are looked at.
        dim: as typed, or None.

    Raises:
        UsageError: two of them disagree, or nothing tells.

    >>> infer_dim([Path("photo.jpg")], None)
    2
    """
    source = "--dim says"
    for path in files:
        held = io.spatial_dims(path)
        if held is not None and dim is not None and held != dim:
            raise UsageError(
                "--dim",
                expected=f"{held}, which is what {path} holds",
                got=f"{dim}, which {source}",
                remedy="give files of one kind, or another --dim",
            )
        if dim is None and held is not None:
            dim, source = held, f"{path} holds"
    if dim is None:
        raise UsageError(
            "--dim",
            expected="1 for signals, 2 for images or 3 for volumes",
            got="none and no file that tells",
            remedy="add --dim",
        )
    return dim


def is_video(name: str, dim: int | None) -> bool:
    """Whether an input is a video.

    Args:
        name: path, or name of a sample.
        dim: number of spatial axes as typed, or None; a GIF is a picture unless it is 3.

    >>> is_video("a.mp4", None), is_video("a.gif", None), is_video("a.gif", 3), is_video("a.nii", 3)
    (True, False, True, False)
    """
    suffix = Path(name).suffix.lower()
    return suffix in io.VIDEO_SUFFIXES and (dim == 3 or (dim is None and suffix != ".gif"))


def file_paths(names: Sequence[str | None]) -> list[Path]:
    """The names that are files; names of samples have no suffix."""
    return [Path(name) for name in names if name is not None and Path(name).suffix]


def parse_shard(text: str) -> tuple[int, int] | None:
    """Parse ``"I/N"`` into I and N; "" gives None.

    Raises:
        UsageError: anything else.

    >>> parse_shard("2/4"), parse_shard("")
    ((2, 4), None)
    """
    if not text:
        return None
    number, _, count = text.partition("/")
    if is_count(number) and is_count(count) and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise UsageError(
        "--shard", expected="I/N with 1 <= I <= N", got=repr(text), remedy="for example 1/4"
    )


def kind_of(dim: int, content: str | None, *, videos: bool) -> str:
    """The kind of data of a number of axes and a content (or first style of a texture)."""
    array = content is None or content.lower().endswith(ARRAY_SUFFIXES)
    if videos:
        return "videos"
    if dim == 1:
        return "signals"
    if dim == 2:
        return "arrays" if content is not None and array else "pictures"
    stored = content is not None and bool(Path(content).suffix or Path(content).is_dir())
    return "volumes" if dim == 3 and stored and not array else "arrays"


def _default_style(kind: str, dim: int) -> str:
    if kind == "volumes":
        from convnd_tasks.modalities.volumes.inputs import MATCHING_STYLE

        return MATCHING_STYLE
    return samples.styles(2 if kind == "videos" else dim)[0]


def _demo_content(kind: str, dim: int) -> str:
    if kind == "videos":
        from convnd_tasks.samples import video

        return next(iter(video.CONTENTS))
    return samples.contents(dim)[0]


def _is_batch(content: str, kind: str, *, recursive: bool) -> bool:
    """Whether a content is a folder of contents, rather than of the slices or frames of one."""
    folder = Path(content)
    if not folder.is_dir():
        return False
    if kind not in ("volumes", "videos"):
        return True
    try:
        names = [path.name.lower() for path in folder.iterdir() if path.is_file()]
    except OSError:
        return False  # reading the folder will say so
    if kind == "videos":
        videos = [name for name in names if name.endswith(tuple(io.VIDEO_SUFFIXES))]
        pictures = [suffix for suffix in io.suffixes() if io.spatial_dims(f"x{suffix}") == 2]
        others = set(names) - set(videos)
        return bool(videos) and not any(name.endswith(tuple(pictures)) for name in others)
    if recursive:
        return True
    with contextlib.suppress(ConvndError):
        return bool(list_scans(folder))
    return False


def _check_output_name(output: str) -> None:
    if not output:
        raise UsageError(
            "--output", expected="the name of a file", got="an empty one", remedy="type one"
        )
    with output_errors(output, "a path that can be followed", "choose another name"):
        try:
            Path(output).exists()
        except ValueError as error:  # a NUL
            raise OSError(error) from error


def _outputs(
    named: Sequence[str],
    contents: Sequence[str | None],
    styles: Sequence[str],
    kind: str,
    dim: int,
    output: str | os.PathLike[str] | None,
    *,
    batch: bool,
    demo: bool,
    resume: bool,
) -> tuple[tuple[Path, ...], Path | None]:
    """The paths of the results, and the folder of them that has to be made."""
    if batch:
        source = Path(named[0])
        folder = Path(output or f"{source.resolve().name}_stylized")
        names = result_names([content or "" for content in contents], kind, dim, source)
        return tuple(folder / name for name in names), folder
    if demo:
        # The demo must work a second time, and must not replace the first result.
        suffix = ".mp4" if kind == "videos" else DEFAULT_SUFFIXES.get(dim, ".npz")
        first = Path(f"stylized{suffix}")
        default = first if resume and kind == "videos" else io.next_free_path(first)
    else:
        default = Path(result_name(contents[0] or styles[0], kind, dim))
    if output is None:
        return (default,), None
    path = Path(output)
    # Frames and slices go right into a folder; other results get a name in it.
    fills = is_folder_name(default) or (kind == "videos" and _is_result(path))
    if kind in ("videos", "volumes") and (fills or (kind == "videos" and not path.exists())):
        return (path,), None
    if path.is_dir():
        return (path / default.name,), None
    if os.fspath(output).endswith(_SEPARATORS):
        return (path / default.name,), path
    return (path,), None


def _is_result(folder: Path) -> bool:
    """Whether a folder holds the frames of a result: its record says so."""
    with contextlib.suppress(ConvndError):
        return bool(io.read_provenance(folder))
    return False
