"""Contents and styles made on the spot, in every dimension: no files, no network, one seed.

`content` and `style` return a `convnd.grid.Grid` with the units, axes and channel names of its
kind of data; `contents` and `styles` list what there is for a rank. Everything is procedural and
deterministic: the same name, size and seed give the same bytes.

>>> styles(2)
['waves', 'cells', 'weave', 'marble', 'dots', 'ink']
>>> style("marble", spatial_dims=2, size=(30, 40)).shape
(30, 40)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convnd.errors import ShapeError, UsageError
from convnd.registry import Registry, unknown_name
from convnd_tasks.samples import bodies, clips, fieldstyles, phantom, scenes, signals
from convnd_tasks.samples.sample import Sample

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["CONTENTS", "STYLES", "Sample", "content", "contents", "style", "styles"]

CONTENTS: Registry[Sample] = Registry("content")
"""Every built-in content; the first of a rank is its default."""

STYLES: Registry[Sample] = Registry("style")
"""Every built-in style; the first of a rank is its default."""

for _name, _sample in (
    scenes.CONTENTS | signals.CONTENTS | phantom.CONTENTS | clips.CONTENTS | bodies.CONTENTS
).items():
    CONTENTS.add(_name, _sample)
for _name, _sample in (signals.STYLES | phantom.STYLES | fieldstyles.STYLES).items():
    STYLES.add(_name, _sample)


def content(
    name: str | None = None,
    *,
    spatial_dims: int,
    size: int | Sequence[int] | None = None,
    seed: int = 0,
) -> Grid:
    """A content to restyle.

    Args:
        name: one of ``contents(spatial_dims)``; None takes the first.
        spatial_dims: number of spatial axes, 1 or more.
        size: extent along each axis in samples, one for all or one each; None takes the
            sample's own.
        seed: 0 or more; another seed gives another variation.

    Returns:
        Values ``(1, C, *size)``: RGB in ``[0, 1]`` for pictures and clips, mV for an ECG, HU for
        a CT phantom, ``[0, 1]`` for the other signals and volumes.

    Raises:
        UnknownNameError: there is no such content.
        UsageError: the content has another rank, or a number is out of range.
        ShapeError: ``size`` does not have one entry per axis.
    """
    sample, shape = _choose(CONTENTS, name, spatial_dims, size, seed)
    return sample.make(shape, seed, None)


def style(
    name: str | None = None,
    *,
    spatial_dims: int,
    size: int | Sequence[int] | None = None,
    seed: int = 0,
    channels: int | None = None,
) -> Grid:
    """A style to take on.

    Args:
        name: one of ``styles(spatial_dims)``; None takes the first.
        spatial_dims: number of spatial axes, 1 or more.
        size: extent along each axis in samples, one for all or one each; None takes the
            sample's own.
        seed: 0 or more; another seed gives another variation.
        channels: how many; None takes the sample's own (RGB in 2-D). With 3 channels the field
            has its palette; with 1 it is the scalar field itself.

    Returns:
        Values ``(1, channels, *size)``: mV for an ECG, HU for a CT texture, otherwise
        ``[0, 1]``.

    Raises:
        UnknownNameError: there is no such style.
        UsageError: the style has another rank or number of channels, or a number is out of
            range.
        ShapeError: ``size`` does not have one entry per axis.
    """
    sample, shape = _choose(STYLES, name, spatial_dims, size, seed)
    if channels is not None and channels < 1:
        raise UsageError(f"style: expected channels of 1 or more, got {channels}; leave it out")
    return sample.make(shape, seed, channels)


def contents(spatial_dims: int) -> list[str]:
    """Names of the contents of a rank, the default first.

    >>> contents(4)
    ['bodies']
    """
    return [name for name in CONTENTS if CONTENTS[name].fits(spatial_dims)]


def styles(spatial_dims: int) -> list[str]:
    """Names of the styles of a rank, the default first."""
    return [name for name in STYLES if STYLES[name].fits(spatial_dims)]


def _choose(
    table: Registry[Sample],
    name: str | None,
    spatial_dims: int,
    size: int | Sequence[int] | None,
    seed: int,
) -> tuple[Sample, tuple[int, ...]]:
    """The sample asked for, and the shape to make it in."""
    kind = table.kind
    if spatial_dims < 1:
        raise UsageError(
            f"{kind}: expected spatial_dims of 1 or more, got {spatial_dims}; "
            "give the number of axes of the data"
        )
    if seed < 0:
        raise UsageError(f"{kind}: expected a seed of 0 or more, got {seed}; choose another")
    here = [n for n in table if table[n].fits(spatial_dims)]
    if name is None:
        name = here[0]
    elif name not in table:
        raise unknown_name(kind, name, here)
    elif name not in here:
        raise UsageError(
            f"{kind}: expected one of {', '.join(here)} for spatial_dims={spatial_dims}, "
            f"got {name!r}; choose one of these or another rank"
        )
    sample = table[name]
    if size is None:
        return sample, sample.default_size(spatial_dims)
    shape = (size,) * spatial_dims if isinstance(size, int) else tuple(size)
    if len(shape) != spatial_dims or min(shape) < 1:
        raise ShapeError(
            f"{kind}: expected {spatial_dims} positive extents in size, got {size}; "
            "give one number for all axes or one for each"
        )
    return sample, shape
