"""Opens files and built-in samples as grids, and checks options that need a content."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import InputFileError, UnknownNameError, UsageError
from convnd.io.array import without_channels
from convnd.io.missing import missing_file_error, similar_paths, spelling_remedy
from convnd.io.reading import check_path
from convnd.io.registry import may_hold
from convnd.io.volumes.series import frames_to_axis

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.transfer.options import TransferOptions
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["check_input", "check_no_content_options", "check_sample", "open_grid"]


def open_grid(name: str, spatial_dims: int, *, role: str, seed: int) -> Grid:
    """Read a file, or make a built-in sample if there is no such file.

    Args:
        name: path, or name of a sample.
        spatial_dims: number of spatial axes expected.
        role: ``"style"`` finds samples among the styles, any other role among the contents.
        seed: seed of a sample.

    Raises:
        UnknownNameError: there is neither such a file nor such a sample.
        InputFileError: the file cannot be read, or holds another number of axes.
    """
    from convnd_tasks import samples

    path = Path(name)
    if not path.suffix and not path.exists():
        check_sample(name, role, spatial_dims)
        make = samples.style if role == "style" else samples.content
        return make(name, spatial_dims=spatial_dims, seed=seed)
    if spatial_dims != 3 and path.is_dir():  # the folder of a scan holds its slices
        raise InputFileError(
            f"{role} {path}",
            expected="a file",
            got="a folder",
            remedy="name a file in it" + (", or several styles" if role == "style" else ""),
        )
    grid = io.read(path)
    is_array = path.suffix.lower() in (".npy", ".npz") and set(grid.units) == {"px"}
    is_array = is_array and set(grid.spacing) == {1.0}  # no file that names its axes
    if is_array and grid.ndim == spatial_dims - 1 > 1:  # an array of N axes, which are all spatial
        grid = without_channels(grid)
    if spatial_dims == 4 and grid.ndim == 3 and may_hold(path, 4):
        grid = frames_to_axis(grid)
    if grid.ndim != spatial_dims:
        raise InputFileError(
            str(path),
            expected=f"{spatial_dims} spatial axes",
            got=grid.ndim,
            remedy=f"use --dim {grid.ndim} or another file"
            if role == "content"
            else "give one of the content's kind",
        )
    return grid


def check_input(name: str, role: str, spatial_dims: int | None = None) -> None:
    """Check, before any work, that an input exists: a file, a folder, or a built-in sample.

    Args:
        name: the name as it was typed.
        role: ``"style"``, ``"content"``, ``"input"`` or another; masks are files.
        spatial_dims: rank of the samples that the message names; None is any.

    Raises:
        InputFileError: there is no such file, or its path cannot be followed.
        UnknownNameError: there is neither such a file nor such a sample.
    """
    from convnd_tasks import samples

    check_path(name)
    if os.path.exists(name) or (samples.is_sample(name) and role != "mask"):  # noqa: PTH110
        return
    if Path(name).suffix or os.path.basename(name) != name or role in ("init", "mask"):  # noqa: PTH119
        raise missing_file_error(name)
    check_sample(name, role, spatial_dims)


def check_sample(name: str, role: str, spatial_dims: int | None = None) -> None:
    """Check that a name is that of a built-in sample of any rank.

    Args:
        name: the name as it was typed.
        role: ``"style"`` for styles, ``"input"`` for both, any other role for contents.
        spatial_dims: rank of the samples that the message names; None is any.

    Raises:
        UnknownNameError: there is no such sample.
    """
    from convnd_tasks import samples

    tables = {"style": [samples.STYLES], "input": [samples.CONTENTS, samples.STYLES]}
    names = [key for table in tables.get(role, [samples.CONTENTS]) for key in table]
    if name in names or (name == samples.MATCHING_STYLE and role == "style"):
        return
    text = "a built-in sample (convnd samples)"
    if spatial_dims is not None:
        rank_names = {*samples.contents(spatial_dims), *samples.styles(spatial_dims)}
        text = f"one of {', '.join(key for key in names if key in rank_names)}"
    close = [*difflib.get_close_matches(name, names, n=1), *similar_paths(name)]
    got, remedy = repr(name), spelling_remedy(close)
    if name in samples.STYLES:
        got, remedy = f"{got}, a built-in style", "put the content first, then the styles"
    raise UnknownNameError(
        role, expected=f"an existing file or folder, or {text}", got=got, remedy=remedy
    )


def check_no_content_options(options: TransferOptions, settings: JobSettings) -> None:
    """Check that none of the options that need a content was given for a texture.

    Raises:
        UsageError: one of them was given.
    """
    for option, was_given, purpose in (
        ("--mask", settings.mask is not None, "to protect"),
        ("--affine-weight", options.affine_weight != 0, "to keep the structure of"),
        ("--strength", options.strength != 1, "to mix with"),
        ("--colors", getattr(options, "colors", "style") != "style", "whose colours to keep"),
    ):
        if was_given:
            raise UsageError(
                option, expected=f"a content {purpose}", got="--texture", remedy="leave it out"
            )
