"""The transfer of a look: a scan gets the noise and sharpness of other scans."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from convnd.errors import NumericalError
from convnd.grid import Grid
from convnd.optimize import ProcessGroup
from convnd.transfer.deterministic import make_deterministic
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.volumes.inputs import (
    PHANTOM,
    ScanTransfer,
    check_tissue,
    default_style,
    inside_window,
    mask_weights,
)
from convnd_tasks.modalities.volumes.look import Look
from convnd_tasks.modalities.volumes.look_change import LookChange, plan_change
from convnd_tasks.modalities.volumes.look_report import describe_frame
from convnd_tasks.modalities.volumes.memory import check_memory
from convnd_tasks.modalities.volumes.noise_power import NoisePower, measure_noise
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.modalities.volumes.orientation import Orientation
from convnd_tasks.modalities.volumes.paired import Pair, find_pair
from convnd_tasks.modalities.volumes.safety import limit_means, measure_safety
from convnd_tasks.modalities.volumes.safety_figure import SafetyFigure, describe_broken, is_judged
from convnd_tasks.modalities.volumes.scan import Scan
from convnd_tasks.modalities.volumes.tissues import TissueMap
from convnd_tasks.modalities.volumes.units import StyleUnits, check_voxel_sizes, scan_unit
from convnd_tasks.samples import MATCHING_STYLE

__all__ = ["LookTransfer"]

_LOG = logging.getLogger(__name__)

_TIME_SHARES = (0.0, 0.1, 0.3, 0.4)
"""Share of a frame's time that has passed before each of its four stages: sharpness is measured,
noise is measured, noise is drawn, result is checked. Measured with a scan of 96x96x64."""

_STRENGTHS = (1.0, 0.85, 0.7, 0.5, 0.35, 0.25)
"""Strengths that are tried in this order, until every safety figure is within its limits."""


class LookTransfer(ScanTransfer):
    """The transfer of the look of volumes to a volume.

    The power of each tissue's noise is measured in every scan. A style that is another image of the
    content, such as its reconstruction by another kernel, is compared voxel by voxel, and shows
    sharpness, too. The change is a filter along each axis, and noise with the missing power for
    each tissue. Nothing else of the style reaches the scan. Safety figures are measured afterwards,
    and the strength of the change is lowered until they are within their limits. With a mask, they
    are those of its voxels, since a change of a small part hardly changes the figures of a whole
    scan.

    Args:
        inputs: a content with values ``(1, T, *S)`` and spacing in mm; styles that are volumes.
        options: options of the transfer.

    Raises:
        UsageError: an option does not fit the inputs.
        InputFileError: scan or style has constant regions only; a style has another unit or other
            voxels; or a mask lies elsewhere.
    """

    def __init__(self, inputs: TransferInputs, options: VolumeOptions) -> None:
        assert inputs.content is not None
        self._inputs, self._options = inputs, options
        self.scan, self._axes = inputs.content, Orientation(inputs.content)
        self._moderate = MATCHING_STYLE in inputs.names
        self._mask = mask_weights(inputs.content, inputs.mask)
        self._masked = self._axes.canonical_frame(self._mask) > 0
        weights = options.style_weights or (1.0,) * len(inputs.styles)
        pairs = [pair for pair in zip(inputs.styles, weights, strict=True) if pair[1] > 0]
        styles, self._weights = [style for style, _ in pairs], [weight for _, weight in pairs]
        grids = [inputs.content, *inputs.styles]
        for grid, name in zip(grids, inputs.names, strict=False):  # a mask comes last
            check_tissue(grid, name)
        check_voxel_sizes(inputs.content, styles)
        self._units = StyleUnits(inputs.content, styles, options)
        spacings = [self._axes.spacing, *(style.spacing for style in self._units.styles)]
        self._resolution = max(map(min, spacings))
        self._inside = inside_window(inputs.content, options.window)
        self.messages = (*self._style_messages(), *self._units.messages)
        self.record: dict[str, str] = {}

    def fingerprint(self) -> Sequence[object]:
        """See `Transfer.fingerprint`."""
        inputs = self._inputs
        grids = [self.scan, *inputs.styles, *([] if inputs.mask is None else [inputs.mask])]
        return ["look", *(grid.spacing for grid in grids), *(grid.values for grid in grids)]

    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None,
        on_message: Callable[[str], None] | None,
    ) -> Iterator[Progress]:
        """See `Transfer.run`; a frame has four steps. In a group, every process does all the work.

        Raises:
            NumericalError: a safety figure is outside its limits at every strength.
        """
        del state  # a frame takes seconds, so checkpoints hold no state
        make_deterministic(self._options.deterministic)
        check_memory(self.scan, self._units.styles, self._options.memory, group)
        _LOG.info(
            "look: resolution %g mm",
            self._resolution,
            extra={"figures": {"transfer": "look", "resolution_mm": self._resolution}},
        )
        self._group, self._looks = group, self._open_styles()
        self._results: list[Tensor] = []
        self._strengths: list[float] = []
        self._change: LookChange | None = None
        message = (lambda _: None) if on_message is None else on_message
        for frame in range(self.scan.values.shape[1]):
            yield from self._run_frame(frame, message)
        weakest, strongest = min(self._strengths), max(self._strengths)
        if weakest < strongest:
            message(
                f"strength: {weakest:g} to {strongest:g} in different frames, so their noise "
                f"differs; --strength {weakest:g} gives all frames the same"
            )

    def _open_styles(self) -> list[Look]:
        """The look of each style; its noise is measured when it is needed."""
        return [
            Look(style, self._units.unit, self._resolution, bool(grid.header.get(PHANTOM)))
            for style, grid in zip(self._units.scans(), self._units.styles, strict=True)
        ]

    def _run_frame(self, frame: int, message: Callable[[str], None]) -> Iterator[Progress]:
        """Change one frame, and check that its anatomy is unchanged."""
        prefix, suffix = self.frame_labels(frame)

        def note(line: str) -> None:
            message(prefix + line)

        scan = Scan.from_grid(self.scan, frame)
        if not bool(scan.valid.any()):
            note("left as it is, since it is blank: nothing but constant regions")
            self._change = None
            self._results.append(scan.values)
            yield self._progress(0, scan.values)
            return
        yield self._progress(0, scan.values)
        yield from self._plan(scan, frame, note)
        change = self._change
        assert change is not None
        result, strength, figures = self._find_safe_result(change, frame)
        broken = describe_broken(figures)
        if not is_judged(figures) or (change.filters and broken):
            reason = f"with its change {broken}" if broken else "no figure of the anatomy is known"
            if change.filters:
                # The style's sharpness is not told from its noise then, so neither is changed.
                note(f"sharpness and noise: left as they are, since {reason}")
                change = change.unchanged()
            else:
                note(f"noise: none is removed, since {reason}")
                seed = self._options.seed + frame
                change = change.without_removal().with_noise(self._resolution, seed)
            result, strength, figures = self._find_safe_result(change, frame)
        after = self._noise_after(change, result)
        self._change = None
        self._results.append(result)
        self._strengths.append(strength * self._options.strength)
        lines, record = describe_frame(change, after, strength, figures, moderate=self._moderate)
        for line in lines:
            note(line)
        self.record |= {f"{name}{suffix}": text for name, text in record.items()}
        yield self._progress(0, result, change.spectrum_distance(after))
        broken = describe_broken(figures)
        if broken:
            got = f"{broken}, at a strength of {self._strengths[-1]:g}"
            remedy = "use another style, --mask or a smaller --strength"
            raise NumericalError("scan", expected="an unchanged anatomy", got=got, remedy=remedy)

    def _plan(self, scan: Scan, frame: int, note: Callable[[str], None]) -> Iterator[Progress]:
        """Plan the change of one frame, and keep it."""
        pairs = self._find_pairs(scan, note)
        yield self._progress(1, scan.values)
        self._change = change = plan_change(
            scan,
            self._looks,
            pairs,
            self._weights,
            self._resolution,
            self._units.unit,
            moderate=self._moderate,
        )
        distance = change.spectrum_distance(change.before)
        yield self._progress(2, scan.values, distance)
        self._change = change.with_noise(self._resolution, self._options.seed + frame)
        yield self._progress(3, scan.values, distance)

    def _progress(self, stage: int, values: Tensor, loss: float = math.nan) -> Progress:
        """The progress after a stage of the frame that comes next; an unknown loss counts as 1.

        Args:
            stage: 0 before the first stage.
            values: ``(D, H, W)``; that frame, or the result of the one before it.
            loss: distance of the noise from that of the styles; NaN where it is not known yet.
        """
        frame, frames = len(self._results), self.scan.values.shape[1]
        loss = 1.0 if math.isnan(loss) else loss
        return Progress(
            step=frame * len(_TIME_SHARES) + stage,
            steps=frames * len(_TIME_SHARES),
            phase=1,
            phases=1,
            fraction_done=(frame + _TIME_SHARES[stage]) / frames,
            loss=loss,
            parts={"noise": loss},
            values=values[None, None],
        )

    def preview(self, progress: Progress) -> Grid | None:
        """The scan after a stage, see `Transfer.preview`; None before a stage that changes it.

        The change is shown at its full strength, since the safety figures come last.
        """
        if self._change is None:
            return self.result(progress) if self._results else None
        share = self._share(len(self._results)) * self._options.strength
        return self._merge([*self._results, self._change.applied(share)[1]])

    def result(self, progress: Progress) -> Grid | None:
        """The scan with the results of the frames that are finished; None in other processes."""
        del progress
        if self._group is not None and self._group.rank != 0:
            return None
        return self._merge(self._results)

    def _merge(self, results: Sequence[Tensor]) -> Grid:
        """The scan with the results ``(D, H, W)`` of its first frames.

        Unchanged voxels and missing values keep exactly the value of the file.
        """
        scan = self.scan.values
        values = scan.clone()
        for frame, result in enumerate(results):
            values[:, frame] = self._axes.from_canonical(result[None, None])[0]
        return self.scan.with_values(torch.where(torch.isfinite(scan), values, scan))

    def _style_messages(self) -> list[str]:
        messages = []
        if self._moderate:
            name = default_style(self.scan, self._options.modality)
            amount = (
                "rises to 10 HU at most, as at a standard dose"
                if scan_unit(self.scan, self._options.modality)
                else "rises to about 3 % of the signal at most, less where tissues differ little"
            )
            messages.append(f"style: built-in {name}, of the scan's modality; noise {amount}")
        ignored = self._options.ignored_by_look()
        if ignored:
            names = ", ".join("--" + name.replace("_", "-") for name in ignored)
            messages.append(f"transfer: look, which ignores {names}; --transfer paint uses them")
        return messages

    def _find_pairs(self, scan: Scan, note: Callable[[str], None]) -> list[Pair | None]:
        """Find the styles that are other images of the scan; messages say so."""
        if self._moderate:
            return [None] * len(self._looks)
        pairs: list[Pair | None] = []
        for look, factor in zip(self._looks, self._units.factors, strict=True):
            # A built-in scan may be of a built-in phantom, too, but is no image of a patient.
            images = [] if look.phantom else [look.scan]
            if images and factor != 1 and self._options.style_window == "auto":
                # Padding that only one of both has changes the medians that the factor is from.
                images.append(look.scan.with_values(look.scan.values / factor))
            found = [find_pair(scan, image, self._resolution) for image in images]
            pair = min(filter(None, found), key=lambda pair: pair.left, default=None)
            words = " without that factor" if pair and pair is not found[0] else ""
            if pair is not None:
                note(
                    f"style: another image of this scan{words}, so noise and sharpness are "
                    "compared voxel by voxel"
                )
            elif not look.phantom:
                note("style: its sharpness is not transferred, since it is no image of this scan")
            pairs.append(pair)
        return pairs

    def _find_safe_result(
        self, change: LookChange, frame: int
    ) -> tuple[Tensor, float, Sequence[SafetyFigure]]:
        """Find the largest strength whose safety figures are all within their limits.

        Returns:
            The result ``(D, H, W)``, its strength and its figures; of the smallest strength if none
            is safe.
        """
        scan, common = change.scan, (change.scheme, self._resolution)
        part, judged = scan.part(self._masked)
        share = self._share(frame)
        low, high = scan.values[scan.valid].aminmax()
        for strength in _STRENGTHS:
            weight = strength * self._options.strength
            expected, result = change.applied(share * weight)
            excess = torch.zeros_like(result)
            excess[part] = limit_means(judged, expected[part], result[part], *common)
            expected, result = expected - share * excess, (result - share * excess).clamp(low, high)
            result = torch.where(scan.valid, result, scan.values)
            changes = {
                tissue: dataclasses.replace(part, added=part.added * weight)
                for tissue, part in change.changes.items()
            }
            figures = measure_safety(judged, expected[part], result[part], changes, *common)
            if not describe_broken(figures):
                break
        return result, strength, figures

    def _share(self, frame: int) -> Tensor:
        """The share of the change at each voxel ``(D, H, W)``, from --window and --mask."""
        inside = self._inside[:, frame : frame + 1].float()
        return self._axes.canonical_frame(inside * self._mask)

    def _noise_after(self, change: LookChange, result: Tensor) -> dict[int, NoisePower]:
        """Measure the noise of a result ``(D, H, W)`` by tissue; of a mask, its voxels."""
        inside = change.scan.valid & self._masked
        before, after = (
            Scan(values, change.scan.spacing, inside).slabs()
            for values in (change.expected, result)
        )
        tissues = TissueMap(before, change.scheme, self._resolution)
        noise = measure_noise(after, tissues, self._resolution, before=change.before)
        return {**change.before, **noise}
