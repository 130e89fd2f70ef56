"""Resolution of input names: files, folders and built-in samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import UsageError
from convnd.registry import unknown_name
from convnd_tasks import samples
from convnd_tasks.inspect.reading import Input
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.pipeline.folders import list_files, listed_suffixes
from convnd_tasks.pipeline.kinds import infer_dim

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["resolve_inputs"]

_VARIATIONS = {1: 4, 2: 4, 3: 2}
"""Seeds of the built-in samples that are searched by default, by rank."""


def resolve_inputs(
    names: Sequence[str], dim: int | None, *, seed: int = 0
) -> tuple[list[Input], int]:
    """Resolve names to inputs and infer their number of spatial axes; opens no file.

    Args:
        names: files, folders (searched recursively, for files of the number of axes that most of
            them have), or names of built-in samples. An empty sequence selects the built-in
            contents and styles in a few variations.
        dim: number of spatial axes, or None to infer it.
        seed: seed of the samples.

    Raises:
        UsageError: the files have different ranks, or another rank than ``dim``.
        UnknownNameError: a name is neither a file, a folder nor a sample.
        InputFileError: a file does not exist, or a folder has no file of a known format.

    >>> [item.name for item in resolve_inputs([], 1)[0]][:2]
    ['ecg', 'respiration']
    """
    if not names:
        dim = 2 if dim is None else dim
        return _varied_samples(dim, seed), dim
    files: list[Path] = []
    sample_names: list[str] = []
    for name in names:
        check_input(name, "input", dim)
        path = Path(name)
        if path.is_dir():
            files += _files_of_one_rank(path, dim)
        elif path.suffix or path.exists():
            files.append(path)
        else:
            sample_names.append(name)
    if dim is None and not files:
        dim = samples.common_rank(sample_names)
    dim = infer_dim(files, dim)
    built_in = _built_in(dim, seed)
    inputs = [Input(str(path), partial(io.read, path)) for path in dict.fromkeys(files)]
    for name in sample_names:
        if name not in built_in:
            raise unknown_name("input", name, list(built_in))
        inputs.append(Input(name, built_in[name]))
    if not inputs:
        raise UsageError(
            "inputs", expected="at least one", got="none", remedy="name files or folders"
        )
    return inputs, dim


def _varied_samples(dim: int, seed: int) -> list[Input]:
    """All built-in contents and styles, made from a few seeds."""
    samples.check_demo(dim)
    return [
        Input(name if not variation else f"{name} (seed {seed + variation})", open_sample)
        for variation in range(_VARIATIONS.get(dim, 1))
        for name, open_sample in _built_in(dim, seed + variation).items()
    ]


def _files_of_one_rank(folder: Path, dim: int | None) -> list[Path]:
    """Return the files of a folder with ``dim`` spatial axes; None takes the most common number."""
    files = list_files(folder, listed_suffixes(), dim=dim, recursive=True)
    ranks = Counter(io.spatial_dims(path) for path in files)
    del ranks[None]
    if dim is None and ranks:
        dim = ranks.most_common(1)[0][0]
    return [path for path in files if dim is None or io.spatial_dims(path) in (None, dim)]


def _built_in(dim: int, seed: int) -> dict[str, partial[Grid]]:
    make = {
        name: partial(samples.content, name, spatial_dims=dim, seed=seed)
        for name in samples.contents(dim)
    }
    return make | {
        name: partial(samples.style, name, spatial_dims=dim, seed=seed)
        for name in samples.styles(dim)
    }
