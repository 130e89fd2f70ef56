"""Searches of ``convnd patches`` for a page: the words of a job, and the patches in its folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.errors import InputFileError, UsageError
from convnd.options import flag_name, flags_of
from convnd_tasks.pipeline.recorded_inputs import PLACE

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["COMMAND", "TABLE", "check_search", "describe_search", "patch_png"]

COMMAND = "patches"
"""The command of a search, and the name of its folder."""

TABLE = "patches.json"
"""File with all patches of a search, in its folder."""

_INPUT_OPTIONS = ("--channel-maps",)
_SIDE = 112
_MOST_BYTES = 2**26


def check_search(line: Sequence[str], inputs: int) -> None:
    """Check that a search of a page holds inputs and options of the search, and nothing else.

    Args:
        line: the words of the command, with places for its inputs.
        inputs: number of inputs.

    Raises:
        UsageError: a word is something else.
    """
    from convnd.backbones import BACKBONES
    from convnd_tasks.inspect.options import PatchOptions

    flags = flags_of(PatchOptions).items()
    allowed = {(flag.names[0] if flag.names else flag_name(name)) for name, (_, flag) in flags}
    allowed = ({"--dim"} | allowed) - set(_INPUT_OPTIONS)
    for word in line[1:]:
        option, equals, value = word.partition("=")
        place = PLACE.fullmatch(word)
        if place is not None and int(place[1]) < inputs:
            continue
        names_network = option == "--backbone" and value not in BACKBONES
        if not equals or option not in allowed or "{" in value or names_network:
            raise UsageError(
                "a search of the page",
                expected="inputs, and options of convnd patches",
                got=repr(word[:80]),
                remedy="use the command line",
            )


def describe_search(folder: Path) -> dict[str, Any]:
    """Describe a finished search.

    Args:
        folder: its folder.

    Returns:
        For each layer its receptive field, and for each of its units the strongest patches:
        rank, activation, input and place.

    Raises:
        InputFileError: the table of patches is damaged.
    """
    path = folder / TABLE
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError
        table = json.loads(path.read_text("utf-8"))
        layers: dict[str, Any] = {
            str(name): {"span": field["span"], "units": {}}
            for name, field in table["receptive_fields"].items()
        }
        for idle in table["never_active"]:
            layers[idle["layer"]]["units"][str(int(idle["unit"]))] = []
        for patch in table["patches"]:
            units = layers[patch["layer"]]["units"]
            shown = {name: patch[name] for name in ("rank", "value", "input", "start", "stop")}
            units.setdefault(str(int(patch["unit"])), []).append(shown)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputFileError(
            str(path), expected="the table of convnd patches", got="another", remedy="search again"
        ) from error
    return {"layers": layers}


def patch_png(path: Path, unit: int, rank: int) -> bytes:
    """Draw a patch of a search.

    Args:
        path: the file of the patch, or that of all patches of its layer.
        unit: number of the unit.
        rank: 1 for the strongest patch.

    Raises:
        InputFileError: there is no such patch.
    """
    from convnd_tasks.runtime.plots import encode_pixels
    from convnd_tasks.runtime.thumbnails import draw_thumbnail

    grid = _read_patch(path, f"unit{unit:04d}_{rank}")
    values = grid.values.float().nan_to_num()
    if values.shape[1] != 3:
        low, high = float(values.min()), float(values.max())
        values = (values - low) / ((high - low) or 1.0)
    pixels = draw_thumbnail(
        values,
        _SIDE,
        window=[range(extent) for extent in grid.shape],
        region=[slice(0, extent) for extent in grid.shape],
        axes=grid.axes,
        spacing=grid.spacing,
    )
    return encode_pixels(pixels)


def _read_patch(path: Path, name: str) -> Grid:
    """Read the samples of a patch, as `PatchWriter` wrote them."""
    import numpy as np
    import torch

    from convnd import io
    from convnd.grid import Grid

    if path.suffix != ".npz":
        return io.read(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return Grid(values=torch.from_numpy(stored[name].astype(np.float32))[None])
    except (OSError, ValueError, KeyError) as error:
        raise InputFileError(
            path.name,
            expected=f"the patch {name}",
            got="none",
            remedy="search again",
        ) from error
