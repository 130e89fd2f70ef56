"""Sheets: small results of several styles and options in one picture, to choose from.

Each cell is a job of its own. The record of the sheet holds the command of each cell, without the
size of the preview, so that ``convnd rerun sheet.png --pick N`` makes the result of a cell.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd import io
from convnd.backbones import choose_device
from convnd.errors import InputFileError, OutputFileError, UsageError
from convnd.io.registry import find_format
from convnd.options import flag_name
from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.results import JobResult
from convnd_tasks.pipeline.folders import result_name
from convnd_tasks.pipeline.job import Job
from convnd_tasks.pipeline.job_options import make_options
from convnd_tasks.pipeline.provenance import job_parameters
from convnd_tasks.pipeline.sheet_cells import (
    DEFAULT_VARIATION,
    Cell,
    parse_variations,
    short_name,
)
from convnd_tasks.pipeline.sheet_drawing import draw_cell, fit_tiles, value_span
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convnd.grid import Grid
    from convnd.transfer.progress import Progress
    from convnd_tasks.pipeline.job_spec import JobSpec

__all__ = ["Sheet", "pick_cell", "sheet_path"]

MOST_CELLS = 100
"""Largest number of cells of a sheet."""

_PREVIEW_SIZE = 256
"""Longest side of a small picture, in pixels."""

_UNUSED_SETTINGS = ("report", "save_every", "checkpoint_every", "resume", "shard", "dry_run")
"""Settings that apply to one result, and not to a sheet."""


class Sheet:
    """The job of a sheet: the results of all cells at a small size, and the picture of them.

    Args:
        spec: content and styles; each style is used alone.
        typed_options: values of the options of the transfer that were typed, by field.
        typed_settings: values of the fields of `JobSettings` that were typed.

    Attributes:
        cells: the cells, style by style.
        spec: as above, with the path of the sheet as output.

    Raises:
        UsageError: there are several contents, a setting does not apply to sheets, or an option
            cannot vary.
        OutputExistsError: the sheet exists and may not be replaced.
        ResourceError: this machine does not have the device of the options.
    """

    def __init__(
        self, spec: JobSpec, typed_options: Mapping[str, Any], typed_settings: Mapping[str, Any]
    ) -> None:
        _check(spec, typed_settings)
        self._settings = JobSettings(**typed_settings)
        self._typed_settings = typed_settings
        variations = parse_variations(self._settings.vary or _default_variation(spec), spec)
        clash = next((name for name in variations if name in typed_options), None)
        if clash is not None:
            raise UsageError(
                "--vary",
                expected="options that have no value yet",
                got=f"{flag_name(clash)} besides it",
                remedy="leave one of the two out",
            )
        self.columns = len([*itertools.product(*variations.values())])
        self.cells = [
            Cell(number, style, dict(zip(variations, values, strict=True)))
            for number, (style, values) in enumerate(
                itertools.product(spec.styles, [*itertools.product(*variations.values())]), 1
            )
        ]
        if len(self.cells) > MOST_CELLS:
            raise UsageError(
                "--sheet",
                expected=f"at most {MOST_CELLS} results",
                got=len(self.cells),
                remedy="give fewer styles, or fewer values to --vary",
            )
        content = spec.contents[0]
        path = sheet_path(spec.styles[0] if content is None else content, self._settings.output)
        self.spec = dataclasses.replace(spec, outputs=(path,), each_style=False, batch=False)
        self._typed = dict(typed_options)
        self._size = self._typed.pop("size", None)
        if self._size is None and "size" not in modality_class(spec.modality).unsupported:
            self._size = _PREVIEW_SIZE if spec.modality == "pictures" else None
        self._options = make_options(self.spec, self._typed, typed_settings)
        choose_device(self._options.device)
        for values in itertools.product(*variations.values()):  # checks them before any work
            varied = dict(zip(variations, values, strict=True))
            make_options(self.spec, {**self._typed, **varied}, {})
        self._pictures: dict[str, NDArray[np.uint8]] = {}
        self._commands: list[dict[str, Any]] = []
        self._span: tuple[float, float] | None = None
        self._started = time.monotonic()
        self.steps = 0

    @property
    def is_instant(self) -> bool:
        """Whether one pass of a network makes each result."""
        return self._options.is_instant

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the networks."""
        return self._options.backbones

    @property
    def path(self) -> Path:
        """Path of the sheet."""
        return self.spec.outputs[0]

    def check_output(self) -> None:
        """Check, before any work, that the sheet can be written.

        Raises:
            OutputExistsError: it exists and may not be replaced.
            OutputFileError: it cannot be written there.
        """
        settings = self._settings
        io.check_output(
            self.path, overwrite=settings.overwrite, provenance=settings.metadata, spatial_dims=2
        )

    def run(
        self,
        cell: Cell,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> JobResult:
        """Make the result of a cell, and draw it.

        Args:
            cell: one of the cells.
            on_progress: is called with every step.
            on_message: is called with lines for users.

        Raises:
            ConvndError: the result cannot be made.
        """
        spec = dataclasses.replace(self.spec, styles=(cell.style,), message="")
        content, settings = spec.contents[0], self._cell_settings()
        typed = {**self._typed, **cell.values}
        final = make_options(spec, typed, {})
        small = typed if self._size is None else {**typed, "size": self._size}
        job = Job(spec, make_options(spec, small, {}), settings)
        inputs = job.open(content)
        outcome = job.run(
            content, None, inputs=inputs, on_progress=on_progress, on_message=on_message
        )
        assert isinstance(outcome, JobResult)  # only a result with a path can be skipped
        if outcome.stopped is not None:
            raise outcome.stopped
        if self._span is None:
            self._span = value_span(inputs.template)
        if cell.number % self.columns == 1 and self.columns > 1:
            style = inputs.styles[0]
            self._pictures[short_name(cell.style)] = draw_cell(style, value_span(style))
        self._pictures[cell.label] = draw_cell(outcome.result, self._span)
        record = job_parameters(spec, content, final, settings)
        name = cell.style if content is None else content
        self._commands.append(
            {
                "command": json.loads(record["convnd:command"]),
                "inputs": json.loads(record["convnd:inputs"]),
                "suffix": "".join(Path(result_name(name, spec.modality, spec.dim)).suffixes[-2:])
                if spec.modality == "volumes"
                else Path(result_name(name, spec.modality, spec.dim)).suffix,
            }
        )
        self.steps += outcome.steps
        return outcome

    def picture(self) -> Grid:
        """Draw the cells that were made, one row for each style."""
        from convnd_tasks.pipeline.in_memory import as_grid
        from convnd_tasks.runtime.contact_sheet import draw_sheet

        tiles = fit_tiles(self._pictures)
        across = self.columns + 1 if self.columns > 1 else None
        content = self.spec.contents[0]
        title = "" if content is None else short_name(content)
        drawn = draw_sheet(tiles, top=1, title=title, across=across)
        return as_grid(drawn, 2)

    def record(self) -> dict[str, str]:
        """Return the record of the sheet, with the command of each cell."""
        content = self.spec.contents[0]
        options = (
            self._options
            if self._size is None
            else make_options(self.spec, {**self._typed, "size": self._size}, self._typed_settings)
        )
        record = job_parameters(self.spec, content, options, self._settings)
        varied = tuple(f"{flag_name(name)}=" for name in self.cells[0].values)
        line = json.loads(record["convnd:command"])
        words = [word for word in line if not word.startswith(varied)]
        return {
            **record,
            "convnd:command": json.dumps(words),
            "convnd:cells": json.dumps(self._commands),
        }

    def write(self) -> tuple[Path, Grid]:
        """Write the sheet; return its path and its picture.

        Raises:
            OutputFileError: it cannot be written.
        """
        picture = self.picture()
        io.write(
            self.path,
            picture,
            overwrite=self._settings.overwrite,
            provenance=self.record() if self._settings.metadata else None,
            quality=self._settings.quality,
        )
        return self.path, picture

    @property
    def seconds(self) -> float:
        """Wall time since the sheet was begun."""
        return time.monotonic() - self._started

    def _cell_settings(self) -> JobSettings:
        without = {"sheet", "vary", "output", "overwrite", "quality", "figures"}
        kept = {name: value for name, value in self._typed_settings.items() if name not in without}
        return JobSettings(**{**kept, "figures": False})


def sheet_path(content: str, output: str | None) -> Path:
    """Return the path of a sheet.

    Args:
        content: path or sample name of the content, or of the first style of a texture.
        output: path as typed, or None.

    Raises:
        OutputFileError: the path is that of another kind of file than a picture.

    >>> sheet_path("photos/town.jpg", None).as_posix()
    'town_sheet.png'
    """
    default = f"{Path(content).name.partition('.')[0] or 'sheet'}_sheet.png"
    if output is None:
        return Path(default)
    path = Path(output)
    if path.is_dir():
        return path / default
    file_format = find_format(path)
    if file_format is None or file_format.spatial_dims != 2:
        raise OutputFileError(
            str(path),
            expected="the name of a picture, since a sheet is one",
            got=path.suffix or "no suffix",
            remedy="for example sheet.png",
        )
    return path


def pick_cell(result: Path, record: Mapping[str, str], number: int) -> tuple[dict[str, str], str]:
    """Return the command and inputs of one cell of a sheet, and the default name of its result.

    Args:
        result: path of the sheet.
        record: record of the sheet, which may be made up; the caller checks the command in it.
        number: number of the cell.

    Raises:
        InputFileError: the file is no sheet.
        UsageError: the sheet has no such cell.
    """
    try:
        cells = json.loads(record["convnd:cells"])
        entries = [(cell["command"], cell["inputs"], cell["suffix"]) for cell in cells]
        valid = entries and all(
            isinstance(suffix, str) and find_format(f"x{suffix}") is not None
            for _, _, suffix in entries
        )
        if not valid:
            raise ValueError
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputFileError(
            "--pick",
            expected="a sheet, as `convnd stylize --sheet` writes it",
            got=f"{result} without cells",
            remedy="leave --pick out",
        ) from error
    if not 1 <= number <= len(entries):
        raise UsageError(
            "--pick", expected=f"1 to {len(entries)}", got=number, remedy="choose one in the sheet"
        )
    command, inputs, suffix = entries[number - 1]
    cell = {"convnd:command": json.dumps(command), "convnd:inputs": json.dumps(inputs)}
    return cell, f"{result.stem}-{number}{suffix}"


def _check(spec: JobSpec, typed_settings: Mapping[str, Any]) -> None:
    if len(set(spec.contents)) > 1:
        raise UsageError(
            "--sheet", expected="one content", got="a folder", remedy="name one file of it"
        )
    if typed_settings.get("regions") is not None:
        raise UsageError(
            "--sheet",
            expected="styles for the whole content",
            got="--regions",
            remedy="leave one of the two out",
        )
    for name in _UNUSED_SETTINGS:
        if typed_settings.get(name):
            raise UsageError(
                f"{flag_name(name)} does not apply to --sheet, which is one picture of many "
                "results; leave it out"
            )


def _default_variation(spec: JobSpec) -> str:
    """Strengths; a texture has none, and a trained network has only that."""
    return "" if spec.contents[0] is None else DEFAULT_VARIATION
