"""Pictures as a kind of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd_tasks.modalities.base import Figure, JobResult, PreparedInputs, TransferInputs
from convnd_tasks.modalities.figures import draw_comparison
from convnd_tasks.modalities.grid_transfer import GridModality
from convnd_tasks.modalities.images import codec
from convnd_tasks.modalities.images.options import ImageOptions

if TYPE_CHECKING:
    from typing import ClassVar

    from convnd_tasks.modalities.metrics import Measure

__all__ = ["Pictures"]


class Pictures(GridModality):
    """Colour pictures."""

    name: ClassVar[str] = "pictures"
    draws_demo_figures: ClassVar[bool] = False  # the result is a picture itself
    options: ImageOptions

    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """See `GridModality.encode`."""
        return codec.prepare(inputs, self.options)

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """See `Modality.metrics`."""
        from convnd_tasks.modalities.images.metrics import measure_all
        from convnd_tasks.modalities.metrics import compared_content

        return measure_all(compared_content(inputs), result, inputs.styles)

    def figure_names(self) -> list[str]:
        """See `Modality.figure_names`."""
        return ["comparison"]

    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """Content, styles and result side by side."""
        picture = draw_comparison(inputs.content, inputs.styles, outcome.result)
        return [Figure("comparison", "Content, styles and result.", picture)]
