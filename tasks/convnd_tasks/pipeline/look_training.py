"""The training of a network for the look of scans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from convnd.errors import ConvndError, InputFileError, UsageError
from convnd.feedforward.look_net import LookNet, LookShape
from convnd.options import flag_name
from convnd.transfer.training import minimize_crop_losses
from convnd_tasks.modalities.volumes.inputs import built_in_scan
from convnd_tasks.modalities.volumes.look_teacher import (
    LookExample,
    LookLoss,
    LookTeacher,
    middle_box,
)
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.smoothing import sigmas
from convnd_tasks.modalities.volumes.trained_look import RECORD, TrainedLook
from convnd_tasks.modalities.volumes.units import scan_unit
from convnd_tasks.pipeline.training import TrainingJob
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.wording import count_text

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.feedforward.transform_net import TransformNet
    from convnd.grid import Grid
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.volumes.look import Look
    from convnd_tasks.pipeline.training import Train
    from convnd_tasks.runtime.checkpoints import RunLog

__all__ = ["LookTrainingJob"]

_MOST_SCANS = 8
"""Scans that are learnt from."""

_PHANTOMS = 4
"""Built-in scans that are learnt from if there are no others."""

_PATTERN_OPTIONS = (
    *("style_weight", "content_weight", "style_scale", "tv_weight", "motion_weight"),
    *("size", "levels", "blocks", "backbone"),
)
"""Options of networks for patterns."""


class LookTrainingJob(TrainingJob):
    """Trains a network for the look of one scan.

    The transfer of the look changes the middle of every scan of the data once, and the network
    learns these changes. If the style is another image of some scans, only these are used: there
    alone sharpness and coarse noise can be compared, and the network brings them to other anatomy.

    Args:
        modality: volumes.
        styles: the style, a volume.
        names: path or sample name of the style.
        contents: paths of scans, or grids; empty takes phantoms with the style's voxels.
        options: options of the training.

    Raises:
        UsageError: there are several styles, or an option is one of networks for patterns.
    """

    previews: ClassVar[Sequence[str]] = ("losses.svg",)

    def __init__(
        self,
        modality: Modality,
        styles: Sequence[Grid],
        names: Sequence[str],
        contents: Sequence[str | Grid],
        options: TrainingOptions,
    ) -> None:
        if len(styles) != 1:
            raise UsageError(
                "train",
                expected="one scan, whose look a network learns",
                got=len(styles),
                remedy="train one network for each",
            )
        for name in _PATTERN_OPTIONS:
            if getattr(options, name) != getattr(TrainingOptions, name):
                raise UsageError(
                    flag_name(name),
                    expected="no option of patterns for the look of a scan",
                    got="one",
                    remedy="leave it out, or add --transfer paint",
                )
        super().__init__(modality, styles, names, contents, options)
        self._look: TrainedLook | None = None

    def _defaults(self) -> Mapping[str, int]:
        return {"steps": 250, "crop": 40, "batch": 1}

    def _prepare(self) -> tuple[TransformNet | LookNet, Sequence[Tensor], Train]:
        style = middle_box(self.styles[0])
        scale = float(style.values.std())
        teachers, examples = self._learn(style, scale)
        sides = [[example.spacing[axis] for example in examples] for axis in range(3)]
        finest = max(min(example.spacing) for example in examples)
        # Filters do not mix slices of coarse axes, as in the transfer that is learnt.
        coarse = [not any(sigmas(axis, 1.0, finest)) for axis in sides]
        thick = sum(1 << axis for axis, is_coarse in enumerate(coarse) if is_coarse)
        network = LookNet(LookShape(spatial_dims=3, width=self.options.width or 8, thick=thick))
        network.initialize(self.options.seed)
        loss = LookLoss(network, examples, self.plan.crop)
        if not loss.energies:
            raise InputFileError(
                "train",
                expected="a style whose look differs from that of the scans",
                got="scans that it changes nothing in",
                remedy="see why with convnd stylize-volume SCAN STYLE",
            )
        names = {"added": "noise", "removed": "less noise"}
        parts = " and ".join(names.get(name, name) for name in loss.energies)
        self.pool.on_message(f"look: {parts}, learnt from {count_text(len(examples), 'scans')}")
        tissues = {tissue for example in examples for tissue in example.style}
        known = {t: [e.style[t] for e in examples if t in e.style] for t in sorted(tissues)}
        self._look = TrainedLook(
            unit=teachers[0].unit,
            scale=scale,
            spacing=tuple((min(axis), max(axis)) for axis in sides),
            noise={tissue: sum(values) / len(values) for tissue, values in known.items()},
            sharpness="sharpness" in loss.energies,
        )

        def train(state: Mapping[str, Any] | None) -> Iterator[Progress]:
            return minimize_crop_losses(network, loss.backward, self.plan, resume=state)

        return network, [style.values], train

    def _learn(self, style: Grid, scale: float) -> tuple[list[LookTeacher], list[LookExample]]:
        """Change the scans of the data.

        Args:
            style: the style.
            scale: see `TrainedLook`.

        Raises:
            InputFileError: no scan can be changed.
        """
        looks: dict[float, list[Look]] = {}
        teachers, examples = [], []
        contents = self.contents or self._phantoms()
        for number, content in enumerate(contents[:_MOST_SCANS]):
            try:
                grid = (
                    self.modality.open(content, "content") if isinstance(content, str) else content
                )
                options = VolumeOptions(seed=self.options.seed + number)
                teacher = LookTeacher(middle_box(grid), style, options)
                examples.append(teacher.example(scale, looks))
                teachers.append(teacher)
            except ConvndError as error:
                if len(contents) == 1:
                    raise
                self.pool.on_message(f"left out: {error}")
        if len(contents) > _MOST_SCANS:
            self.pool.on_message(f"look: the first {_MOST_SCANS} of {len(contents)} scans are used")
        if not examples:
            raise InputFileError(
                "train",
                expected="a scan that can be read and takes the style's look",
                got=f"none of {len(contents)}",
                remedy="give other --data",
            )
        paired = [example for example in examples if example.paired]
        if 0 < len(paired) < len(examples):
            count = count_text(len(examples) - len(paired), "scans")
            self.pool.on_message(f"look: {count} not used, since the style is no image of them")
        return teachers, paired or examples

    def _phantoms(self) -> Sequence[Grid]:
        """Built-in scans of the style's modality, with its voxels."""
        style = self.styles[0]
        name = "soft" if scan_unit(style, "auto") else "mr"  # quiet ones, which take noise
        return [built_in_scan(name, seed + 1, style) for seed in range(_PHANTOMS)]

    def _pictures(self, network: TransformNet | LookNet, progress: Progress) -> Mapping[str, bytes]:
        """Draw nothing: noise of a few units is not to be seen in a small picture."""
        del network, progress
        return {}

    def _record(self, log: RunLog) -> dict[str, str]:
        assert self._look is not None
        return {**super()._record(log), RECORD: self._look.text()}
