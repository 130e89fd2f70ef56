"""The modality of volumes: scans of three axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from convnd import io
from convnd.errors import UsageError
from convnd_tasks.modalities.base import Modality, Transfer
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.regions import Regions, divide
from convnd_tasks.modalities.results import Figure, JobResult, Table
from convnd_tasks.modalities.style_network import NO_INSTANT_NETWORK
from convnd_tasks.modalities.volumes.geometry import check_placement
from convnd_tasks.modalities.volumes.inputs import (
    ScanTransfer,
    check_scan,
    check_style,
    default_style,
    is_array,
    open_style,
    open_volume,
    parse_spacing,
)
from convnd_tasks.modalities.volumes.options import VolumeOptions
from convnd_tasks.samples import MATCHING_STYLE

if TYPE_CHECKING:
    from convnd.feedforward.network_file import StyleNetwork
    from convnd.grid import Grid
    from convnd.transfer.one_pass import OnePassTransfer
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.style_transfer import StyleTransfer
    from convnd_tasks.modalities.metrics import Measure
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["Volumes"]


class Volumes(Modality):
    """Scans of three axes; results have the affine and the unit of the scan."""

    name = "volumes"
    draws_figures = True
    unsupported: ClassVar[Mapping[str, str]] = {
        "init": "a volume always starts from the scan",
        "size": "the result always has the scan's grid",
        "seamless": "scans have borders; an array of three axes makes a solid texture",
        "instant": NO_INSTANT_NETWORK,
        "inflation": "the network always sees slices across the three axes",
    }

    def __init__(self, options: TransferOptions, settings: JobSettings, spatial_dims: int) -> None:
        super().__init__(options, settings, spatial_dims)
        self._engines: dict[tuple[tuple[int, int], ...], StyleTransfer] = {}
        self._look: StyleNetwork | None = None

    @property
    def _options(self) -> VolumeOptions:
        return cast("VolumeOptions", self.options)

    def check(self) -> None:
        """See `Modality.check`."""
        from convnd.transfer.network import check_names

        parse_spacing(self.settings.spacing)
        check_names(self.options)

    def read(self, name: str, role: str, content: Grid | None = None) -> Grid:
        """See `Modality.read`."""
        spacing = parse_spacing(self.settings.spacing)
        names = [part.strip() for part in self.settings.series.split(",", 1)]
        series = names[0] if role == "content" else names[-1]
        if role == "content" and content is not None:  # a result, in another folder
            series = ""
        if role == "style" and content is not None:
            if name == MATCHING_STYLE:
                name = default_style(content, self._options.modality)
            return open_style(name, self.options.seed, content, spacing, series)
        if content is not None:  # a mask has the scan's grid
            spacing = content.spacing
        grid = open_volume(name, spacing, series, seed=self.options.seed)
        if role == "content":
            check_scan(grid, name)
        return grid

    def prepare(self, inputs: TransferInputs) -> Transfer:
        """See `Modality.prepare`."""
        names = ", ".join(inputs.names)
        if self.settings.spacing and not any(map(is_array, inputs.names)):
            expected, got = f"an array (.npy, .npz) among {names}", "files that store their spacing"
            raise UsageError("--spacing", expected=expected, got=got, remedy="leave it out")
        if self.settings.series and not any(Path(name).is_dir() for name in inputs.names):
            expected = f"a folder of DICOM files among {names}"
            raise UsageError("--series", expected=expected, got="none", remedy="leave it out")
        if inputs.content is None:
            raise UsageError("volumes", expected="a scan as content", got="none", remedy="give one")
        for role, grid, label in inputs.labelled():
            if role == "content":
                check_scan(grid, label)
            elif role == "style":
                check_style(grid, label)
        if inputs.regions is not None:
            check_placement(inputs.content, inputs.regions.grid, "--regions")
        inputs, regions = divide(inputs, self.region_shares)
        self._options.check_style_weights(len(inputs.styles))
        transfer = self._transfer(inputs, regions)
        transfer.integers = self.settings.dtype == "input"
        return transfer

    def _transfer(self, inputs: TransferInputs, regions: Regions | None) -> ScanTransfer:
        """Make the transfer of checked inputs that fits the styles and the network."""
        options, kind = self._options, self._options.transfer
        pictures = any(style.ndim == 2 for style in inputs.styles)
        learnt = "look" if self._look else "paint" if self.trained else ""
        if learnt and kind not in ("auto", learnt):
            purpose = "a look" if self._look else "patterns"
            expected = f"{learnt}, since this network was trained for {purpose}"
            remedy = f"leave it out, or train with --transfer {kind}"
            raise UsageError("--transfer", expected=expected, got=kind, remedy=remedy)
        if kind == "look" and pictures:
            raise UsageError(
                "--transfer", expected="paint for pictures", got=kind, remedy="leave it out"
            )
        if self._look:
            from convnd_tasks.modalities.volumes.network_look import NetworkLookTransfer

            return NetworkLookTransfer(inputs, options, self._look)
        if "paint" in (learnt, kind) or pictures:
            from convnd_tasks.modalities.volumes.paint_transfer import (
                NetworkPaintTransfer,
                PaintTransfer,
            )

            paint = NetworkPaintTransfer if self.trained else PaintTransfer
            change = self.settings.change
            return paint(inputs, options, self._engine, regions=regions, change=change)
        if regions is not None:
            from convnd_tasks.modalities.volumes.region_looks import RegionLooks

            return RegionLooks(inputs, options, regions)
        from convnd_tasks.modalities.volumes.look_transfer import LookTransfer

        return LookTransfer(inputs, options)

    def use_network(self, trained: StyleNetwork) -> None:
        """See `Modality.use_network`; a network for the look of scans is used, too."""
        from convnd.feedforward.look_net import LookNet

        if isinstance(trained.network, LookNet):
            self._look = trained
        else:
            super().use_network(trained)

    def _engine(self, planes: Sequence[tuple[int, int]]) -> StyleTransfer | OnePassTransfer:
        """The network for slices along pairs of axes, prepared once for all transfers."""
        if self.trained is not None:
            return self.trained
        from convnd.transfer.style_transfer import StyleTransfer

        key = tuple(planes)
        if key not in self._engines:
            self._engines[key] = StyleTransfer(
                self.options, spatial_dims=3, in_channels=1, planes=key
            )
        return self._engines[key]

    def check_output(self, path: Path, inputs: TransferInputs | None, *, overwrite: bool) -> None:
        """See `Modality.check_output`; a scan from DICOM files may be written as DICOM files."""
        dicom = inputs is None or "dicom" in inputs.template.header
        io.check_output(
            path,
            overwrite=overwrite,
            provenance=self.settings.metadata,
            spatial_dims=self.spatial_dims,
            dicom=dicom,
            videos=False,
        )

    def write(
        self,
        path: Path,
        result: Grid,
        *,
        inputs: TransferInputs,
        overwrite: bool,
        record: Mapping[str, str] | None,
        on_message: Callable[[str], None],
    ) -> Grid:
        """See `Modality.write`; values are rounded for DICOM files and with ``dtype="input"``."""
        del inputs
        if io.is_dicom_output(path, result):
            error, clipped = io.dicom_rounding(result)
            on_message(_rounding_message("the steps of the DICOM files", error, clipped))
        elif self.settings.dtype == "input":
            result, error, clipped = io.quantize(result)
            on_message(_rounding_message("the scan's integers", error, clipped))
        elif "integer_codes" in result.header:
            on_message(
                "the scan's integers exceed the precision of float32; --dtype input keeps those of "
                "unchanged voxels"
            )
        io.write(path, result, overwrite=overwrite, provenance=record)
        return result

    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """See `Modality.metrics`."""
        from convnd_tasks.modalities.volumes.metrics import measure_all

        return measure_all(inputs.template, result, inputs.styles)

    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """See `Modality.figures`."""
        from convnd_tasks.modalities.volumes.figures import montage

        caption = "Middle axial, coronal and sagittal slices of scan, style, result and change."
        draw = partial(montage, inputs.template, inputs.styles[0], outcome.result)
        return [Figure("montage", caption, draw)]

    def figure_names(self) -> list[str]:
        """See `Modality.figure_names`."""
        return ["montage"]

    def tables(self, inputs: TransferInputs, outcome: JobResult) -> list[Table]:
        """See `Modality.tables`."""
        del outcome
        rows = [
            [
                label,
                " x ".join(map(str, grid.shape)),
                " x ".join(f"{step:g}" for step in grid.spacing) + f" {grid.units[0]}",
            ]
            for _, grid, label in inputs.labelled()
        ]
        return [Table("Geometry", ["", "extent", "spacing"], rows)]

    def describe(self, result: Any) -> tuple[str, dict[str, Any]]:
        """See `Modality.describe`."""
        return " x ".join(map(str, result.shape)), {"shape": list(result.shape)}


def _rounding_message(target: str, error: float, clipped: int) -> str:
    """The message about the largest rounding error and the number of clipped values."""
    lost = f"; {clipped} values out of range were clipped" if clipped else ""
    return f"rounded to {target}: error at most {error:.3g}{lost}"
