"""Positions of voxels in the patient, for volumes of every format.

The reader of a volume leaves ``header["affine"]``: a ``(4, 4)`` matrix from indices to millimetres
in RAS+ (right, anterior, superior; NIfTI's convention). DICOM and ITK use LPS+ (left, posterior,
superior): `flip_lps` converts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convnd.grid import Grid

__all__ = ["anatomical_axes", "flip_lps", "grid_affine", "is_orthogonal", "rescaled"]


def grid_affine(grid: Grid) -> NDArray[Any]:
    """Return the matrix from indices to millimetres in RAS+, for the grid's present spacing.

    Args:
        grid: three spatial axes. If its spacing differs from the affine's, the outer corner of the
            first voxel stays in place. Without an affine, the axes are taken for RAS+.

    Returns:
        ``(4, 4)``, float64.

    >>> import torch
    >>> from convnd.grid import Grid
    >>> grid_affine(Grid(values=torch.ones(1, 1, 2, 2, 2), spacing=(1.0, 2.0, 3.0))).diagonal()
    array([1., 2., 3., 1.])
    """
    import numpy as np

    affine = grid.header.get("affine")
    if not isinstance(affine, np.ndarray):
        return np.diag([*map(float, grid.spacing), 1.0])
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    factor = np.divide(grid.spacing, lengths)
    return affine if np.allclose(factor, 1, rtol=1e-5) else rescaled(affine, factor)


def rescaled(affine: NDArray[Any], factor: NDArray[Any]) -> NDArray[Any]:
    """Return the affine of voxels ``factor`` times as large, with the same field of view."""
    import numpy as np

    # The corner of the first voxel stays, so its centre moves.
    change = np.diag([*factor, 1.0])
    change[:3, 3] = (factor - 1) / 2
    return np.asarray(affine @ change)


def is_orthogonal(affine: NDArray[Any]) -> bool:
    """Whether the axes of an affine are at right angles, to about a twentieth of a degree."""
    import numpy as np

    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.allclose(directions.T @ directions, np.eye(3), atol=1e-3))


def flip_lps(affine: NDArray[Any]) -> NDArray[Any]:
    """Convert RAS+ to LPS+ or back: flip the signs of the first two rows."""
    import numpy as np

    return np.asarray(np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def anatomical_axes(grid: Grid) -> tuple[tuple[int, bool], ...]:
    """Find the stored axes that run most nearly towards superior, anterior and right.

    Returns:
        For each of the three directions the index of a spatial axis, and whether that axis runs
        against the direction; each axis once.

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
    orthogonal = left @ right
    axes: dict[int, tuple[int, bool]] = {}
    for flat in np.argsort(-np.abs(orthogonal), axis=None):
        row, column = map(int, np.unravel_index(flat, (3, 3)))
        if row not in axes and column not in [axis for axis, _ in axes.values()]:
            axes[row] = (column, bool(orthogonal[row, column] < 0))
    return tuple(axes[row] for row in (2, 1, 0))
