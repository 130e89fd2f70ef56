"""The protocol of a kind of data, by which the one pipeline stylises and measures it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from convnd import io
from convnd.errors import InputFileError, UsageError
from convnd.transfer.problem import TransferProblem
from convnd_tasks.modalities.opening import open_grid

if TYPE_CHECKING:
    from torch import Tensor

    from convnd.grid import Grid
    from convnd.optimize import ProcessGroup
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.metrics import Measure
    from convnd_tasks.modalities.results import Figure, JobResult, Table
    from convnd_tasks.runtime.checkpoints import Checkpointer
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["SMALLEST", "LabelledGrid", "Modality", "PreparedInputs", "Transfer", "TransferInputs"]

SMALLEST = 16
"""Samples along an axis below which the deepest default layer has less than one position."""


class LabelledGrid(NamedTuple):
    """One input of a transfer.

    Args:
        role: ``"content"``, ``"style"``, ``"init"`` or ``"mask"``.
        grid: the data.
        label: role and name, for messages.
    """

    role: str
    grid: Grid
    label: str


@dataclass(frozen=True, kw_only=True)
class TransferInputs:
    """The inputs of one transfer.

    Args:
        content: None for a texture.
        styles: at least one.
        names: paths or sample names of content, styles, init and mask, in this order; without
            those that are missing.
        init: what the optimisation starts from, or None.
        mask: a grid that is 0 where the content must not change and 1 where all of the change
            applies; None is 1 everywhere.
        rate_given: whether the user gave the sampling rate, because no file holds it.
    """

    content: Grid | None
    styles: Sequence[Grid]
    names: Sequence[str]
    init: Grid | None = None
    mask: Grid | None = None
    rate_given: bool = False

    @property
    def template(self) -> Grid:
        """The grid whose geometry and metadata the result has."""
        return self.styles[0] if self.content is None else self.content

    def compared_content(self) -> Grid:
        """The content that a result is compared with.

        Raises:
            InputFileError: there is none, since the result is a texture.
        """
        if self.content is None:
            raise InputFileError(
                "evaluate", expected="a content to compare with", got="none", remedy="give one"
            )
        return self.content

    def labelled(self) -> list[LabelledGrid]:
        """Every input with its role and label, in the order of ``names``."""
        roles = [
            ("content", self.content),
            *(("style", style) for style in self.styles),
            ("init", self.init),
            ("mask", self.mask),
        ]
        present = [(role, grid) for role, grid in roles if grid is not None]
        return [
            LabelledGrid(role, grid, name if name.startswith(role) else f"{role} {name}")
            for (role, grid), name in zip(present, self.names, strict=True)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedInputs(TransferProblem):
    """Inputs encoded as values of about ``[0, 1]``, and the way back.

    Args:
        decode: turns values ``(B, C, *S')`` of any extent into a grid in the owner's units.
        messages: one line for each thing that was done to the inputs and that users should know.
        record: entries of the result's record that tell how the inputs were used.
        visible_content: the content with the colours of hidden pixels replaced, for mixing with a
            result of another size; None is the content as it was read.
    """

    decode: Callable[[Tensor], Grid]
    messages: tuple[str, ...] = ()
    record: Mapping[str, str] = field(default_factory=dict)
    visible_content: Grid | None = None


class Transfer(ABC):
    """One transfer whose inputs are open and checked.

    Attributes:
        messages: one line for each thing that users should know before the work starts.
        record: entries of the result's record that are known once the work is done.
    """

    messages: Sequence[str] = ()
    record: Mapping[str, str] = {}

    @abstractmethod
    def fingerprint(self) -> Sequence[object]:
        """Everything other than the options that the result depends on, for checkpoints."""

    @abstractmethod
    def check_writable(self, path: Path) -> None:
        """Check that the format of ``path`` can hold such a result; no work is done yet.

        Raises:
            ConvndError: it cannot.
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
            state: of a checkpoint to resume from, or None.
            group: the processes that share the work; None is this one alone.
            on_message: is called with lines that users should know.
        """

    def count_steps(self) -> tuple[int, int] | None:
        """The least and the most evaluations of a stream; None where steps count all that are left.

        The steps of a stream are those of one frame; ``--dry-run`` needs those of all.
        """
        return None

    @abstractmethod
    def result(self, progress: Progress) -> Any:
        """The result at a step, in the owner's units; None in a process that does not write it.

        Every process of a group has to call this.
        """


class Modality(ABC):
    """One kind of data: how it is opened, encoded, transferred, written, measured and shown.

    Attributes:
        name: plural noun, also on the command line, for example "pictures".
        unsupported: options and settings that have no meaning here, each with the reason as a
            clause.
        keeps_partial_result: whether work that was stopped is written as a result. Where it is
            not, the checkpoint keeps it.
        draws_figures: whether figures are written unless ``--no-figures`` says otherwise.
        draws_demo_figures: the same for the built-in demo.
        has_instant_network: whether `convnd.feedforward.ArbitraryStyleNet` takes such data.
        step_noun: what the steps of `Transfer.run` are, in the singular.
        loss_caption: what the report says of the course of the loss.
    """

    name: ClassVar[str]
    unsupported: ClassVar[Mapping[str, str]] = {}
    keeps_partial_result: ClassVar[bool] = True
    draws_figures: ClassVar[bool] = False
    draws_demo_figures: ClassVar[bool] = True
    has_instant_network: ClassVar[bool] = False
    step_noun: ClassVar[str] = "step"
    loss_caption: ClassVar[str] = (
        "The objective and its weighted terms at every step. They jump where a finer scale begins."
    )

    def __init__(self, options: TransferOptions, settings: JobSettings, spatial_dims: int) -> None:
        self.options = options
        self.settings = settings
        self.spatial_dims = spatial_dims

    def check(self) -> None:
        """Check the options before anything is read.

        Raises:
            UsageError: an option does not exist or does not fit.
        """
        from convnd.transfer.names import check_names

        check_names(self.options)
        if self.options.init == "instant" and not self.has_instant_network:
            raise UsageError(
                "instant",
                expected="pictures, which its network was trained for",
                got=self.name,
                remedy="give another --init, or none",
            )

    def open(self, name: str, role: str, content: Grid | None = None) -> Any:
        """Read one input.

        Args:
            name: path, or name of a built-in sample.
            role: ``"content"``, ``"style"``, ``"init"`` or ``"mask"``.
            content: the content that a style, start or mask belongs to.

        Raises:
            UsageError: no such sample, or a setting does not fit the file.
            InputFileError: the file cannot be read, or holds another kind of data.
        """
        del content
        return open_grid(name, self.spatial_dims, role=role, seed=self.options.seed)

    @abstractmethod
    def prepare(self, inputs: TransferInputs) -> Transfer:
        """Encode the inputs.

        Raises:
            InputFileError: the data cannot be stylised.
        """

    def checkpointer(self, output: Path | None, group: ProcessGroup | None) -> Checkpointer:
        """The checkpointer of an output; None is a result that is not written."""
        from convnd_tasks.runtime.checkpoints import Checkpointer

        every = 0 if output is None else self.settings.checkpoint_every
        return Checkpointer(output or Path("result"), every, group)

    def check_output(self, path: Path, inputs: TransferInputs | None, *, overwrite: bool) -> None:
        """Check, before any work, that the result can be written.

        Args:
            path: the result.
            inputs: None before they are open.
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
        """Write a result, and return it as it was written."""
        del inputs, on_message
        io.write(
            path, result, overwrite=overwrite, provenance=record, quality=self.settings.quality
        )
        return result

    def lost_metadata(self, path: Path, inputs: TransferInputs) -> list[str]:
        """Metadata of the content that the result's format cannot hold."""
        return list(io.lost_metadata(path, inputs.template))

    @abstractmethod
    def metrics(self, inputs: TransferInputs, result: Any) -> list[Measure]:
        """Measure what the result keeps of the content and takes from the styles.

        Raises:
            InputFileError: the grids cannot be compared.
            DependencyError: a package that is needed is missing.
        """

    @abstractmethod
    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """The drawings of the result beside its inputs.

        To draw one raises `DependencyError` where matplotlib is missing.
        """

    def figure_names(self) -> list[str]:
        """Names of the figures that `figures` draws, known before the work."""
        return []

    def tables(self, inputs: TransferInputs, outcome: JobResult) -> list[Table]:
        """Further tables for the report, for example geometry."""
        del inputs, outcome
        return []

    def describe(self, result: Any) -> tuple[str, dict[str, Any]]:
        """The extent of a result for the line on stdout, and further entries of ``--json``."""
        return "x".join(str(extent) for extent in reversed(result.shape)), {
            "shape": list(result.shape)
        }
