"""Built-in contents and styles in every dimension, computed without files or network.

`content` and `style` return a `convnd.grid.Grid` with the units, axes and channel names of its
kind of data; `contents` and `styles` list the names for a rank. All samples are procedural and
deterministic: equal name, size and seed give equal bytes.

>>> styles(2)
['waves', 'cells', 'weave', 'marble', 'dots', 'ink']
>>> style("marble", spatial_dims=2, size=(30, 40)).shape
(30, 40)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from convnd.errors import ShapeError, UsageError
from convnd.registry import Registry, unknown_name
from convnd_tasks.samples import bodies, head, patterns, phantom, scenes, signals, video
from convnd_tasks.samples.sample import Maker, Sample

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = [
    "CONTENTS",
    "MATCHING_STYLE",
    "STYLES",
    "Sample",
    "check_demo",
    "common_rank",
    "content",
    "contents",
    "is_sample",
    "style",
    "styles",
]

CONTENTS: Registry[Sample] = Registry("content")
"""All built-in contents; the first of a rank is its default."""

STYLES: Registry[Sample] = Registry("style")
"""All built-in styles; the first of a rank is its default."""

MATCHING_STYLE = "matching"
"""Name that stands for the built-in style of the modality of a scan."""

_MOST_DEMO_AXES = 4  # at five, 16 samples along each axis take hours

for _name, _sample in (
    scenes.CONTENTS | signals.CONTENTS | phantom.CONTENTS | video.CONTENTS | bodies.CONTENTS
).items():
    CONTENTS.add(_name, _sample)
for _name, _sample in (signals.STYLES | phantom.STYLES | head.STYLES | patterns.STYLES).items():
    STYLES.add(_name, _sample)


def content(
    name: str | None = None,
    *,
    spatial_dims: int,
    size: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Grid:
    """Make a content.

    Args:
        name: one of ``contents(spatial_dims)``; None takes the first.
        spatial_dims: number of spatial axes, 1 or more.
        size: extent in samples, one number for all axes or one for each; None takes the
            default of the sample.
        seed: 0 or more; each seed gives another variation.

    Returns:
        Values ``(1, C, *size)``: RGB in ``[0, 1]`` for pictures and video, mV for an ECG, HU for
        a CT phantom, ``[0, 1]`` for the other signals and volumes.

    Raises:
        UnknownNameError: there is no such content.
        UsageError: the content does not exist at this rank, or a number is out of range.
        ShapeError: ``size`` does not have one entry per axis.
    """
    return _make(CONTENTS, name, spatial_dims, size, seed)


def style(
    name: str | None = None,
    *,
    spatial_dims: int,
    size: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Grid:
    """Make a style.

    Args:
        name: one of ``styles(spatial_dims)``; None takes the first.
        spatial_dims: number of spatial axes, 1 or more.
        size: extent in samples, one number for all axes or one for each; None takes the
            default of the sample.
        seed: 0 or more; each seed gives another variation.

    Returns:
        Values ``(1, C, *size)``: mV for an ECG, HU for a CT texture, otherwise ``[0, 1]``, in RGB
        with two axes.

    Raises:
        UnknownNameError: there is no such style.
        UsageError: the style does not exist at this rank, or a number is out of range.
        ShapeError: ``size`` does not have one entry per axis.
    """
    return _make(STYLES, name, spatial_dims, size, seed)


def is_sample(name: str) -> bool:
    """Whether a name is that of a built-in content or style of any rank, and not of a file.

    >>> is_sample("waves"), is_sample("photo.jpg")
    (True, False)
    """
    is_name = name in CONTENTS or name in STYLES or name == MATCHING_STYLE
    return is_name and not Path(name).exists()


def common_rank(names: Iterable[str]) -> int | None:
    """Return the one rank, of 1 to 3, at which all named samples exist; None if there are several.

    >>> common_rank(["town", "waves"]), common_rank(["waves"])
    (2, None)
    """
    ranks = {1, 2, 3}
    for name in names:
        table = CONTENTS if name in CONTENTS else STYLES
        supported = {3} if name == MATCHING_STYLE else filter(table[name].supports, ranks)
        ranks = ranks.intersection(supported)
    return ranks.pop() if len(ranks) == 1 else None


def check_demo(spatial_dims: int) -> None:
    """Check that a command without files does not take hours.

    Args:
        spatial_dims: number of axes.

    Raises:
        UsageError: there are too many axes.
    """
    if spatial_dims > _MOST_DEMO_AXES:
        raise UsageError(
            "--dim",
            expected=f"at most {_MOST_DEMO_AXES} without files",
            got=spatial_dims,
            remedy="give files, for example .npy",
        )


def contents(spatial_dims: int) -> list[str]:
    """List the names of the contents of a rank, the default first.

    >>> contents(4)
    ['bodies']
    """
    return [name for name in CONTENTS if CONTENTS[name].supports(spatial_dims)]


def styles(spatial_dims: int) -> list[str]:
    """List the names of the styles of a rank, the default first."""
    return [name for name in STYLES if STYLES[name].supports(spatial_dims)]


@lru_cache(maxsize=8)
def _make_default(make: Maker, size: tuple[int, ...], seed: int) -> Grid:
    """Make a sample of its default size once: to paint one takes up to half a second."""
    return make(size, seed)


def _make(
    table: Registry[Sample],
    name: str | None,
    spatial_dims: int,
    size: int | Sequence[int] | None,
    seed: int,
) -> Grid:
    """Look up a sample, determine its shape, and make it."""
    kind = table.kind
    if spatial_dims < 1:
        raise UsageError(
            kind,
            expected="spatial_dims of 1 or more",
            got=spatial_dims,
            remedy="give the number of axes of the data",
        )
    if seed < 0:
        raise UsageError(kind, expected="a seed of 0 or more", got=seed, remedy="choose another")
    names = [n for n in table if table[n].supports(spatial_dims)]
    if name is None:
        name = names[0]
    elif name not in table:
        raise unknown_name(kind, name, names)
    elif name not in names:
        raise UsageError(
            kind,
            expected=f"one of {', '.join(names)} for spatial_dims={spatial_dims}",
            got=repr(name),
            remedy="choose one of these or another rank",
        )
    sample = table[name]
    if size is None:
        grid = _make_default(sample.make, sample.default_size(spatial_dims), seed)
        return grid.with_values(grid.values.clone())
    shape = (size,) * spatial_dims if isinstance(size, int) else tuple(size)
    if len(shape) != spatial_dims or min(shape) < 1:
        raise ShapeError(
            kind,
            expected=f"{spatial_dims} positive extents in size",
            got=size,
            remedy="give one number for all axes or one for each",
        )
    return sample.make(shape, seed)
