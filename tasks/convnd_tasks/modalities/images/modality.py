"""Pictures as a kind of data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from convnd_tasks.modalities.base import PreparedInputs, TransferInputs
from convnd_tasks.modalities.grid_transfer import GridModality
from convnd_tasks.modalities.images import codec
from convnd_tasks.modalities.images.options import ImageOptions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar

    from convnd.grid import Grid
    from convnd_tasks.modalities.metrics import Measure

__all__ = ["Pictures"]

_ORIGIN = {"exif", "text"}  # entries of the header of a picture


class Pictures(GridModality):
    """Colour pictures."""

    name: ClassVar[str] = "pictures"
    unsupported: ClassVar[Mapping[str, str]] = {
        "inflation": "the networks are networks for pictures"
    }
    draws_demo_figures: ClassVar[bool] = False  # the result is a picture itself
    options: ImageOptions

    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """See `GridModality.encode`."""
        if self.settings.strip:
            content = None if inputs.content is None else _stripped(inputs.content)
            styles = [_stripped(style) for style in inputs.styles]
            inputs = dataclasses.replace(inputs, content=content, styles=styles)
        return codec.prepare(inputs, self.options)

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """See `Modality.metrics`."""
        from convnd_tasks.modalities.images.metrics import measure_all
        from convnd_tasks.modalities.metrics import compared_content

        return measure_all(compared_content(inputs), result, inputs.styles)


def _stripped(grid: Grid) -> Grid:
    """The grid without what its file says of its origin."""
    header = {key: value for key, value in grid.header.items() if key not in _ORIGIN}
    return dataclasses.replace(grid, header=header)
