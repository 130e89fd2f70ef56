"""The protocol that each kind of data implements, so that one pipeline stylises all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from convnd import io
from convnd_tasks.modalities import style_network
from convnd_tasks.modalities.inputs import RegionInputs
from convnd_tasks.modalities.label_map import number_labels
from convnd_tasks.modalities.opening import open_grid

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.feedforward.network_file import StyleNetwork
    from convnd.grid import Grid
    from convnd.optimize import ProcessGroup
    from convnd.transfer.network_transfer import NetworkTransfer
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.inputs import TransferInputs
    from convnd_tasks.modalities.metrics import Measure
    from convnd_tasks.modalities.results import Figure, JobResult, Table
    from convnd_tasks.runtime.changes import Changes
    from convnd_tasks.runtime.checkpoints import Checkpointer
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["MIN_EXTENT", "Modality", "Transfer"]

MIN_EXTENT = 16
"""Samples along an axis below which the deepest default layer has less than one position."""


class Transfer(ABC):
    """One transfer whose inputs are open and checked.

    Attributes:
        messages: lines that users should read before the work starts.
        record: what the transfer measured, by name, for the result's record; complete when the
            work is done.
        changes: changes of options while it runs; None if there can be none.
        on_tile: is called with the number of tiles of one pass that are done, and of all.
    """

    changes: Changes | None = None
    on_tile: Callable[[int, int], None] | None = None
    messages: Sequence[str] = ()
    record: Mapping[str, str] = {}

    @abstractmethod
    def fingerprint(self) -> Sequence[object]:
        """List everything besides the options that the result depends on, for checkpoints."""

    @abstractmethod
    def check_writable(self, path: Path) -> None:
        """Check, before any work, that the format of ``path`` can hold such a result.

        Raises:
            ConvndError: the format cannot.
        """

    @abstractmethod
    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None,
        on_message: Callable[[str], None] | None,
    ) -> Iterator[Progress]:
        """Optimise, yielding every evaluated step.

        Args:
            state: state of a checkpoint to resume from, or None.
            group: the processes that share the work; None is this one alone.
            on_message: callback that gets lines for users.
        """

    def count_steps(self) -> tuple[int, int] | None:
        """Return the least and the most evaluations that a stream of frames takes.

        ``--dry-run`` needs them, since `Progress` counts frames of a stream instead of steps.

        Returns:
            None if `Progress` counts all steps, as for data that are no streams.
        """
        return None

    def estimate_seconds(self, on_message: Callable[[str], None]) -> float | None:
        """Estimate the seconds of one pass, and check its memory; None if there are steps.

        Args:
            on_message: callback that gets lines for users.
        """
        del on_message
        return None

    def preview(self, progress: Progress) -> Grid | None:
        """Compute a small picture of the result at a step, which costs less than the result.

        Returns:
            None if this kind of data has none.
        """
        del progress
        return None

    @abstractmethod
    def result(self, progress: Progress) -> Any:
        """Compute the result at a step, in the units of the file.

        Every process of a group has to call this method.

        Returns:
            None in a process of a group that does not write the result.
        """


class Modality(ABC):
    """One kind of data: how it is opened, encoded, transferred, written, measured and shown.

    Attributes:
        name: name of the kind, a plural noun such as "pictures".
        unsupported: reasons, as clauses, why options and settings do not apply, by their names.
        keeps_partial_result: whether work that was stopped is written as a result; if not, its
            checkpoint stays.
        draws_figures: whether figures are written by default.
        draws_demo_figures: whether the figures of the built-in demo are written by default.
        named_regions: words that are typed instead of a map of regions.
        has_instant_network: whether `convnd.feedforward.ArbitraryStyleNet` takes such data.
        step_noun: singular noun for the steps of `Transfer.run`.
        loss_caption: caption of the plot of losses in the report.
        trained: the trained network that takes the place of a style; None before one is open.
    """

    name: ClassVar[str]
    unsupported: ClassVar[Mapping[str, str]] = {"instant": style_network.NO_INSTANT_NETWORK}
    keeps_partial_result: ClassVar[bool] = True
    draws_figures: ClassVar[bool] = False
    draws_demo_figures: ClassVar[bool] = True
    named_regions: ClassVar[Collection[str]] = ()
    has_instant_network: ClassVar[bool] = False
    step_noun: ClassVar[str] = "step"
    loss_caption: ClassVar[str] = (
        "The objective and its weighted terms at every step. They jump where a finer scale begins."
    )

    def __init__(self, options: TransferOptions, settings: JobSettings, spatial_dims: int) -> None:
        self.options = options
        self.settings = settings
        self.spatial_dims = spatial_dims
        self.trained: NetworkTransfer | None = None

    def check(self) -> None:
        """Check the options before any input is read.

        Raises:
            UsageError: an option has an unknown value, or does not fit the others.
        """
        from convnd.transfer.network import check_names

        check_names(self.options)
        if self.options.init == "instant" and not self.has_instant_network:
            raise style_network.no_instant_network_error(self.name)

    def open(self, name: str, role: str, content: Grid | None = None) -> Any:
        """Open one input; of a trained network, the style that it learnt.

        Args:
            name: path, or name of a built-in sample.
            role: ``"content"``, ``"style"``, ``"init"``, ``"mask"`` or ``"regions"``.
            content: the content, for inputs that are read after it.

        Raises:
            UsageError: no such sample, or a setting does not fit the file.
            InputFileError: the file cannot be read, or holds another kind of data.
        """
        if role != "style" or not style_network.is_network(name):
            return self.read(name, role, content)
        trained = style_network.open_network(name, self.name, self.spatial_dims)
        self.use_network(trained)
        return trained.styles[0]

    def use_network(self, trained: StyleNetwork) -> None:
        """Let a trained network make the results.

        Raises:
            InputFileError: the network is for another kind of transfer.
        """
        from convnd.feedforward.transform_net import TransformNet
        from convnd.transfer.network_transfer import NetworkTransfer

        if not isinstance(trained.network, TransformNet):
            raise style_network.no_style_network_error()
        self.trained = NetworkTransfer(trained.network, self.options)

    def read(self, name: str, role: str, content: Grid | None = None) -> Any:
        """Open one input that is no trained network, see `open`."""
        del content
        return open_grid(name, self.spatial_dims, role=role, seed=self.options.seed)

    def open_regions(
        self, content: Any, styles: Mapping[str, int | None], shared: Sequence[int]
    ) -> RegionInputs | None:
        """Open the maps of regions that the settings name; None if they name none.

        Args:
            content: the content.
            styles: index of the style of each label; None keeps the content.
            shared: indices of the styles of all other labels.

        Raises:
            InputFileError: a map cannot be read.
        """
        settings = self.settings
        if settings.regions is None:
            return None
        return RegionInputs(
            grid=self.open(settings.regions, "regions", content),
            name=Path(settings.regions).name,
            style_maps=[self.open(name, "style regions") for name in settings.style_regions],
            styles=styles,
            shared=shared,
        )

    def label_map(self, grid: Grid, labels: Sequence[str], name: str) -> Mapping[str, Tensor]:
        """Split a map of regions into one share for each label.

        Args:
            grid: the map ``(1, C, *S)``.
            labels: the labels that were named.
            name: name of the map, for messages.

        Returns:
            The share of each label at each position, ``(1, 1, *S)`` or ``(1, C, *S)``, by label.

        Raises:
            InputFileError: the map holds no labels.
        """
        return number_labels(grid, labels, name)

    def region_shares(self, grid: Grid, labels: Sequence[str], name: str) -> Mapping[str, Tensor]:
        """Split a map as `label_map` does, and blur the edges of its regions by ``--region-edge``.

        The blur is equally wide along all axes in the unit of the map's spacing.
        """
        from convnd.nn import gaussian_blur_nd

        shares, width = self.label_map(grid, labels, name), self.settings.region_edge
        if not width:
            return shares
        finest = min(grid.spacing, default=1.0)
        sigma = [width * finest / step for step in grid.spacing]
        return {label: gaussian_blur_nd(share, sigma) for label, share in shares.items()}

    @abstractmethod
    def prepare(self, inputs: TransferInputs) -> Transfer:
        """Encode the inputs, and make the transfer.

        Raises:
            InputFileError: the data cannot be stylised.
        """

    def checkpointer(self, output: Path | None, group: ProcessGroup | None) -> Checkpointer:
        """Make the checkpointer of an output; None is a result that is not written."""
        from convnd_tasks.runtime.checkpoints import Checkpointer

        every = 0 if output is None else self.settings.checkpoint_every
        return Checkpointer(output or Path("result"), every, group)

    def check_output(self, path: Path, inputs: TransferInputs | None, *, overwrite: bool) -> None:
        """Check, before any work, that the result can be written.

        Args:
            path: path of the result.
            inputs: the inputs; None before they are open.
            overwrite: whether an existing result may be replaced.

        Raises:
            OutputExistsError: it exists and may not be replaced.
            OutputFileError: it cannot be written there.
        """
        del inputs
        io.check_output(
            path,
            overwrite=overwrite,
            provenance=self.settings.metadata,
            spatial_dims=self.spatial_dims,
        )

    def write(
        self,
        path: Path,
        result: Any,
        *,
        inputs: TransferInputs,
        overwrite: bool,
        record: Mapping[str, str] | None,
        on_message: Callable[[str], None],
    ) -> Any:
        """Write a result.

        Args:
            path: path of the result.
            result: the return value of `Transfer.result`.
            inputs: the inputs of the transfer.
            overwrite: whether an existing result may be replaced.
            record: entries of the record to store with the result; None stores none.
            on_message: callback that gets lines for users.

        Returns:
            The result, with what writing adds to it.

        Raises:
            OutputFileError: it cannot be written.
        """
        del inputs, on_message
        io.write(
            path, result, overwrite=overwrite, provenance=record, quality=self.settings.quality
        )
        return result

    def lost_metadata(self, path: Path, inputs: TransferInputs) -> list[str]:
        """Name the metadata of the content that the format of the result cannot hold."""
        return list(io.lost_metadata(path, inputs.template))

    @abstractmethod
    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """Measure how much of the content the result keeps, and how near it is to the styles.

        Raises:
            InputFileError: the grids cannot be compared.
            DependencyError: a required package is missing.
        """

    @abstractmethod
    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """Make the figures of the result and its inputs.

        Drawing one raises `DependencyError` if matplotlib is missing.
        """

    def figure_names(self) -> list[str]:
        """Name the figures that are written beside the result, before any work."""
        return []

    def tables(self, inputs: TransferInputs, outcome: JobResult) -> list[Table]:
        """Make further tables for the report, for example of the geometry."""
        del inputs, outcome
        return []

    def describe(self, result: Any) -> tuple[str, dict[str, Any]]:
        """Describe a result.

        Returns:
            Text for the line on stdout, such as its extent, and entries for ``--json``.
        """
        return "x".join(str(extent) for extent in reversed(result.shape)), {
            "shape": list(result.shape)
        }
