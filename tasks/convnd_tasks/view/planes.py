"""Planes of scans for a page: raw values, from which the page draws with any window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError

if TYPE_CHECKING:
    from convnd_tasks.view.shown import Shown

__all__ = ["describe_scan", "plane_bytes", "slab_bytes"]

_LARGEST_STEP = 64
_MOST_VOXELS = 2**22  # of one slab

_PERCENTILES = {"1 to 99 %": (1.0, 99.0), "10 to 99.9 %": (10.0, 99.9), "all values": (0.0, 100.0)}


def describe_scan(shown: Shown) -> dict[str, Any]:
    """Describe a scan: frames, extent, voxel sides, unit, windows, and its place in the patient.

    Args:
        shown: the scan.

    Returns:
        ``windows`` holds the lowest and highest value of each window by its name: those of CT for
        Hounsfield units, percentiles of the first frame otherwise. ``affine`` leads to mm towards
        right, front and head, and ``tilt`` is the largest angle in degrees between an axis and
        these directions; both are None where the file does not say it.
    """
    affine = [list(row) for row in shown.affine] or None
    return {
        "frames": len(shown.values),
        "shape": list(shown.values.shape[1:]),
        "spacing": list(shown.spacing),
        "axis_unit": shown.axis_unit,
        "unit": shown.units[0],
        "windows": _windows(shown),
        "order": [[axis, flip] for axis, flip in shown.order],
        "affine": affine,
        "tilt": None if affine is None else _tilt(shown),
    }


def _tilt(shown: Shown) -> float:
    import numpy as np

    matrix = np.array(shown.affine)[::-1, :3]  # towards head, front and right
    cosines = np.diagonal(matrix) / np.linalg.norm(matrix, axis=0)
    return round(float(np.degrees(np.arccos(np.clip(cosines.min(), -1, 1)))), 1)


def _windows(shown: Shown) -> dict[str, tuple[float, float]]:
    import numpy as np
    import torch

    from convnd_tasks.modalities.value_range import value_range
    from convnd_tasks.modalities.volumes.geometry import HOUNSFIELD
    from convnd_tasks.modalities.volumes.options import WINDOWS

    windows = {"auto": value_range(torch.from_numpy(shown.values[0]))}
    if shown.units[0] == HOUNSFIELD:
        ends = {
            name: (level - width / 2, level + width / 2) for name, (level, width) in WINDOWS.items()
        }
        return windows | ends
    finite = shown.values[0][np.isfinite(shown.values[0])]
    for name, shares in _PERCENTILES.items():
        low, high = (float(value) for value in np.percentile(finite, shares))
        windows[name] = (low, high if high > low else low + 1.0)
    return windows


def plane_bytes(shown: Shown, axis: int, index: int, frame: int = 0) -> bytes:
    """Return the values of a plane as little-endian float32, row by row.

    Head or front is the first row; the patient's right (in planes from the side, the front) is the
    first column, as radiologists look at scans.

    Args:
        shown: the scan.
        axis: the axis that the plane is across: 0 head, 1 front, 2 right.
        index: number of the plane along this axis.
        frame: number of the frame.

    Raises:
        UsageError: there is no such plane.
    """
    import numpy as np

    frames, *shape = shown.values.shape
    if not (0 <= axis < 3 and 0 <= index < shape[axis] and 0 <= frame < frames):
        got = f"{axis}, {index} of frame {frame}"
        raise UsageError("plane", expected="one of the scan", got=got, remedy="reload")
    plane = np.take(shown.values[frame], index, axis)[::-1, ::-1]
    return np.ascontiguousarray(plane, "<f4").tobytes()


def slab_bytes(shown: Shown, frame: int, step: int, first: int, count: int) -> bytes:
    """Return planes from feet to head as little-endian float32; right is the fastest axis.

    Args:
        shown: the scan.
        frame: number of the frame.
        step: each so-many-th voxel along every axis is taken, from the first on.
        first: number of the first plane, among those that are taken.
        count: number of planes.

    Raises:
        UsageError: there are no such planes, or they hold too many voxels.
    """
    import numpy as np

    is_frame = 0 <= frame < len(shown.values) and 1 <= step <= _LARGEST_STEP
    values = shown.values[frame, ::step, ::step, ::step] if is_frame else np.empty((0, 0, 0))
    slab = values[first : first + count]
    if not 0 < len(slab) == count or slab.size > _MOST_VOXELS:
        got = f"{count} planes from {first} of frame {frame}, step {step}"
        raise UsageError("slab", expected="planes of the scan", got=got, remedy="reload")
    return np.ascontiguousarray(slab, "<f4").tobytes()
