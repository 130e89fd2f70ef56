"""Where voxels lie in the patient: what volumes of every format have in common.

The reader of a volume leaves ``header["affine"]``: a ``(4, 4)`` matrix from indices to millimetres
towards the right ear's opposite, the front and the head (RAS+, as NIfTI has it). DICOM and ITK
count towards left and back (LPS+): `flip_lps` turns one into the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["anatomical_axes", "flip_lps", "grid_affine", "rescaled"]


def grid_affine(grid: Grid) -> NDArray[Any]:
    """Indices to millimetres in RAS+, for the grid's present spacing.

    Args:
        grid: three spatial axes. When its spacing is no longer the affine's, the outer corner of
            the first voxel stays where it was. Without an affine, the axes are RAS+ themselves.

    Returns:
        ``(4, 4)``, float64.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> grid_affine(Grid(values=torch.ones(1, 1, 2, 2, 2), spacing=(1.0, 2.0, 3.0))).diagonal()
    array([1., 2., 3., 1.])
    """
    import numpy as np

    known = grid.header.get("affine")
    if not isinstance(known, np.ndarray):
        return np.diag([*map(float, grid.spacing), 1.0])
    before = np.linalg.norm(known[:3, :3], axis=0)
    factor = np.divide(grid.spacing, before)
    return known if np.allclose(factor, 1, rtol=1e-5) else rescaled(known, factor)


def rescaled(affine: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """The affine of voxels ``factor`` times as large, the field of view staying where it is."""
    import numpy as np

    # The corner of the first voxel stays, so its centre moves.
    change = np.diag([*factor, 1.0])
    change[:3, 3] = (factor - 1) / 2
    return np.asarray(affine @ change)


def flip_lps(affine: NDArray[Any]) -> NDArray[Any]:
    """RAS+ to LPS+, or back: the signs of the first two rows."""
    import numpy as np

    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def anatomical_axes(grid: Grid) -> tuple[tuple[int, bool], ...]:
    """Which stored axis runs most nearly towards head, front and right, and whether backwards.

    Returns:
        For each of the three directions the number of a spatial axis, and whether that axis runs
        against it; every axis once.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> anatomical_axes(Grid(values=torch.ones(1, 1, 2, 2, 2)))
    ((2, False), (1, False), (0, False))
    """
    import numpy as np

    affine = grid_affine(grid)
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # As nibabel does: the nearest orthogonal matrix, then the strongest entries first.
    left, _, right = np.linalg.svd(directions)
    near = left @ right
    found: dict[int, tuple[int, bool]] = {}
    for flat in np.argsort(-np.abs(near), axis=None):
        row, column = map(int, np.unravel_index(flat, (3, 3)))
        if row not in found and column not in [axis for axis, _ in found.values()]:
            found[row] = (column, bool(near[row, column] < 0))
    return tuple(found[row] for row in (2, 1, 0))
