"""Inputs and outputs of a job, without the data of any file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from convnd import io
from convnd.errors import OutputFileError
from convnd_tasks.modalities.style_network import is_network

__all__ = ["JobSpec"]


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Transfers of one kind of data that share their styles.

    Args:
        modality: name of the kind of data, see `convnd_tasks.modalities`.
        dim: number of spatial axes.
        contents: path or sample name of each content; None is a texture.
        styles: path or sample name of each style.
        outputs: path of each result.
        folder: folder of the results that is made before the work, or None.
        init: path of the file that the optimisation starts from, or None.
        defaults: values of options that are not typed; the others have the defaults of their class.
        batch: whether the contents, or the styles, come from a folder. If one fails, the others are
            still stylised.
        each_style: whether the styles are one for each content, instead of all for each.
        demo: whether built-in samples are used because no file was typed.
        message: a line for users before the work, or "".
        left_out: one line about files of a folder that are not stylised, or "".
        regions: index of the style of each label of a map of regions; None keeps the content.
        shared_styles: number of styles, from the first on, that all other labels take.
        keyframes: index of the style that is the result of a frame, by the number of the frame.
    """

    modality: str
    dim: int
    contents: tuple[str | None, ...] = ()
    styles: tuple[str, ...]
    outputs: tuple[Path, ...] = ()
    folder: Path | None = None
    init: str | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    batch: bool = False
    each_style: bool = False
    demo: bool = False
    message: str = ""
    left_out: str = ""
    regions: Mapping[str, int | None] = dataclasses.field(default_factory=dict)
    shared_styles: int = 0
    keyframes: Mapping[int, int] = dataclasses.field(default_factory=dict)

    @property
    def network(self) -> str | None:
        """Path of the trained network that makes the results, or None."""
        return next((name for name in self.styles if is_network(name)), None)

    @property
    def shared_numbers(self) -> list[int]:
        """Indices of the styles, or of the keyframes, that all labels without a style take."""
        return [*range(self.shared_styles), *dict.fromkeys(self.keyframes.values())]

    def shard(self, number: int, count: int) -> JobSpec:
        """Return the job of one of several machines: every ``count``-th content of a folder.

        Args:
            number: number of the first content, from 1.
            count: number of machines.
        """
        share = slice(number - 1, None, count)
        return dataclasses.replace(
            self,
            contents=self.contents[share],
            outputs=self.outputs[share],
            styles=self.styles[share] if self.each_style else self.styles,
        )

    def preview(self) -> JobSpec:
        """Return the same job with pictures as results, see ``--preview``."""
        pictures = [
            path
            if path.suffix and io.spatial_dims(path) == 2
            else path.with_name(f"{path.stem}-preview.png")
            for path in self.outputs
        ]
        return dataclasses.replace(self, outputs=tuple(pictures))

    def make_folder(self) -> None:
        """Make the folder of the results.

        Raises:
            OutputFileError: the folder cannot be made.
        """
        if self.folder is None or not self.outputs:  # a share of a folder may be empty
            return
        try:
            self.folder.mkdir(exist_ok=True)
            for output in self.outputs:  # scans named after BIDS stay in folders of subjects
                if self.batch:
                    output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputFileError(
                str(self.folder),
                expected="a folder that can be written to",
                got=error.strerror,
                remedy="choose another with --output",
            ) from error
