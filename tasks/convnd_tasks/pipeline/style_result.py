"""The result of `convnd.stylize`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.grid import Grid

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["StyleResult"]


@dataclass(frozen=True, kw_only=True, repr=False)
class StyleResult:
    """The result of `convnd.stylize`.

    Attributes:
        result: the result: a `Grid` in the content's units, or the finished frames of a video.
        losses: the objective ("total") and its weighted terms at every step, by name.
        steps: number of optimisation steps.
        seconds: wall time of the transfer.
        messages: lines for users about the inputs.
        path: path that the result was written to, or None.
    """

    result: Any
    losses: Mapping[str, Sequence[float]]
    steps: int
    seconds: float
    messages: Sequence[str] = ()
    path: Path | None = None

    @property
    def values(self) -> Tensor:
        """Values ``(1, C, *S)`` in the content's units; pictures in ``[0, 1]``."""
        values: Tensor = self.result.values
        return values

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the result; the suffix chooses the format.

        Args:
            path: path of the file, or of a folder for the frames of a video.
            overwrite: whether an existing file may be replaced.

        Returns:
            The path.

        Raises:
            OutputExistsError: the file exists and ``overwrite`` is false.
            ShapeError: the format holds another number of axes or other channels.
            UsageError: the suffix is that of no video format.
        """
        if isinstance(self.result, Grid):
            io.write(path, self.result, overwrite=overwrite)
        else:  # frames that are not held in memory
            self.result.save(Path(path), overwrite=overwrite)
        return Path(path)

    def __repr__(self) -> str:
        """What was made, in one line; the values of a result fill pages."""
        size = "x".join(map(str, self.result.shape)) if isinstance(self.result, Grid) else "frames"
        place = "" if self.path is None else f", path={str(self.path)!r}"
        return f"StyleResult({size}, steps={self.steps}, seconds={self.seconds:.1f}{place})"

    def _repr_png_(self) -> bytes | None:
        """Return a PNG that a notebook shows; None for a video."""
        from convnd_tasks.modalities.figures import draw_grid

        return draw_grid(self.result) if isinstance(self.result, Grid) else None
