"""Pictures as a kind of data."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from convnd.errors import UsageError
from convnd_tasks.modalities.grid_transfer import GridModality
from convnd_tasks.modalities.images import codec
from convnd_tasks.modalities.images.color_labels import color_labels
from convnd_tasks.modalities.images.hidden import fill_hidden_pixels, mask_by_opacity
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import ClassVar

    from torch import Tensor

    from convnd.grid import Grid
    from convnd_tasks.modalities.base import Transfer
    from convnd_tasks.modalities.metrics import Measure

__all__ = ["Pictures"]

_METADATA_KEYS = {"exif", "text"}  # entries of a picture's header that --strip removes


class Pictures(GridModality):
    """Colour pictures."""

    name: ClassVar[str] = "pictures"
    unsupported: ClassVar[Mapping[str, str]] = {
        "inflation": "the networks were trained for pictures"
    }
    has_instant_network: ClassVar[bool] = True
    changeable: ClassVar[Sequence[str]] = (*GridModality.changeable, "colors")
    draws_demo_figures: ClassVar[bool] = False  # the result is a picture itself
    options: ImageOptions

    def check(self) -> None:
        """Check the options, see `Modality.check`; a pass of a network reads whole styles."""
        super().check()
        if self.settings.style_regions and self.options.init == "instant":
            raise UsageError(
                "--style-regions",
                expected="an optimisation, which reads parts of styles",
                got="--instant",
                remedy="leave one of the two out",
            )

    def read(self, name: str, role: str, content: Grid | None = None) -> Any:
        """Read one input, see `Modality.read`; a mask is 0 where its picture is transparent."""
        grid = super().read(name, role, content)
        return mask_by_opacity(grid) if role == "mask" else grid

    def label_map(self, grid: Grid, labels: Sequence[str], name: str) -> Mapping[str, Tensor]:
        """Split a painted map into its colours, see `Modality.label_map`."""
        return color_labels(grid, labels, name)

    def prepare(self, inputs: TransferInputs) -> Transfer:
        """Encode the inputs, see `Modality.prepare`; faces are looked for first."""
        if self.options.keep != "faces":
            return super().prepare(inputs)
        from convnd_tasks.modalities.images.faces import keep_faces

        inputs, message = keep_faces(inputs)
        transfer = super().prepare(inputs)
        transfer.messages = [message, *transfer.messages]
        return transfer

    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """Encode the inputs, see `GridModality.encode`."""
        return codec.prepare(self._clean(inputs), self.options)

    def _clean(self, inputs: TransferInputs) -> TransferInputs:
        """Replace colours of hidden pixels, and with ``--strip`` remove metadata."""

        def clean(grid: Grid, label: str) -> Grid:
            grid = fill_hidden_pixels(grid, label)
            if not self.settings.strip:
                return grid
            header = {key: value for key, value in grid.header.items() if key not in _METADATA_KEYS}
            return dataclasses.replace(grid, header=header)

        roles: dict[str, list[Grid]] = {"content": [], "style": [], "init": [], "mask": []}
        for role, grid, label in inputs.labelled():
            roles[role].append(grid if role == "mask" else clean(grid, label))
        return dataclasses.replace(
            inputs,
            content=next(iter(roles["content"]), None),
            styles=roles["style"],
            init=next(iter(roles["init"]), None),
        )

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """Measure a result, see `Modality.metrics`."""
        from convnd_tasks.modalities.images.metrics import measure_all

        return measure_all(inputs.compared_content(), result, inputs.styles)
