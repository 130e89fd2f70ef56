"""The style transfer of one volume, frame by frame.

The work is done on the volume's own grid, with axes towards head, front and right. The values
between the ends of a window become ``[0, 1]``. The result is the volume plus a change in its own
units: outside the window, where there is no value, and outside a mask, it is the volume to the bit.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnd import io
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
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.log import log_run_settings
from convnd.transfer.style_transfer import Progress
from convnd_tasks.modalities.arrays.codec import same_units, value_range
from convnd_tasks.modalities.base import Transfer, TransferInputs
from convnd_tasks.modalities.volumes.inputs import check_scan, check_style, mask_weights
from convnd_tasks.modalities.volumes.memory import choose_optimizer, slab_slices
from convnd_tasks.modalities.volumes.noise import FLAT, TISSUES
from convnd_tasks.modalities.volumes.objective import SliceObjective
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.slabs import View, square_pixel_views
from convnd_tasks.modalities.volumes.state import BestIterate, VolumeRunState
from convnd_tasks.modalities.volumes.style import SlicedStyle
from convnd_tasks.modalities.volumes.view_loss import VolumeLossConfig

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.backbones import Backbone
    from convnd.grid import Grid
    from convnd.losses import Objective
    from convnd.optimize import Step
    from convnd.optimize.distributed.sharded_field import Box

__all__ = ["PRESETS", "Preset", "VolumeTransfer"]

_LOG = logging.getLogger(__name__)


class Preset(NamedTuple):
    """What options that depend on the transfer are when they are left out."""

    style_layers: tuple[str, ...]
    content_layers: tuple[str, ...]
    style_weight: float
    steps: int


PRESETS = {
    # Chosen by the known-answer experiment: `benchmarks/performance/known_answer_volumes.py`.
    "noise": Preset(("relu1_1", "relu2_1", "relu3_1"), (), 3000.0, 15),
    "paint": Preset(("relu1_1", "relu2_1", "relu3_1", "relu4_1"), ("relu4_2",), 30.0, 40),
}
"""By transfer. Noise starts near its end and needs fewer steps."""

_HOUNSFIELD = (-1200.0, 800.0)  # noise of air to bone; percentiles would cut that of the lungs


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
        if options.style_weights and len(options.style_weights) != len(inputs.styles):
            raise UsageError(
                f"style_weights: expected one weight for each of {len(inputs.styles)} styles, got "
                f"{len(options.style_weights)}; give as many"
            )
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
        self.options = _with_preset(options, self.transfer)
        self._axes = Orientation(inputs.content)
        self._set_window(styles)
        self._views(self._axes.shape)  # or the error, before the work
        self._group = ProcessGroup()
        self._state = VolumeRunState()
        self._best: BestIterate | None = None

    def _set_window(self, styles: Sequence[Grid]) -> None:
        """Choose the window, the range of each style, and the tissues."""
        scan, window = self._scan.values, parse_window(self.options.window)
        self._low, self._high = value_range(scan) if window is None else window
        if window is not None and not bool(((scan >= self._low) & (scan <= self._high)).any()):
            raise InputFileError(
                f"scan: expected values in the window {self._low:g} … {self._high:g}, got none; "
                "use --window auto"
            )
        shared = [self._shares_units(style) for style in styles]
        is_noise = self.transfer == "noise"
        # Tissues have known values in HU only, where air is 1000 below water.
        hounsfield = is_noise and all(shared) and self._low <= TISSUES["soft"][0]
        if hounsfield and window is None:
            self._low, self._high = _HOUNSFIELD
        self._styles = [
            SlicedStyle(
                style,
                *((self._low, self._high) if same and is_noise else value_range(style.values)),
                scale=self.options.style_scale,
            )
            for style, same in zip(styles, shared, strict=True)
        ]
        self._tissues = tuple(
            (self._normalize(low), self._normalize(high))
            for low, high in (TISSUES.values() if hounsfield else ())
        )
        own_range = "; the style's units are others, so its own range is taken for the window"
        self.messages = (
            f"window {self._low:g} to {self._high:g}"
            + (" (auto)" if window is None else "")
            + "; what lies outside stays as it is",
            f"transfer: {self.transfer}" + (own_range if is_noise and not all(shared) else ""),
        )

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
        self._state = VolumeRunState() if state is None else VolumeRunState(**state)
        self._best = None
        del state
        message = self._load_network()
        if on_message is not None:
            on_message(message)
        for frame in range(len(self._state.changes), self._scan.values.shape[1]):
            yield from self._run_frame(frame, on_message)

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
                frames[frame] = self._apply_change(frames[frame], change)
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
        from convnd.backbones import choose_device, choose_precision, load
        from convnd.backbones.user_models import is_user_model, load_user_model

        options = self.options
        make_deterministic(options.deterministic)
        self._device = choose_device(options.device)
        precision = options.precision
        net: Backbone
        if is_user_model(options.backbone):
            net = load_user_model(options.backbone, options.layers, spatial_dims=2, in_channels=1)
            # Some layers of other people's networks do not work in bfloat16.
            precision = "float32" if precision == "auto" else precision
        else:
            net = load(
                options.backbone,
                spatial_dims=2,
                in_channels=1,
                layers=options.layers,
                pooling=options.pooling,
            )
        self._net = net.to(self._device)
        self._precision = choose_precision(self._device, precision)
        self._precision.apply(self._net)
        shape = self._axes.shape
        self._optimizer, reason = choose_optimizer(
            options,
            self._net,
            options.layers,
            shape,
            self._axes.spacing,
            self._device,
            self._group,
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
        contents = (
            self._content(best.frame, coarse.size),
            self._content(best.frame, shards.size),
        )
        return shards.local_part(refine(coarse.gather(best.values()), shards.size, contents))

    def _change(self, best: BestIterate) -> Tensor:
        """Change of a frame in the scan's units, this process's part of the scan's own size."""
        from convnd.nn import resize_nd

        values, field = best.values(), ShardedField(self._axes.shape, self._group)
        if best.shards.size != field.size:
            whole = resize_nd(best.shards.gather(values), field.size, mode="cubic")
            values = field.local_part(whole)
        content = self._content(best.frame, field.size, field.boxes[self._group.rank])
        return (values - content).mul_(self._high - self._low).cpu()

    def _apply_change(self, scan: Tensor, change: Tensor) -> Tensor:
        """A frame ``(1, 1, *S)`` of the scan with its change, inside window and mask."""
        import torch

        change = self._axes.from_canonical(change)
        inside = torch.isfinite(scan) & (scan >= self._low) & (scan <= self._high)
        change = torch.where(inside, change * self._mask * self.options.strength, 0.0)
        # Where nothing is added, nothing is rounded either.
        return torch.where(change == 0, scan, scan + change)

    def _content(self, frame: int, size: Sequence[int], box: Box | None = None) -> Tensor:
        """A frame as the network sees it, ``(1, 1, *size)`` in ``[0, 1]``, or a box of it."""
        from convnd.nn import resize_nd

        if tuple(size) != self._axes.shape:
            whole = resize_nd(self._content(frame, self._axes.shape), size, mode="linear")
            if box is None:
                return whole
            rows, columns, depths = (slice(start, stop) for start, stop in box)
            return whole[:, :, rows, columns, depths].contiguous()
        values = self._axes.to_canonical(self._scan.values[:, frame : frame + 1], box).contiguous()
        values = values.nan_to_num_(nan=self._low, posinf=self._high, neginf=self._low)
        values = values.sub_(self._low).div_(self._high - self._low).clamp_(0, 1)
        return values.to(self._device)

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
            tissues=self._tissues,
            slope_limits=tuple(limit / (self._high - self._low) for limit in FLAT),
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
            styles=(
                [style.extract(view, self._device) for style in self._styles] for view in views
            ),
            weights=self._style_weights,
            precision=self._precision,
            shards=shards,
            slices=slab_slices(options.tile, shards.size),
        )

    def _shares_units(self, style: Grid) -> bool:
        """Whether a style is a volume whose values are in the scan's units."""
        if style.ndim == 2:
            return False
        return same_units(value_range(style.values), (self._low, self._high))

    def _normalize(self, value: float) -> float:
        """A value in the scan's units as the network sees it."""
        return (value - self._low) / (self._high - self._low)


def _with_preset(options: VolumeOptions, transfer: str) -> VolumeOptions:
    """The options with values for those that depend on the transfer."""
    preset = PRESETS[transfer]
    if transfer == "noise" and options.content_layers:
        raise UsageError(
            "--content-layers: expected --transfer paint, got noise, which keeps the blurred "
            "values; leave it out"
        )
    weight, steps = options.style_weight, options.steps
    return dataclasses.replace(
        options,
        content_layers=options.content_layers or preset.content_layers,
        style_layers=options.style_layers or preset.style_layers,
        style_weight=preset.style_weight if weight is None else weight,
        steps=preset.steps if steps is None else steps,
    )
