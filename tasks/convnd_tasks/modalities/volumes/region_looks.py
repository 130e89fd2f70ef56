"""The looks of several scans, each in its region of a scan."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from convnd.errors import UsageError
from convnd.grid import Grid
from convnd.optimize import ProcessGroup
from convnd.transfer.progress import Progress
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.regions import Regions, mask_share
from convnd_tasks.modalities.volumes.inputs import ScanTransfer
from convnd_tasks.modalities.volumes.look_transfer import LookTransfer
from convnd_tasks.modalities.volumes.options import VolumeOptions

__all__ = ["RegionLooks"]


class RegionLooks(ScanTransfer):
    """One `LookTransfer` for each region, all of the same scan; their changes are added up.

    Args:
        inputs: as for `LookTransfer`.
        options: options of the transfer.
        regions: the regions.

    Raises:
        UsageError: parts of styles are named: a look is measured in whole scans.
        InputFileError: see `LookTransfer`.
    """

    def __init__(self, inputs: TransferInputs, options: VolumeOptions, regions: Regions) -> None:
        assert inputs.content is not None
        self.scan = inputs.content
        self._labels = [part.label for part in regions.parts]
        weights = options.style_weights or (1.0,) * len(inputs.styles)
        self._looks = []
        for label, share, styles in regions.parts:
            if any(regions.style_part(label, number) is not None for number in styles):
                expected = "--transfer paint, which reads parts of styles"
                got = "the look of scans, which is measured in whole scans"
                remedy = "leave it out, or crop the style"
                raise UsageError("--style-regions", expected=expected, got=got, remedy=remedy)
            mask = share if inputs.mask is None else share * mask_share(inputs.mask)
            part_inputs = dataclasses.replace(
                inputs,
                styles=[inputs.styles[number] for number in styles],
                names=["content", *(inputs.style_name(number) for number in styles), "mask"],
                mask=self.scan.with_values(mask),
                regions=None,
            )
            part_options = dataclasses.replace(
                options, style_weights=tuple(weights[number] for number in styles)
            )
            self._looks.append(LookTransfer(part_inputs, part_options))
        messages = [message for look in self._looks for message in look.messages]
        self.messages = tuple(dict.fromkeys([*regions.messages, *messages]))

    def fingerprint(self) -> Sequence[object]:
        """See `Transfer.fingerprint`."""
        return [part for look in self._looks for part in look.fingerprint()]

    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None,
        on_message: Callable[[str], None] | None,
    ) -> Iterator[Progress]:
        """Change one region after the other, see `LookTransfer.run`."""
        self.record: dict[str, str] = {}
        count, self._finished = len(self._looks), 0
        for number, (label, look) in enumerate(zip(self._labels, self._looks, strict=True)):

            def message(line: str, label: str = label) -> None:
                if on_message is not None:
                    on_message(f"region {label}: {line}")

            for progress in look.run(state=state, group=group, on_message=message):
                yield dataclasses.replace(
                    progress,
                    step=progress.step + number * (progress.steps + 1),
                    steps=count * (progress.steps + 1) - 1,
                    fraction_done=(number + progress.fraction_done) / count,
                )
            self._finished = number + 1
            entries = look.record.items()
            self.record |= {f"{name}_region_{label}": text for name, text in entries}

    def preview(self, progress: Progress) -> Grid | None:
        """See `LookTransfer.preview`; finished regions have their results."""
        looks, running = self._looks[: self._finished], self._looks[self._finished :][:1]
        shown = [look.result(progress) for look in looks]
        shown += [look.preview(progress) for look in running]
        scans = [scan for scan in shown if scan is not None]
        return self._add_up(scans) if scans else None

    def result(self, progress: Progress) -> Grid | None:
        """Return the scan with the changes of all finished regions; None in other processes."""
        looks = self._looks[: max(1, self._finished)]
        results = [one for look in looks if (one := look.result(progress)) is not None]
        return self._add_up(results) if len(results) == len(looks) else None

    def _add_up(self, results: Sequence[Grid]) -> Grid:
        """The scan with the changes of several results."""
        scan = values = self.scan.values
        for changed in results:
            # A voxel of one region has exactly the value of that region's result.
            added = torch.where(values == scan, changed.values, values + (changed.values - scan))
            values = torch.where(changed.values == scan, values, added)
        same = ~torch.isfinite(scan) | (values == scan)
        return self.scan.with_values(torch.where(same, scan, values))
