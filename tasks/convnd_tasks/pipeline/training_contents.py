"""The contents that a network is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from convnd.errors import ConvndError, InputFileError
from convnd.io.missing import missing_file_error
from convnd.transfer.resizing import Resizer
from convnd_tasks import samples
from convnd_tasks.modalities.grid_transfer import GridTransfer
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.pipeline.folders import list_contents
from convnd_tasks.samples import phantom

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.transfer.problem import TransferProblem
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.inputs import PreparedInputs

__all__ = ["ContentPool", "list_data"]

_SEEDS = 8
"""Variations of each built-in content."""

_MOST_SAMPLES = 2**26
"""Samples of encoded contents that stay in memory."""


@dataclass
class ContentPool:
    """Draws contents at random and encodes them; as many as fit stay in memory.

    Args:
        modality: the kind of data, which encodes them.
        styles: the styles of the training.
        style_names: paths or sample names of the styles.
        contents: paths of files, names of samples with ``#seed``, or grids.
        built_in: whether the contents are samples.
        on_message: is called with a line for each content that is left out.
    """

    modality: Modality
    styles: Sequence[Grid]
    style_names: Sequence[str]
    contents: Sequence[str | Grid]
    built_in: bool = False
    on_message: Callable[[str], None] = field(default=lambda _: None)
    _encoded: dict[int, PreparedInputs] = field(default_factory=dict)
    _failed: set[int] = field(default_factory=set)

    @classmethod
    def of(
        cls,
        modality: Modality,
        styles: Sequence[Grid],
        style_names: Sequence[str],
        contents: Sequence[str | Grid],
    ) -> ContentPool:
        """The pool of some contents; without any, of the built-in ones with several seeds."""
        if contents:
            return cls(modality, styles, style_names, contents)
        names = samples.contents(modality.spatial_dims)
        if modality.spatial_dims == 3:  # a video is no volume, and bodies are small
            names = [name for name in names if name != "video"]
        if modality.name == "volumes":  # others have no voxels in mm, which styles are resized to
            names = [*phantom.CONTENTS]
        varied = [f"{name}#{seed}" for seed in range(_SEEDS) for name in names]
        return cls(modality, styles, style_names, varied, built_in=True)

    def draw(self, generator: torch.Generator) -> TransferProblem:
        """Draw a content; in place of one that cannot be read, take the next."""
        return self._next(int(torch.randint(len(self.contents), (1,), generator=generator)))

    def example(self) -> PreparedInputs:
        """Return the first content that can be read."""
        return self._next(0)

    def fingerprint(self) -> list[str]:
        """List texts that identify the contents: their names, and the sizes of files."""
        texts = []
        for content in self.contents:
            if isinstance(content, str):
                path = Path(content)
                texts.append(f"{path.name} {path.stat().st_size if path.is_file() else ''}")
            else:
                texts.append(str(tuple(content.values.shape)))
        return texts

    def _next(self, first: int) -> PreparedInputs:
        count = len(self.contents)
        for step in range(count):
            number = (first + step) % count
            if number in self._encoded:
                return self._encoded[number]
            if number in self._failed:
                continue
            try:
                return self._encode(number)
            except ConvndError as error:
                if count == 1:
                    raise
                self._failed.add(number)
                if not self.built_in:  # not all of the built-in ones fit every style
                    self.on_message(f"left out: {error}")
        raise InputFileError(
            "train",
            expected="a content that can be read and fits the styles",
            got=f"none of {count}",
            remedy="give other --data",
        )

    def _encode(self, number: int) -> PreparedInputs:
        content = self.contents[number]
        if isinstance(content, str):
            name, _, seed = content.partition("#")
            if self.built_in:
                grid = samples.content(
                    name, spatial_dims=self.modality.spatial_dims, seed=int(seed)
                )
            else:
                name, grid = content, self.modality.open(content, "content")
        else:
            grid, name = content, "content"
        inputs = TransferInputs(content=grid, styles=self.styles, names=[name, *self.style_names])
        transfer = self.modality.prepare(inputs)
        assert isinstance(transfer, GridTransfer)
        prepared = _at_working_size(transfer.prepared)
        held = sum(one.content.numel() for one in self._encoded.values() if one.content is not None)
        assert prepared.content is not None
        while self._encoded and held + prepared.content.numel() > _MOST_SAMPLES:
            oldest = self._encoded.pop(next(iter(self._encoded)))
            held -= 0 if oldest.content is None else oldest.content.numel()
        self._encoded[number] = prepared
        return prepared


def _at_working_size(prepared: PreparedInputs) -> PreparedInputs:
    """Resize the content of inputs to the size of the result."""
    content = prepared.content
    assert content is not None
    resized = Resizer(content.device).resize(content, prepared.size)
    return dataclasses.replace(prepared, content=resized)


def list_data(folder: str, kind: str, dim: int) -> list[str]:
    """List the files of a folder that a network is trained on.

    Args:
        folder: path of the folder.
        kind: name of the kind of data.
        dim: number of spatial axes.

    Raises:
        InputFileError: there is no such folder, or no such file in it.
    """
    path = Path(folder)
    if not path.exists():
        raise missing_file_error(path, "folder")
    if not path.is_dir():
        raise InputFileError(
            f"--data {folder}",
            expected="a folder",
            got="a file",
            remedy="name a folder of contents",
        )
    return [str(file) for file in list_contents(path, kind, dim).files]
