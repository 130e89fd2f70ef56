"""Which inputs people mean: files, folders, built-in samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd_tasks import samples
from convnd_tasks.inspect.reading import Input
from convnd_tasks.pipeline.resolve import infer_dim

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["gather"]

_SEEDS = {1: 4, 2: 4, 3: 2}


def gather(names: Sequence[str], dim: int | None, *, seed: int = 0) -> tuple[list[Input], int]:
    """The inputs, and their number of spatial axes; no file is opened.

    Args:
        names: files, folders (searched with all below them), or names of built-in samples;
            without any, the built-in contents and styles in a few variations.
        dim: as asked for, or None.
        seed: of samples.

    Raises:
        UsageError: the files do not agree with each other or with ``dim``.
        InputFileError: nothing of a known kind.

    >>> [item.name for item in gather([], 1)[0]][:2]
    ['ecg', 'respiration']
    """
    if not names:
        dim = 2 if dim is None else dim
        return [
            Input(title if not extra else f"{title} (seed {seed + extra})", make)
            for extra in range(_SEEDS.get(dim, 1))
            for title, make in _built_in(dim, seed + extra)
        ], dim
    files: list[Path] = []
    made: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            files += _known(path, dim)
        elif path.suffix or path.exists():
            files.append(path)
        else:
            made.append(name)
    dim = infer_dim(files, dim)
    known = dict(_built_in(dim, seed))
    found = [Input(str(path), partial(io.read, path)) for path in dict.fromkeys(files)]
    for name in made:
        if name not in known:
            raise InputFileError(
                f"{name}: expected a file, a folder or one of {', '.join(known)}, got none of "
                "them; check the spelling"
            )
        found.append(Input(name, known[name]))
    if not found:
        raise UsageError("inputs: expected at least one, got none; name files or folders")
    return found, dim


def _built_in(dim: int, seed: int) -> list[tuple[str, partial[Grid]]]:
    made = [
        (name, partial(samples.content, name, spatial_dims=dim, seed=seed))
        for name in samples.contents(dim)
    ]
    return made + [
        (name, partial(samples.style, name, spatial_dims=dim, seed=seed))
        for name in samples.styles(dim)
    ]


def _known(folder: Path, dim: int | None) -> list[Path]:
    """What can be read in a folder; where people say how many axes, only what may have as many."""
    endings = tuple(io.suffixes())
    try:
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.name.lower().endswith(endings)
            and (dim is None or io.spatial_dims(path) in (None, dim))
            and path.is_file()
        )
    except OSError as error:
        raise InputFileError(
            f"{folder}: expected a folder that can be listed, got {error.strerror}; check it"
        ) from error
    if not found:
        raise InputFileError(
            f"{folder}: expected files of a known kind ({', '.join(endings)})"
            f"{'' if dim is None else f' with {dim} spatial axes'}, got none; give another folder"
        )
    return found
