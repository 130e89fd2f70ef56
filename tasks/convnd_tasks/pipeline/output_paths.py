"""Paths of results: as typed, or default ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from convnd import io
from convnd.errors import UsageError
from convnd.io.atomic import output_errors
from convnd.io.registry import is_folder_name
from convnd_tasks.pipeline.folders import (
    DEFAULT_SUFFIXES,
    has_record,
    result_name,
    result_names,
)

__all__ = ["batch_outputs", "check_output_name", "default_output", "single_output"]

_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def check_output_name(output: str) -> None:
    """Check that a typed path of a result is one that the system accepts.

    Raises:
        UsageError: the path is empty.
        OutputFileError: the system refuses it.
    """
    if not output:
        raise UsageError(
            "--output", expected="the name of a file", got="an empty one", remedy="type one"
        )
    with output_errors(output, "a path that can be followed", "choose another name"):
        try:
            Path(output).exists()
        except ValueError as error:  # a NUL
            raise OSError(error) from error


def batch_outputs(
    source: str, contents: Sequence[str], kind: str, dim: int, output: str | os.PathLike[str] | None
) -> tuple[tuple[Path, ...], Path]:
    """Return the paths of the results of a folder, and their folder.

    Args:
        source: path of the folder of the contents.
        contents: paths of the contents.
        kind: name of the kind of data.
        dim: number of spatial axes.
        output: path of the folder of the results as typed, or None.
    """
    folder = Path(output or f"{Path(source).resolve().name}_stylized")
    names = result_names(contents, kind, dim, Path(source))
    return tuple(folder / name for name in names), folder


def default_output(name: str, kind: str, dim: int, *, demo: bool, resume: bool) -> Path:
    """Return the path of a result where none was typed.

    Args:
        name: path or sample name of the content, or of the first style of a texture.
        kind: name of the kind of data.
        dim: number of spatial axes.
        demo: whether the result is that of the built-in demo, which takes another name if the first
            one exists.
        resume: whether an unfinished video demo is continued, under its first name.
    """
    if not demo:
        return Path(result_name(name, kind, dim))
    suffix = ".mp4" if kind == "videos" else DEFAULT_SUFFIXES.get(dim, ".npz")
    first = Path(f"stylized{suffix}")
    return first if resume and kind == "videos" else io.next_free_path(first)


def single_output(
    default: Path, kind: str, output: str | os.PathLike[str] | None
) -> tuple[Path, Path | None]:
    """Return the path of one result, and the folder that has to be made for it, or None.

    Args:
        default: path where none was typed, see `default_output`.
        kind: name of the kind of data.
        output: path as typed, or None.
    """
    if output is None:
        return default, None
    path = Path(output)
    # A folder of frames or slices is the result itself; other results become a file in a folder.
    fills = is_folder_name(default) or (kind == "videos" and has_record(path))
    if kind in ("videos", "volumes") and (fills or (kind == "videos" and not path.exists())):
        return path, None
    if path.is_dir():
        return path / default.name, None
    if os.fspath(output).endswith(_SEPARATORS):
        return path / default.name, path
    return path, None
