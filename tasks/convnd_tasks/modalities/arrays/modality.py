"""Arrays as a kind of data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convnd_tasks.modalities.arrays import codec
from convnd_tasks.modalities.grid_transfer import GridModality
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs

if TYPE_CHECKING:
    from typing import ClassVar

    from convnd_tasks.modalities.metrics import Measure

__all__ = ["Arrays"]


class Arrays(GridModality):
    """Arrays of any number of axes, whose channels are independent fields."""

    name: ClassVar[str] = "arrays"
    figure_caption: ClassVar[str] = (
        "Content, styles and result: the middle slice along all but the last two axes."
    )

    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """Encode the inputs, see `GridModality.encode`."""
        return codec.prepare(inputs, self.options)

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """Measure a result, see `Modality.metrics`."""
        from convnd_tasks.modalities.arrays.metrics import measure_all

        return measure_all(inputs.compared_content(), result, inputs.styles)
