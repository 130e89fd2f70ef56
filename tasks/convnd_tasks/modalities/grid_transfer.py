"""Kinds of data that are one grid: encoded as a whole, optimised, decoded."""

from __future__ import annotations

import copy
import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from convnd import io
from convnd.errors import InputFileError
from convnd.nn import resize_nd, resize_period
from convnd.transfer.adjustment import LIVE_OPTIONS, Adjustment
from convnd.transfer.one_pass import OnePassTransfer
from convnd.transfer.scales import fit_size
from convnd.transfer.style_transfer import StyleTransfer
from convnd_tasks.modalities.base import Modality, Transfer
from convnd_tasks.modalities.figures import draw_comparison
from convnd_tasks.modalities.inputs import PreparedInputs, TransferInputs
from convnd_tasks.modalities.one_pass import one_pass_transfer
from convnd_tasks.modalities.opening import check_no_content_options
from convnd_tasks.modalities.regions import apply_regions, divide, mask_share
from convnd_tasks.modalities.results import Figure, JobResult
from convnd_tasks.runtime.changes import Changes

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.optimize import ProcessGroup
    from convnd.transfer.options import TransferOptions
    from convnd.transfer.progress import Progress
    from convnd_tasks.runtime.settings import JobSettings

__all__ = ["GridModality", "GridTransfer", "blend_statistics", "mix_with_content"]

PREVIEW_EXTENT = 1024
"""Most pixels along a side of a preview."""

Engine = StyleTransfer | OnePassTransfer
"""Computes the values of a result from those of content and styles."""

Adopt = Callable[["Changes"], tuple[PreparedInputs, "TransferOptions", float]]
"""Returns inputs, options and the strength of values after some changes."""


class GridTransfer(Transfer):
    """The transfer of one grid.

    Args:
        prepared: the encoded inputs.
        inputs: the inputs as they were read.
        strength: share of the change that is applied to the values.
        engine: function that returns the engine for a number of channels.
        adopt: function that encodes the inputs for other options, and returns the strength that
            is left for the values; None where they cannot change.
        seamless: whether the result is one period of a field that repeats.
    """

    def __init__(
        self,
        prepared: PreparedInputs,
        inputs: TransferInputs,
        strength: float,
        engine: Callable[[int], Engine],
        *,
        adopt: Adopt | None = None,
        seamless: bool = False,
    ) -> None:
        self.prepared = prepared
        self.inputs = inputs
        self.strength = strength
        self.seamless = seamless
        self.messages = prepared.messages
        self.record = prepared.record
        self._engine = engine
        self._adopt = adopt

    def fingerprint(self) -> Sequence[object]:
        """List everything that the result depends on, see `Transfer.fingerprint`."""
        prepared = self.prepared
        values = (prepared.content, prepared.init, *prepared.styles)
        return [len(prepared.size), prepared.size, prepared.spacing, *values]

    def check_writable(self, path: Path) -> None:
        """Check the format with zeros: a recording, or a corner of the result; see `Transfer`."""
        style, size = self.prepared.styles[0], self.prepared.size
        # A recording is tried whole: decoding derives its sampling rate from its length, and a
        # format may refuse a rate.
        extents = size if len(size) == 1 else [2] * len(size)
        io.dry_run_write(path, self.prepared.decode(style.new_zeros((*style.shape[:2], *extents))))

    def run(
        self,
        *,
        state: Mapping[str, Any] | None,
        group: ProcessGroup | None,
        on_message: Callable[[str], None] | None,
    ) -> Iterator[Progress]:
        """Run the engine, see `Transfer.run`."""
        engine = self._engine(self.prepared.styles[0].shape[1])
        if isinstance(engine, OnePassTransfer):
            engine.on_tile = self.on_tile
        shared: dict[str, Any] = {"group": group, "on_message": on_message}
        changes = self.changes
        if changes is not None and state is not None and "changes" in state:
            changes.restore(state["changes"])
        if changes is None or self._adopt is None or not changes.expected:
            return engine.run(self.prepared, resume=state, **shared)
        return self._run_with_changes(changes, self._adopt, state, shared)

    def estimate_seconds(self, on_message: Callable[[str], None]) -> float | None:
        """Estimate the time of one pass, see `Transfer.estimate_seconds`."""
        engine = self._engine(self.prepared.styles[0].shape[1])
        if isinstance(engine, StyleTransfer):
            return None
        return engine.estimate_seconds(self.prepared, on_message=on_message)

    def _run_with_changes(
        self,
        changes: Changes,
        adopt: Adopt,
        state: Mapping[str, Any] | None,
        shared: Mapping[str, Any],
    ) -> Iterator[Progress]:
        """Run the engine, which takes the changes between its steps."""
        engine = self._engine(self.prepared.styles[0].shape[1])
        assert isinstance(engine, StyleTransfer)

        def take() -> Adjustment:
            self.prepared, options, self.strength = adopt(changes)
            return Adjustment(self.prepared, options)

        start = take()

        def adjust(step: int) -> Adjustment | None:
            return take() if changes.take(step, start.options) else None

        for progress in engine.run(
            self.prepared, resume=state, options=start.options, adjust=adjust, **shared
        ):
            with_changes = partial(_state_with_changes, progress.state, changes)
            yield dataclasses.replace(progress, state=with_changes)

    def result(self, progress: Progress) -> Grid | None:
        """Decode the values, and mix them with the content, see `Transfer.result`."""
        whole_values = progress.whole()
        if whole_values is None:
            return None
        values = whole_values.cpu()
        if tuple(values.shape[2:]) != self.prepared.size:  # stopped at a coarse scale
            resize = resize_period if self.seamless else resize_nd
            values = resize(values, self.prepared.size, mode="cubic")
        result, content = self.prepared.decode(values), self.inputs.content
        if content is not None and tuple(content.shape) != tuple(result.shape):
            content = self.prepared.visible_content or content
        return mix_with_content(result, content, self.inputs.mask, self.strength)

    def preview(self, progress: Progress) -> Grid | None:
        """Decode the values at their present size, at most `PREVIEW_EXTENT`, see `Transfer`."""
        values = progress.whole()
        if values is None:
            return None
        values, longest = values.cpu(), max(values.shape[2:])
        if longest > PREVIEW_EXTENT and values.ndim == 4:
            size = fit_size(values.shape[2:], PREVIEW_EXTENT)
            values = resize_nd(values, size, mode="linear", antialias=True)
        content = self.prepared.visible_content or self.inputs.content
        result = self.prepared.decode(values)
        return mix_with_content(result, content, self.inputs.mask, self.strength)


def _state_with_changes(state: Callable[[], dict[str, Any]], changes: Changes) -> dict[str, Any]:
    return {**state(), "changes": changes.state()}


class GridModality(Modality):
    """A kind of data whose inputs and result are grids.

    Attributes:
        blends_statistics: whether ``strength`` applies to the statistics that an optimisation
            aims at, instead of to the change of values.
        figure_caption: caption of the comparison of content, styles and result.
        changeable: options that may change while a transfer runs, see `Changes`.
    """

    changeable: ClassVar[Sequence[str]] = (*LIVE_OPTIONS, "strength")
    blends_statistics: ClassVar[bool] = True
    figure_caption: ClassVar[str] = "Content, styles and result."

    def __init__(self, options: TransferOptions, settings: JobSettings, spatial_dims: int) -> None:
        super().__init__(options, settings, spatial_dims)
        self._engines: dict[int, Engine] = {}

    @abstractmethod
    def encode(self, inputs: TransferInputs) -> PreparedInputs:
        """Encode the inputs as values of about ``[0, 1]``.

        Raises:
            InputFileError: the data cannot be stylised.
        """

    def prepare(self, inputs: TransferInputs) -> Transfer:
        """Encode the inputs, see `Modality.prepare`."""
        if inputs.content is None:
            check_no_content_options(self.options, self.settings)
        _check_mask(inputs)
        inputs, regions = divide(inputs, self.region_shares, self.soften)
        prepared = apply_regions(self.encode(inputs), inputs, regions)
        strength, blends = self.options.strength, self.blends_statistics and self.optimises
        if blends:
            prepared, strength = blend_statistics(prepared, strength)

        def adopt(changes: Changes) -> tuple[PreparedInputs, TransferOptions, float]:
            modality = copy.copy(self)
            modality.options = options = changes.apply(self.options)
            changed = apply_regions(modality.encode(inputs), inputs, regions)
            if not blends:
                return changed, options, options.strength
            return dataclasses.replace(changed, strength=options.strength), options, 1.0

        transfer = GridTransfer(
            prepared, inputs, strength, self._engine, adopt=adopt, seamless=self.options.seamless
        )
        if self.optimises and strength > 0:
            transfer.changes = Changes(self.settings.change, self.changeable)
            transfer.changes.check(self.options)
        return transfer

    @property
    def optimises(self) -> bool:
        """Whether an optimisation makes the results, and not one pass of a network."""
        return self.trained is None and not self.options.is_instant

    def soften(self, mask: Grid) -> Grid:
        """Return the mask of the regions with edges that fit the kind of data; here the same.

        Args:
            mask: share of the change at each position, 0 where a region keeps the content.
        """
        return mask

    def figure_names(self) -> list[str]:
        """Name the figure, see `Modality.figure_names`."""
        return ["comparison"]

    def figures(self, inputs: TransferInputs, outcome: JobResult) -> list[Figure]:
        """Draw content, styles and result side by side, see `Modality.figures`."""
        draw = partial(draw_comparison, inputs.content, inputs.styles, outcome.result)
        return [Figure("comparison", self.figure_caption, draw)]

    def _engine(self, channels: int) -> Engine:
        """Return the engine for a number of channels, which is made once for all transfers."""
        if self.trained is not None:
            return self.trained
        if channels not in self._engines:
            make = one_pass_transfer if self.options.is_instant else StyleTransfer
            self._engines[channels] = make(
                self.options, spatial_dims=self.spatial_dims, in_channels=channels
            )
        return self._engines[channels]


def blend_statistics(prepared: PreparedInputs, strength: float) -> tuple[PreparedInputs, float]:
    """Return inputs whose targets have a strength, and the strength left for their values.

    Args:
        prepared: the encoded inputs.
        strength: 0 keeps the content to the bit, by its values.
    """
    if strength in (0, 1):
        return prepared, strength
    return dataclasses.replace(prepared, strength=strength), 1.0


def mix_with_content(
    result: Grid, content: Grid | None, mask: Grid | None, strength: float
) -> Grid:
    r"""Apply a part of the change to the content.

    .. math:: y = c + s\,m\,(r - c)

    with the content :math:`c`, the result :math:`r`, the strength :math:`s` and the mask :math:`m`.
    Where :math:`s m` is 0, and the sizes are the same, the values are those of the content to the
    bit.

    Args:
        result: ``(1, C, *S)``.
        content: ``(1, C, *S')``, resized to the result if necessary; None leaves the result as it
            is.
        mask: share of the change that applies, ``(1, 1, *S')`` for all channels or
            ``(1, C, *S')``; other numbers of channels, and colours, are averaged. None is 1.
        strength: share of the change that applies everywhere, in ``[0, 1]``.
    """
    if content is None or (mask is None and strength == 1):
        return result
    values = result.values
    same_size = tuple(content.shape) == tuple(result.shape)
    content_values = content.values.to(values)
    weight = torch.full((1,) * values.ndim, strength, dtype=values.dtype)
    if mask is not None:
        share = mask_share(mask, values.shape[1]).to(values)
        weight = weight * (share if same_size else resize_nd(share, result.shape, mode="linear"))
    if not same_size:
        content_values = resize_nd(
            torch.nan_to_num(content_values), result.shape, mode="linear", antialias=True
        )
    mixed_values = content_values + weight * (values - content_values)
    mixed_values = torch.where(
        weight == 0, content_values, torch.where(weight == 1, values, mixed_values)
    )
    return result.with_values(mixed_values)


def _check_mask(inputs: TransferInputs) -> None:
    mask, content = inputs.mask, inputs.content
    if mask is None or content is None:
        return
    if tuple(mask.shape) != tuple(content.shape):
        raise InputFileError(
            "--mask",
            expected=f"the content's extent {'x'.join(map(str, reversed(content.shape)))}",
            got="x".join(map(str, reversed(mask.shape))),
            remedy="resample the mask onto the content",
        )
    if not bool((torch.nan_to_num(mask.values) > 0).any()):
        raise InputFileError(
            "--mask", expected="values above 0", got="none", remedy="give another mask"
        )
