"""Folders of styles, each of which gives a result of its own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from convnd.errors import OutputFileError
from convnd.io.registry import find_format
from convnd_tasks.pipeline.distinct_names import distinct_names
from convnd_tasks.pipeline.folders import list_contents

__all__ = ["expand_folders", "has_folder", "style_outputs"]


def has_folder(styles: Sequence[str], kind: str) -> bool:
    """Return whether a style is a folder of styles; scans and videos may be folders themselves.

    Args:
        styles: paths or sample names.
        kind: name of the kind of data.
    """
    return kind not in ("volumes", "videos") and any(Path(style).is_dir() for style in styles)


def expand_folders(styles: Sequence[str], kind: str, dim: int) -> tuple[str, ...]:
    """Replace folders by the files in them that can be styles.

    Args:
        styles: paths or sample names.
        kind: name of the kind of data.
        dim: number of spatial axes.

    Raises:
        InputFileError: a folder has no such file.
    """
    names: list[str] = []
    for style in styles:
        files = list_contents(Path(style), kind, dim).files if Path(style).is_dir() else [style]
        names += map(str, files)
    return tuple(names)


def style_outputs(
    results: Sequence[Path],
    styles: Sequence[str],
    source: str,
    output: str | os.PathLike[str] | None,
) -> tuple[tuple[Path, ...], Path]:
    """Return the paths of the results of each content with each style, and their folder.

    Args:
        results: path of the result of each content where there is one style.
        styles: path or sample name of each style.
        source: path or sample name of the content, or path of the folder of contents.
        output: path of the folder of the results as typed, or None.

    Raises:
        OutputFileError: the path that was typed is that of a file.

    >>> results, styles = [Path("a_stylized.png")], ["x/waves.jpg", "ink"]
    >>> paths, folder = style_outputs(results, styles, "a.jpg", None)
    >>> folder.name, [path.name for path in paths]
    ('a_stylized', ['a_waves.png', 'a_ink.png'])
    """
    if output is not None and not Path(output).is_dir() and find_format(output) is not None:
        raise OutputFileError(
            os.fspath(output),
            expected="a folder, since each style gives a result",
            got="the name of a file",
            remedy="for example results/",
        )
    folder = Path(output or f"{_stem(Path(source).resolve().name)}_stylized")
    stems = [_stem(style) for style in styles]
    words = [
        Path(style).name if stems.count(stem) > 1 else stem
        for style, stem in zip(styles, stems, strict=True)
    ]
    names = []
    for path, word in itertools.product(results, words):
        before, _, after = path.name.rpartition("stylized")
        names.append(f"{before}{word}{after}")
    return tuple(folder / name for name in distinct_names(names)), folder


def _stem(name: str) -> str:
    name = Path(name).name
    return name.partition(".")[0] or name
