"""Paths of results: those that the user names, and default ones."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from convnd import io
from convnd.errors import ConvndError, UsageError
from convnd.io.atomic import output_errors
from convnd.io.registry import is_folder_name
from convnd_tasks.pipeline.folders import DEFAULT_SUFFIXES, result_name, result_names

__all__ = ["batch_outputs", "check_output_name", "default_output", "single_output"]

_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def check_output_name(output: str) -> None:
    """Check that a name typed for the result can be followed.

    Raises:
        UsageError: it is empty.
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
    """The paths of the results of a folder, and their folder.

    Args:
        source: the folder of the contents.
        contents: the files in it.
        kind: name of the kind of data.
        dim: number of spatial axes.
        output: the folder that was typed, or None.
    """
    folder = Path(output or f"{Path(source).resolve().name}_stylized")
    names = result_names(contents, kind, dim, Path(source))
    return tuple(folder / name for name in names), folder


def default_output(name: str, kind: str, dim: int, *, demo: bool, resume: bool) -> Path:
    """The path of a result where none was typed.

    Args:
        name: path or sample name of the content, or of the first style of a texture.
        kind: name of the kind of data.
        dim: number of spatial axes.
        demo: it is that of the built-in demo, which must work a second time without replacing the
            first result.
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
    """The path of one result, and the folder that has to be made for it, or None.

    Args:
        default: the path where none was typed, see `default_output`.
        kind: name of the kind of data.
        output: the path that was typed, or None.
    """
    if output is None:
        return default, None
    path = Path(output)
    # Frames and slices go right into a folder; other results get a name in it.
    fills = is_folder_name(default) or (kind == "videos" and _is_result(path))
    if kind in ("videos", "volumes") and (fills or (kind == "videos" and not path.exists())):
        return path, None
    if path.is_dir():
        return path / default.name, None
    if os.fspath(output).endswith(_SEPARATORS):
        return path / default.name, path
    return path, None


def _is_result(folder: Path) -> bool:
    """Whether a folder holds the frames of a result: its record says so."""
    with contextlib.suppress(ConvndError):
        return bool(io.read_provenance(folder))
    return False
