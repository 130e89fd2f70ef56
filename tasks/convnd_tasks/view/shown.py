"""The numbers that a page draws: samples of signals, and voxels of scans."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["Shown", "ShownFiles", "Source"]

_MOST_BYTES = 2**30
"""Bytes of the values that are kept in memory."""


class Source(NamedTuple):
    """Where values come from.

    Args:
        name: path, or name of a sample.
        dim: number of spatial axes of a sample.
        is_step: whether it is the file of a step, which `Shown.save` wrote.
    """

    name: str
    dim: int
    is_step: bool

    @classmethod
    def parse(cls, request: Mapping[str, Any]) -> Source:
        """Read the source of a request of the server."""
        return cls(str(request["name"]), int(request["dim"]), bool(request.get("is_step")))


@dataclass(frozen=True)
class Shown:
    """Values as they are drawn.

    Args:
        values: ``(C, T)`` of a signal, voltages in mV; ``(T, D, H, W)`` of the frames of a scan,
            with axes towards head, front and right; float32.
        spacing: distance between samples along each spatial axis.
        names: names of the leads; () of a scan.
        units: unit of each lead, or of the voxels; "" where it is not known.
        axis_unit: unit of the spacing: "s", "mm" or "".
        order: for each axis of a scan the axis of its file, and whether it is reversed.
        affine: ``(3, 4)``, from indices along these axes to mm towards right, front and head; () of
            a scan whose file does not say it.
    """

    values: NDArray[Any]
    spacing: Sequence[float]
    names: Sequence[str] = ()
    units: Sequence[str] = ()
    axis_unit: str = ""
    order: Sequence[tuple[int, bool]] = ()
    affine: Sequence[Sequence[float]] = ()

    @classmethod
    def of_grid(cls, grid: Grid, *, is_sample: bool = False) -> Shown | None:
        """Convert a grid; None if it is neither a signal nor a scan.

        Args:
            grid: the grid.
            is_sample: it is a built-in one, whose axes run to right, front and head.
        """
        if grid.ndim == 1:
            return _of_signal(grid)
        return _of_scan(grid, is_sample) if grid.ndim == 3 and grid.axes[0] != "t" else None

    def save(self, path: Path) -> None:
        """Write the values to a new file."""
        import numpy as np

        with path.open("wb") as file:
            np.savez(
                file,
                values=self.values,
                spacing=np.array(self.spacing),
                names=np.array(self.names, str),
                units=np.array(self.units, str),
                axis_unit=np.array(self.axis_unit),
                order=np.array(self.order, int),
                affine=np.array(self.affine, float),
            )

    @classmethod
    def load(cls, path: Path) -> Shown:
        """Read what `save` wrote."""
        import numpy as np

        with np.load(path, allow_pickle=False) as stored:
            return cls(
                values=stored["values"],
                spacing=stored["spacing"].tolist(),
                names=stored["names"].tolist(),
                units=stored["units"].tolist(),
                axis_unit=str(stored["axis_unit"]),
                order=[(int(axis), bool(flip)) for axis, flip in stored["order"]],
                affine=stored["affine"].tolist(),
            )


def _of_signal(grid: Grid) -> Shown:
    """Take the leads, voltages in mV."""
    import numpy as np

    from convnd.io.signals.signal import value_units
    from convnd_tasks.modalities.signals.leads import per_millivolt

    values = grid.values[0].detach().cpu().double().numpy()
    scale = per_millivolt(grid)
    if scale is not None:
        values = values / np.array(scale)[:, None]
    timed = grid.units == ("s",)
    return Shown(
        values=values.astype(np.float32),
        spacing=grid.spacing if timed else (1.0,),
        names=grid.channels,
        units=value_units(grid) if scale is None else ("mV",) * len(values),
        axis_unit="s" if timed else "",
    )


def _of_scan(grid: Grid, is_sample: bool) -> Shown:
    """Take all frames, with anatomical axes."""
    import numpy as np

    from convnd_tasks.modalities.volumes.geometry import value_unit
    from convnd_tasks.modalities.volumes.orientation import Orientation, canonical_affine

    axes = Orientation(grid)
    values = axes.to_canonical(grid.values.detach().cpu())[0].numpy()
    knows_place = is_sample or grid.header.get("affine") is not None
    return Shown(
        values=np.ascontiguousarray(values, np.float32),
        spacing=axes.spacing,
        units=(value_unit(grid),),
        axis_unit=grid.units[0] if grid.units[0] == "mm" else "",
        order=axes.order,
        affine=canonical_affine(grid).tolist() if knows_place and grid.units[0] == "mm" else (),
    )


class ShownFiles:
    """The values of files and samples that were shown last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Source, float], Shown] = OrderedDict()

    def open(self, source: Source) -> Shown:
        """Return the values of a file or sample.

        Args:
            source: the file or sample.

        Raises:
            InputFileError: the file cannot be read, or holds no signal and no scan.
        """
        path = Path(source.name)
        changed = path.stat().st_mtime if path.suffix else 0.0
        key = source, changed
        if key not in self._kept:
            self._kept[key] = Shown.load(path) if source.is_step else _open(source)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(_bytes, self._kept.values())) > _MOST_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key]


def _bytes(shown: Shown) -> int:
    return int(shown.values.nbytes)


def _open(source: Source) -> Shown:
    from convnd import io
    from convnd.errors import InputFileError
    from convnd_tasks import samples

    is_sample = samples.is_sample(source.name)
    if is_sample:
        make = samples.content if source.name in samples.CONTENTS else samples.style
        grid = make(source.name, spatial_dims=source.dim)
    else:
        grid = io.read(source.name)
    shown = Shown.of_grid(grid, is_sample=is_sample)
    if shown is None:
        raise InputFileError(
            Path(source.name).name,
            expected="a signal or a scan",
            got=f"{grid.ndim} spatial axes",
            remedy="choose another file",
        )
    return shown
