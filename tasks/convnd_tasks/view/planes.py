"""Planes of scans for a page: raw values, from which the page draws with any window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError

if TYPE_CHECKING:
    from convnd_tasks.view.shown import Shown

__all__ = ["describe_scan", "plane_bytes"]

_PERCENTILES = {"1 to 99 %": (1.0, 99.0), "10 to 99.9 %": (10.0, 99.9), "all values": (0.0, 100.0)}


def describe_scan(shown: Shown) -> dict[str, Any]:
    """Describe a scan: extent, voxel sides, unit, windows, and the axes of its file.

    Args:
        shown: the scan.

    Returns:
        ``windows`` holds the lowest and highest value of each window by its name: those of CT for
        Hounsfield units, percentiles otherwise.
    """
    return {
        "shape": list(shown.values.shape),
        "spacing": list(shown.spacing),
        "axis_unit": shown.axis_unit,
        "unit": shown.units[0],
        "windows": _windows(shown),
        "order": [[axis, flip] for axis, flip in shown.order],
    }


def _windows(shown: Shown) -> dict[str, tuple[float, float]]:
    import numpy as np
    import torch

    from convnd_tasks.modalities.value_range import value_range
    from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD
    from convnd_tasks.modalities.volumes.options import WINDOWS

    windows = {"auto": value_range(torch.from_numpy(shown.values))}
    if shown.units[0] == HOUNSFIELD:
        ends = {
            name: (level - width / 2, level + width / 2) for name, (level, width) in WINDOWS.items()
        }
        return windows | ends
    finite = shown.values[np.isfinite(shown.values)]
    for name, shares in _PERCENTILES.items():
        low, high = (float(value) for value in np.percentile(finite, shares))
        windows[name] = (low, high if high > low else low + 1.0)
    return windows


def plane_bytes(shown: Shown, axis: int, index: int) -> bytes:
    """Return the values of a plane as little-endian float32, row by row.

    Head or front is the first row; the patient's right (in planes from the side, the front) is the
    first column, as radiologists look at scans.

    Args:
        shown: the scan.
        axis: the axis that the plane is across: 0 head, 1 front, 2 right.
        index: number of the plane along this axis.

    Raises:
        UsageError: there is no such plane.
    """
    import numpy as np

    if not (0 <= axis < 3 and 0 <= index < shown.values.shape[axis]):
        raise UsageError(
            "plane", expected="one of the scan", got=f"{axis}, {index}", remedy="reload"
        )
    plane = np.take(shown.values, index, axis)[::-1, ::-1]
    return np.ascontiguousarray(plane, "<f4").tobytes()
