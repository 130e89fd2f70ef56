"""The style transfer of one volume, frame by frame.

The work is done on the volume's own grid, see `convnd_tasks.modalities.volumes.encoding`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.backbones import choose_device
from convnd.errors import InputFileError, NumericalError, UsageError
from convnd.optimize import (
    Evaluation,
    ProcessGroup,
    ShardedField,
    minimize,
    pyramid_sizes,
    refine,
    spread_steps,
)
from convnd.optimize.state import check_state, state_errors
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.log import log_run_settings
from convnd.transfer.network import load_network
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.base import Transfer, TransferInputs
from convnd_tasks.modalities.volumes.encoding import VolumeEncoding
from convnd_tasks.modalities.volumes.features import VolumeLossConfig
from convnd_tasks.modalities.volumes.inputs import check_scan, check_style, mask_weights
from convnd_tasks.modalities.volumes.memory import choose_optimizer, slab_slices
from convnd_tasks.modalities.volumes.noise import FLAT
from convnd_tasks.modalities.volumes.objective import SliceObjective
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.presets import with_preset
from convnd_tasks.modalities.volumes.slabs import View, square_pixel_views
from convnd_tasks.modalities.volumes.state import BestIterate, VolumeRunState

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.losses import Objective
    from convnd.optimize import Step
    from convnd.optimize.distributed.sharded_field import Box

__all__ = ["VolumeTransfer"]

_LOG = logging.getLogger(__name__)


class VolumeTransfer(Transfer):
    """The style transfer of one volume.

    Args:
        inputs: the content has values ``(1, T, *S)`` and spacing in mm; styles are volumes or
            pictures; the mask has the content's shape.
        options: see `VolumeOptions`.
        integers: whether the result will be written in the scan's own integers.

    Attributes:
        transfer: "noise" or "paint".
        options: those given, with the values that depend on the transfer.

    Raises:
        InputFileError: an input cannot be used, or they do not fit each other.
        UsageError: an option does not fit the inputs.
    """

    def __init__(
        self, inputs: TransferInputs, options: VolumeOptions, *, integers: bool = False
    ) -> None:
        if inputs.content is None:
            raise UsageError("volumes: expected a scan as content, got none; give one")
        for role, grid, label in inputs.labelled():
            if role == "content":
                check_scan(grid, label)
            elif role == "style":
                check_style(grid, label)
        options.check_style_weights(len(inputs.styles))
        self._scan = inputs.content
        self._inputs = inputs
        self._integers = integers
        self._mask = mask_weights(inputs.content, inputs.mask)
        weights = options.style_weights or (1.0,) * len(inputs.styles)
        # A style without weight must not change how the noise texture is scaled.
        pairs = [pair for pair in zip(inputs.styles, weights, strict=True) if pair[1] > 0]
        styles, self._style_weights = [style for style, _ in pairs], [share for _, share in pairs]
        self.transfer = options.transfer
        if options.transfer == "auto":
            pictures = any(style.ndim == 2 for style in styles)
            self.transfer = "paint" if pictures else "noise"
        self.options = with_preset(options, self.transfer)
        self._encoding = VolumeEncoding(inputs.content, styles, self.options, self.transfer)
        self._axes = self._encoding.axes
        self.messages = self._encoding.messages
        self._views(self._axes.shape)  # or the error, before the work
        self._group = ProcessGroup()
        self._state = VolumeRunState()
        self._best: BestIterate | None = None

    def fingerprint(self) -> Sequence[object]:
        """See `Transfer.fingerprint`."""
        inputs = self._inputs
        grids = [self._scan, *inputs.styles, *([] if inputs.mask is None else [inputs.mask])]
        return [
            "volume",
            len(inputs.styles),
            [io.anatomical_axes(grid) for grid in grids if grid.ndim == 3],
            *(grid.spacing for grid in grids),
            *(grid.values for grid in grids),
        ]

    def check_writable(self, path: Path) -> None:
        """See `Transfer.check_writable`."""
        if self._integers:
            io.quantize(self._scan)
        io.dry_run_write(path, self._scan)

    def run(
        self,
        *,
        state: Mapping[str, Any] | None = None,
        group: ProcessGroup | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> Iterator[Progress]:
        """See `Transfer.run`; `Progress.values` is the change since the start, in step lengths.

        Raises:
            ResourceError: there is not enough memory.
            NumericalError: see `convnd.optimize.minimize`.
            UnknownNameError: no such layer of the backbone.
        """
        self._group = ProcessGroup() if group is None else group
        self._state = VolumeRunState() if state is None else self._stored_state(state)
        self._best = None
        del state
        message = self._load_network()
        if on_message is not None:
            on_message(message)
        for frame in range(len(self._state.changes), self._scan.values.shape[1]):
            yield from self._run_frame(frame, on_message)

    def _stored_state(self, state: Mapping[str, Any]) -> VolumeRunState:
        """The state of a checkpoint, which anybody may have written."""
        with state_errors():
            stored = VolumeRunState(**state)
            total = self.options.steps or 0
            sizes = pyramid_sizes(self._axes.shape, min(self.options.scales, max(1, total)))
            fields = [ShardedField(size, self._group) for size in sizes]
            stored.check(fields, self._scan.values.shape[1])
        return stored

    def result(self, progress: Progress) -> Grid | None:
        """The whole scan with the best changes so far, whatever the step is.

        Raises:
            NumericalError: a value is not finite.
        """
        import torch

        del progress
        changes = list(self._state.changes)
        if self._best is not None:
            changes.append(self._change(self._best))
        field = ShardedField(self._axes.shape, self._group)
        frames = list(torch.split(self._scan.values, 1, 1))
        for frame, part in enumerate(changes):
            change = field.gather_to_root(part)
            if change is not None:
                frames[frame] = self._encoding.apply_change(
                    frames[frame], change, self._mask, self.options.strength
                )
        if self._group.rank != 0:
            return None
        values = torch.cat(frames, 1)
        if not bool((torch.isfinite(values) | ~torch.isfinite(self._scan.values)).all()):
            raise NumericalError(
                "volume: expected finite values, got some that are not; use fewer steps or a "
                "smaller style weight"
            )
        return self._scan.with_values(values)

    def _load_network(self) -> str:
        """Load the network, choose the optimizer, and say why."""
        options = self.options
        make_deterministic(options.deterministic)
        self._device = choose_device(options.device)
        self._net, self._precision = load_network(options, spatial_dims=2, in_channels=1)
        shape = self._axes.shape
        self._optimizer, reason = choose_optimizer(
            options, self._net, options.layers, shape, self._axes.spacing, self._device, self._group
        )
        log_run_settings(_LOG, options.backbone, self._device, self._precision)
        return f"optimizer: {self._optimizer} ({reason}: {math.prod(shape):,} voxels)"

    def _run_frame(
        self, frame: int, on_message: Callable[[str], None] | None
    ) -> Iterator[Progress]:
        """Optimise one frame from coarse to fine, and add its change to the finished ones."""
        state, total = self._state, self.options.steps or 0
        sizes = pyramid_sizes(self._axes.shape, min(self.options.scales, max(1, total)))
        counts = spread_steps(total, len(sizes))
        for scale in range(state.scale, len(sizes)):
            shards = ShardedField(sizes[scale], self._group)
            content = self._content(frame, shards.size, shards.boxes[self._group.rank])
            objective = self._objective(content, shards)
            resume = state.pop_minimizer()
            if resume is not None:
                with state_errors():
                    objective.keep_terms(state.terms)
            elif self._best is None:
                state.start = objective.initial(self.options.seed)
            else:
                state.start = self._refined(self._best, shards)
            assert state.start is not None
            state.scale, state.terms = scale, objective.term_names()
            self._best = BestIterate(frame, state.start, objective.step_scale(), shards)
            for step in self._descend(objective, counts[scale], self._best, resume):
                resume = None
                if step.note and on_message is not None:
                    on_message(step.note)
                yield self._progress(frame, scale, counts, step, shards)
            state.rejected_steps += step.rejected_steps
            del step, objective, content  # all that was kept at this size
        assert self._best is not None
        state.changes.append(self._change(self._best))
        state.scale, state.start, self._best = 0, None, None

    def _progress(
        self, frame: int, scale: int, counts: Sequence[int], step: Step, shards: ShardedField
    ) -> Progress:
        frames, total = self._scan.values.shape[1], sum(counts)
        reached = sum(counts[:scale]) + step.index
        return Progress(
            step=frame * total + reached,
            steps=frames * total,
            scale=scale + 1,
            scales=len(counts),
            fraction_done=(frame + reached / max(1, total)) / frames,
            loss=step.loss,
            parts=step.parts,
            values=step.values,
            rejected_steps=self._state.rejected_steps + step.rejected_steps,
            state=partial(self._state.to_dict, step),
            shards=shards,
            extra_shards=[ShardedField(self._axes.shape, self._group)],
        )

    def _descend(
        self,
        objective: SliceObjective,
        steps: int,
        best: BestIterate,
        resume: Mapping[str, Any] | None,
    ) -> Iterator[Step]:
        """The steps at one size; ``best`` follows them."""
        import torch

        def evaluate(_: Objective, offset: Tensor) -> Evaluation:
            evaluation = objective.evaluate(best.values_at(offset))
            evaluation.gradient.mul_(best.step_scale)
            return evaluation

        if resume is not None:
            with state_errors():
                check_state(resume, best.start)
            stored = resume["best"]
            best.loss, best.offset = stored["loss"], stored["values"].to(best.start.device)
        for step in minimize(
            objective,  # type: ignore[arg-type]  # only `evaluate` reads it
            torch.zeros_like(best.start),
            steps=steps,
            optimizer=self._optimizer,
            learning_rate=self.options.learning_rate,
            evaluate=evaluate,
            all_reduce=self._group.all_reduce,
            resume=resume,
        ):
            resume = None
            best.update(step)
            yield step

    def _refined(self, best: BestIterate, shards: ShardedField) -> Tensor:
        """The best values at one size as the start at the next, this process's part."""
        coarse = best.shards
        contents = (self._content(best.frame, coarse.size), self._content(best.frame, shards.size))
        return shards.local_part(refine(coarse.gather(best.values()), shards.size, contents))

    def _change(self, best: BestIterate) -> Tensor:
        """Change of a frame in the scan's units, this process's part of the scan's own size."""
        from convnd.nn import resize_nd

        values, field = best.values(), ShardedField(self._axes.shape, self._group)
        if best.shards.size != field.size:
            whole = resize_nd(best.shards.gather(values), field.size, mode="cubic")
            values = field.local_part(whole)
        content = self._content(best.frame, field.size, field.boxes[self._group.rank])
        return (values - content).mul_(self._encoding.width).cpu()

    def _content(self, frame: int, size: Sequence[int], box: Box | None = None) -> Tensor:
        """A frame as the network sees it on its device, see `VolumeEncoding.content`."""
        return self._encoding.content(frame, size, box, self._device)

    def _views(self, size: Sequence[int]) -> list[View]:
        """The views of the scan at a size that show what is transferred."""
        whole = self._axes.shape
        spacing = [
            step * full / part
            for step, full, part in zip(self._axes.spacing, whole, size, strict=True)
        ]
        views = square_pixel_views(size, spacing)
        if not views:
            raise InputFileError(
                "scan: expected slices of at least 16 x 16 square pixels along some axis, got "
                f"{' x '.join(map(str, whole))} at {' x '.join(f'{s:g}' for s in spacing)} mm; "
                "use a larger volume"
            )
        if self.transfer == "paint":
            return views
        # Coarser pixels show anatomy in place of noise texture.
        fine = [view for view in views if view.pixel <= self.options.detail_sigma_mm]
        return fine or [view for view in views if view.pixel == views[0].pixel]

    def _objective(self, content: Tensor, shards: ShardedField) -> SliceObjective:
        options, views = self.options, self._views(shards.size)
        is_noise = self.transfer == "noise"
        config = VolumeLossConfig(
            style_layers=options.style_layers,
            content_layers=None if is_noise else options.content_layers,
            style_weight=options.style_weight or 0.0,
            content_weight=options.content_weight,
            detail_sigma_mm=options.detail_sigma_mm,
            tissues=self._encoding.tissues,
            slope_limits=tuple(limit / self._encoding.width for limit in FLAT),
            style_loss=options.style_loss,
            style_layer_weights=options.style_layer_weights,
            value_statistics=options.value_statistics if is_noise else (),
            value_statistics_weight=options.value_statistics_weight,
            normalization=options.normalization,
            tv_weight=options.tv_weight,
        )
        return SliceObjective(
            self._net,
            config,
            content,
            views=views,
            styles=self._encoding.extract_styles(views, self._device),
            weights=self._style_weights,
            precision=self._precision,
            shards=shards,
            slices=slab_slices(options.tile, shards.size),
        )
