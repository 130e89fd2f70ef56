"""The work on a volume: network, targets and window made ready, then one frame after the other."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from convnd.errors import InputFileError, UsageError
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.log import log_run_settings
from convnd_tasks.modalities.arrays.codec import same_units, value_range
from convnd_tasks.modalities.volumes.options import VolumeOptions, parse_window
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.style import SlicedStyle

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.backbones import VGG
    from convnd.grid import Grid
    from convnd.optimize import ShardedField, Step
    from convnd.optimize.distributed.sharded_field import Box
    from convnd.transfer.style_transfer import Progress
    from convnd_tasks.modalities.volumes.objective import SliceObjective
    from convnd_tasks.modalities.volumes.walk import At, Course
    from convnd_tasks.pipeline.checkpoints import Keeping

__all__ = ["Worker"]

_LOG = logging.getLogger(__name__)

# Texture was chosen by the known-answer experiment:
# `benchmarks/performance/known_answer_volumes.py`.
_TEXTURE = (("relu1_1", "relu2_1", "relu3_1"), None, 3000.0, 15)
_PAINT = (("relu1_1", "relu2_1", "relu3_1", "relu4_1"), "relu4_2", 30.0, 40)
_HOUNSFIELD = (-1200.0, 800.0)  # noise of air to bone; percentiles would cut that of the lungs


class Worker:
    """Network, targets and window, made ready once for all frames.

    Args:
        scan: values ``(1, T, *S)``.
        styles: volumes or pictures.
        options: see `VolumeOptions`.
    """

    def __init__(self, scan: Grid, styles: Sequence[Grid], options: VolumeOptions) -> None:
        from convnd.backbones import BACKBONES, choose_device, choose_precision, load
        from convnd.optimize import ProcessGroup
        from convnd.stats import STATISTICS
        from convnd_tasks.modalities.volumes.memory import choose_optimizer

        if not getattr(STATISTICS[options.style_loss], "additive", False):
            raise UsageError(
                "--style-loss: expected one that adds up over slices, such as gram, moments or "
                f"covariance, got {options.style_loss}; choose one of these"
            )
        make_deterministic(options.deterministic)
        self.options = options
        self.group = ProcessGroup.current()
        self.scan = scan
        self.axes = Orientation(scan)
        window = parse_window(options.window)
        self.low, self.high = value_range(scan.values) if window is None else window
        if window is not None and not bool(
            ((scan.values >= self.low) & (scan.values <= self.high)).any()
        ):
            raise InputFileError(
                f"scan: expected values in the window {self.low:g} … {self.high:g}, got none; "
                "use --window auto"
            )
        look = options.transfer
        if look == "auto":
            look = "paint" if any(style.ndim == 2 for style in styles) else "noise"
        layers, content_layer, style_weight, steps = _TEXTURE if look == "noise" else _PAINT
        self.look_name = look
        self.layers = options.style_layers or layers
        self.content_layer = content_layer
        self.steps = steps if options.steps is None else options.steps
        self.style_weight = style_weight if options.style_weight is None else options.style_weight
        wanted = (*self.layers, *([content_layer] if content_layer else []))
        BACKBONES[options.backbone].plan.truncate(wanted)
        self.device = choose_device(options.device)
        self.precision = choose_precision(self.device, options.precision)
        self.net: VGG = load(options.backbone, spatial_dims=2, in_channels=1, layers=wanted).to(
            self.device
        )
        self.precision.apply(self.net)
        self.optimizer, why = choose_optimizer(
            options.optimizer, self.net, wanted, self.axes.shape, self.axes.spacing, self.device
        )
        log_run_settings(_LOG, options.backbone, self.device, self.precision)
        own = [not self._comparable(style) for style in styles]
        from convnd_tasks.modalities.volumes.noise import TISSUES

        # Only where values are HU; 1000 below water is air.
        hounsfield = look == "noise" and not any(own) and self.low <= TISSUES["soft"][0]
        if hounsfield and window is None:
            self.low, self.high = _HOUNSFIELD
        self.styles = [
            SlicedStyle(
                style,
                *(value_range(style.values) if apart or look == "paint" else (self.low, self.high)),
                scale=options.style_scale,
            )
            for style, apart in zip(styles, own, strict=True)
        ]
        self.tissues = tuple(
            (self._inner(TISSUES[name][0]), self._inner(TISSUES[name][1]))
            for name in (TISSUES if hounsfield else ())
        )
        self.remarks = [
            f"window {self.low:g} to {self.high:g}"
            + (" (auto)" if window is None else "")
            + "; what lies outside stays as it is",
            f"transfer: {look}"
            + (
                ""
                if not any(own) or look == "paint"
                else "; the style's units are others, so its own range is taken for the window"
            ),
            f"optimizer: {self.optimizer} ({why}: {math.prod(self.axes.shape):,} voxels)",
        ]

    def run(
        self, course: Course, keeping: Keeping, watch: Callable[[Progress], None] | None
    ) -> BaseException | None:
        """The frame that a course has come to, whose change joins those that are done.

        Args:
            course: goes on, in place.
            keeping: keeps it, and stops the work.
            watch: is told of every step.

        Returns:
            What ended the frame before its last step, or None.
        """
        from convnd.nn import resize_nd
        from convnd.optimize import ShardedField, pyramid_sizes, refine, spread_steps
        from convnd.transfer.style_transfer import Progress
        from convnd_tasks.modalities.volumes.walk import walk

        shape = self.axes.shape
        sizes = pyramid_sizes(shape, min(self.options.scales, max(1, self.steps)))
        counts = spread_steps(self.steps, len(sizes))
        frame, frames = len(course.done), self.scan.values.shape[1]
        full = ShardedField(shape, self.group)
        best: Tensor | None = None
        stopped: BaseException | None = None
        reached = 0
        for scale in range(course.scale, len(sizes)):
            size, shards = sizes[scale], ShardedField(sizes[scale], self.group)

            def told(step: Step, at: At, scale: int = scale, shards: ShardedField = shards) -> None:
                nonlocal reached
                reached = sum(counts[:scale]) + step.index
                course.losses.append(step.loss)
                course.notes += [step.note] if step.note else []
                progress = Progress(
                    step=frame * sum(counts) + reached,
                    steps=frames * sum(counts),
                    scale=scale + 1,
                    scales=len(sizes),
                    fraction_done=(frame + reached / max(1, sum(counts))) / frames,
                    loss=step.loss,
                    parts=step.parts,
                    values=at(step.values),
                    rejected_steps=course.rejected_steps + step.rejected_steps,
                    state=partial(course.state, step),
                    shards=shards,
                    extra_shards=[full],
                )
                if watch is not None:
                    watch(progress)
                keeping.after(progress)

            content = self._content(frame, size, shards.boxes[self.group.rank])
            objective = self._objective(content, shards)
            resumed = course.resumed()
            if resumed is not None:
                objective.leave_only(course.terms)
            elif best is None:
                course.start = objective.beginning(self.options.seed)
            else:
                before = ShardedField(sizes[scale - 1], self.group)
                contents = self._content(frame, before.size), self._content(frame, size)
                course.start = shards.local_part(refine(before.gather(best), size, contents))
                del contents
            assert course.start is not None
            course.scale, course.terms = scale, objective.terms()
            best, rejected_steps, stopped = walk(
                objective,
                course.start,
                steps=counts[scale],
                optimizer=self.optimizer,
                told=told,
                resume=resumed,
            )
            course.rejected_steps += rejected_steps
            if stopped is not None and not course.losses:
                raise stopped
            if stopped is not None:
                break
        assert best is not None
        if size != shape:
            best = full.local_part(resize_nd(shards.gather(best), shape, mode="cubic"))
            content = self._content(frame, shape, full.boxes[self.group.rank])
        course.done.append((best - content).mul_(self.high - self.low).cpu())
        course.scale, course.start = 0, None
        course.steps += reached
        return stopped

    def changed(self, before: Tensor, change: Tensor, weight: Tensor | float) -> Tensor:
        """A frame of the scan after its change.

        Args:
            before: ``(1, 1, *S)``.
            change: as a course has it, whole.
            weight: of a mask.
        """
        import torch

        change = self.axes.turned_back(change)
        inside = torch.isfinite(before) & (before >= self.low) & (before <= self.high)
        change = torch.where(inside, change * weight * self.options.strength, 0.0)
        # Where nothing is added, nothing is rounded either.
        return torch.where(change == 0, before, before + change)

    def _content(self, frame: int, size: Sequence[int], box: Box | None = None) -> Tensor:
        """A frame ``(1, 1, *size)`` of the scan as the work sees it, head first; or a box of it."""
        from convnd.nn import resize_nd

        if tuple(size) != self.axes.shape:
            whole = resize_nd(self._content(frame, self.axes.shape), size, mode="linear")
            if box is None:
                return whole
            rows, columns, depths = (slice(start, stop) for start, stop in box)
            return whole[:, :, rows, columns, depths].contiguous()
        values = self.axes.turned(self.scan.values[:, frame : frame + 1], box).contiguous()
        values = values.nan_to_num_(nan=self.low, posinf=self.high, neginf=self.low)
        return values.sub_(self.low).div_(self.high - self.low).clamp_(0, 1).to(self.device)

    def _objective(self, content: Tensor, shards: ShardedField) -> SliceObjective:
        from convnd_tasks.modalities.volumes.grain import square_pixels
        from convnd_tasks.modalities.volumes.noise import FLAT
        from convnd_tasks.modalities.volumes.objective import SliceObjective
        from convnd_tasks.modalities.volumes.sight import Look

        whole = self.axes.shape
        spacing = [
            step * full / part
            for step, full, part in zip(self.axes.spacing, whole, shards.size, strict=True)
        ]
        views = square_pixels(shards.size, spacing)
        if self.look_name == "noise":
            # Coarser pixels show no grain, but anatomy in its place.
            grainy = [view for view in views if view.pixel <= self.options.detail_sigma_mm]
            views = grainy or [view for view in views if view.pixel == views[0].pixel]
        if not views:
            raise InputFileError(
                "scan: expected slices of at least 16 x 16 square pixels along some axis, got "
                f"{' x '.join(map(str, whole))} at {' x '.join(f'{s:g}' for s in spacing)} mm; "
                "use a larger volume"
            )
        look = Look(
            style_layers=self.layers,
            content_layer=self.content_layer,
            style_weight=self.style_weight,
            content_weight=self.options.content_weight,
            fine=self.options.detail_sigma_mm,
            tissues=self.tissues,
            flat=tuple(each / (self.high - self.low) for each in FLAT),
            statistic=self.options.style_loss,
            facts=self.options.value_statistics if self.look_name == "noise" else (),
        )
        return SliceObjective(
            self.net,
            look,
            content,
            views=views,
            styles=([each.slices(view, self.device) for each in self.styles] for view in views),
            weights=[1.0] * len(self.styles),
            precision=self.precision,
            shards=shards,
        )

    def _comparable(self, style: Grid) -> bool:
        if style.ndim == 2:
            return False
        return same_units(value_range(style.values), (self.low, self.high))

    def _inner(self, value: float) -> float:
        """A value of the scan as the work sees it."""
        return (value - self.low) / (self.high - self.low)
