"""From what people type to what is to be done: which files, which rank, where results go."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convnd import io
from convnd.errors import InputFileError, OutputFileError, UsageError
from convnd.transfer.options import TransferOptions
from convnd_tasks import samples
from convnd_tasks.modalities.arrays import ArrayOptions
from convnd_tasks.modalities.base import Inputs
from convnd_tasks.modalities.images.options import ImageOptions
from convnd_tasks.modalities.signals.options import SignalOptions

if TYPE_CHECKING:
    from convnd.grid import Grid

__all__ = ["Plan", "infer_dim", "is_film", "make_plan", "open_input", "suffixed", "with_rate"]

# Longest axis of the built-in demo: a minute on two cores.
_DEMO_SIZE = {1: 0, 2: 320, 3: 40}  # 0: its own
_SUFFIX = {1: ".csv", 2: ".png", 3: ".nii.gz"}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Transfers that share their styles.

    Args:
        dim: number of spatial axes.
        contents: path or name of a sample for each transfer; None is a texture.
        styles: path or name of a sample of each style.
        outputs: where each result goes.
        start: file to start with, or None.
        size: longest axis of the result, where none is asked for.
        batch: contents come from a folder, and one that fails leaves the others alone.
        remark: what people should be told beforehand, or "".
    """

    dim: int
    contents: tuple[str | None, ...]
    styles: tuple[str, ...]
    outputs: tuple[Path, ...]
    start: str | None = None
    size: int = 512
    batch: bool = False
    remark: str = ""

    @property
    def scans(self) -> bool:
        """Whether these are files of scans, in millimetres: no arrays, no built-in samples."""
        return self.dim == 3 and all(
            name is not None
            and bool(Path(name).suffix or Path(name).is_dir())
            and not name.lower().endswith((".npy", ".npz"))
            for name in self.contents
        )

    @property
    def options(self) -> type[TransferOptions]:
        """The options of this kind of data."""
        return {1: SignalOptions, 2: ImageOptions}.get(self.dim, ArrayOptions)

    def make_folder(self) -> None:
        """Make the folder of a batch's results.

        Raises:
            OutputFileError: it cannot be made.
        """
        if self.outputs:  # a share of a folder may be empty
            _make_folder(self.outputs[0].parent)

    def shard(self, number: int, count: int) -> Plan:
        """Of a folder every ``count``-th transfer, from the ``number``-th, counted from 1."""
        own = slice(number - 1, None, count)
        return dataclasses.replace(self, contents=self.contents[own], outputs=self.outputs[own])

    def open(
        self, seed: int, *, overwrite: bool, rate: float | None = None
    ) -> Iterator[tuple[Callable[[], Inputs], Path]]:
        """For each transfer what reads its inputs, and its output; styles are read once.

        Args:
            seed: of samples.
            overwrite: replace existing results.
            rate: samples per second of signals whose files do not say it.

        Raises:
            ConvndError: a single content, a style or the start cannot be read, or the output not
                be written; before any work is done.
        """
        read = partial(open_input, dim=self.dim, seed=seed, rate=rate)
        first: Grid | None = None
        if not self.batch:
            io.check_output(self.outputs[0], overwrite=overwrite)
            if self.contents[0] is not None:
                first = read(self.contents[0], role="content")
        styles = [read(name, role="style") for name in self.styles]
        start = None if self.start is None else read(self.start, role="content")
        if self.batch:
            self.make_folder()

        def inputs(name: str | None) -> Inputs:
            content = read(name, role="content") if first is None and name is not None else first
            names = [each for each in (name, *self.styles, self.start) if each is not None]
            typed = () if rate is None else (f"--rate={rate!r}",)
            return Inputs(content=content, styles=styles, names=names, start=start, typed=typed)

        for content, output in zip(self.contents, self.outputs, strict=True):
            yield partial(inputs, content), output


def make_plan(
    files: Sequence[str],
    dim: int | None,
    output: Path | None,
    *,
    texture: bool = False,
    start: str | None = None,
) -> Plan:
    """Work out what ``convnd stylize`` is asked to do; no file is opened.

    Args:
        files: content and styles; nothing is the built-in demo.
        dim: number of spatial axes, or None.
        output: result, or None for the default.
        texture: every file is a style.
        start: file to start with, or None.

    Raises:
        UsageError: the files do not agree with each other or with ``dim``.
        InputFileError: a folder without a file of a known kind.

    >>> make_plan(["photo.jpg", "painting.png"], None, None).outputs[0].name
    'photo_stylized.png'
    """
    if texture and not files:
        raise UsageError("--texture: expected at least one style, got no file; give one")
    batch = bool(files) and not texture and Path(files[0]).is_dir()
    if batch and dim == 3:
        batch = not _is_series(Path(files[0]))
    contents: tuple[str | None, ...] = tuple(files[:1])
    if batch:
        contents = tuple(map(str, _known_files(Path(files[0]))))
    elif texture:
        contents = (None,)
    given = [*contents[:1], *(files if texture else files[1:]), start]
    dim = infer_dim(suffixed(given), dim)
    styles = tuple(files) if texture else tuple(files[1:])
    remark = ""
    if not styles:
        styles = (samples.styles(dim)[0],)
        if files:
            remark = f"no style given, using the built-in one: {styles[0]}"
    size = 512 if dim == 2 else 0
    if not files:
        contents = (samples.contents(dim)[0],)
        size = _DEMO_SIZE.get(dim, 24)
    if batch:
        folder = output or Path(f"{Path(files[0]).resolve().name}_stylized")
        outputs = tuple(folder / name for name in _result_names(contents, dim))
    elif not files:
        # The demo must work a second time, and must not replace the first picture.
        outputs = (output or io.next_free_path(Path(f"stylized{_SUFFIX.get(dim, '.npz')}")),)
    else:
        outputs = (output or Path(_result_names([contents[0] or styles[0]], dim)[0]),)
    return Plan(
        dim=dim,
        contents=contents,
        styles=styles,
        outputs=outputs,
        start=start,
        size=size,
        batch=batch,
        remark=remark,
    )


def infer_dim(files: Sequence[Path], dim: int | None) -> int:
    """The number of spatial axes that all files and ``--dim`` agree on.

    Args:
        files: paths; only their suffixes are looked at.
        dim: as asked for, or None.

    Raises:
        UsageError: two of them disagree, or nothing tells.

    >>> infer_dim([Path("photo.jpg")], None)
    2
    """
    told_by = "--dim says"
    for path in files:
        found = io.spatial_dims(path)
        if found is not None and dim is not None and found != dim:
            raise UsageError(
                f"--dim: expected {found}, which is what {path} holds, got {dim}, which {told_by}; "
                "give files of one kind, or another --dim"
            )
        if dim is None and found is not None:
            dim, told_by = found, f"{path} holds"
    if dim is None:
        raise UsageError(
            "--dim: expected 1 for signals, 2 for images or 3 for volumes, got none and no file "
            "that tells; add --dim"
        )
    return dim


def is_film(name: str, dim: int | None) -> bool:
    """Whether an input is a clip: its frames are looked at one by one, by other commands' means.

    Args:
        name: path, or name of a sample.
        dim: number of spatial axes as asked for, or None; a GIF is a picture unless it is 3.

    >>> is_film("a.mp4", None), is_film("a.gif", None), is_film("a.gif", 3), is_film("a.nii", 3)
    (True, False, True, False)
    """
    suffix = Path(name).suffix.lower()
    return suffix in io.VIDEO_SUFFIXES and (dim == 3 or (dim is None and suffix != ".gif"))


def suffixed(names: Sequence[str | None]) -> list[Path]:
    """Those of the names that are files: samples have no suffix."""
    return [Path(name) for name in names if name is not None and Path(name).suffix]


def open_input(name: str, dim: int, *, role: str, seed: int, rate: float | None = None) -> Grid:
    """A file, or a built-in sample when a sample of that name exists and a file does not.

    Args:
        name: path, or name of a sample.
        dim: number of spatial axes expected.
        role: ``"content"`` or ``"style"``.
        seed: of a sample.
        rate: samples per second of a signal whose file does not say it.

    Raises:
        UsageError: ``rate`` for what has no time axis, or another than the file says.
        InputFileError: see `convnd.io.read`; or the file holds another number of axes.
    """
    path = Path(name)
    make = {"content": samples.content, "style": samples.style}[role]
    if not path.suffix and not path.exists():
        return make(name, spatial_dims=dim, seed=seed)  # or the error that lists their names
    grid = io.read(path)
    if grid.ndim != dim:
        raise InputFileError(
            f"{path}: expected {dim} spatial axes, got {grid.ndim}; use --dim {grid.ndim} or "
            "another file"
        )
    return grid if rate is None else with_rate(grid, rate, name)


def with_rate(grid: Grid, rate: float, name: str) -> Grid:
    """A signal that does not know its sampling rate, with it.

    Args:
        grid: one spatial axis.
        rate: samples per second.
        name: of the file, for messages.

    Raises:
        UsageError: the rate is not positive, the grid is no signal, or it knows another rate.
    """
    if not 0 < rate < math.inf:
        raise UsageError(f"--rate: expected a positive finite number, got {rate:g}; correct it")
    if grid.ndim != 1:
        raise UsageError(
            f"--rate: expected signals, got {name} with {grid.ndim} spatial axes; leave it out"
        )
    if grid.units == ("px",):
        return dataclasses.replace(grid, spacing=(1 / rate,), units=("s",), axes=("t",))
    known = 1 / grid.spacing[0]
    if not math.isclose(known, rate, rel_tol=1e-6):
        raise UsageError(
            f"--rate: expected {known:g}, which is what {name} says, got {rate:g}; leave it out"
        )
    return grid


def _is_series(folder: Path) -> bool:
    """Whether a folder is one scan, of a slice a file, and not several scans."""
    try:
        names = [path.name.lower() for path in folder.iterdir() if path.is_file()]
    except OSError:
        return False  # which the reader of the folder will say
    volumes = [
        suffix
        for suffix in io.suffixes()
        if suffix != ".dcm" and io.spatial_dims(f"x{suffix}") == 3
    ]
    return bool(names) and not any(name.endswith((*volumes, ".npy", ".npz")) for name in names)


def _known_files(folder: Path) -> list[Path]:
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and path.name.lower().endswith(tuple(io.suffixes()))
        )
    except OSError as error:
        raise InputFileError(
            f"{folder}: expected a folder that can be listed, got {error.strerror}; check it"
        ) from error
    if not found:
        raise InputFileError(
            f"{folder}: expected files of a known kind ({', '.join(io.suffixes())}), got none; "
            "give another folder"
        )
    return found


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputFileError(
            f"{folder}: expected a folder that can be written to, got {error.strerror}; choose "
            "another with --output"
        ) from error


def _result_names(contents: Sequence[str | None], dim: int) -> list[str]:
    # Arrays go back into arrays, which hold anything, and signals into their own format, for no
    # other keeps all that it knows; the rest into the usual one of the rank.
    split = []
    for content in contents:
        name = Path(content or "").name
        ending = next(
            (
                end
                for end in sorted(io.suffixes(), key=len, reverse=True)
                if name.lower().endswith(end)
            ),
            "",
        )
        split.append((name[: len(name) - len(ending)], ending))
    stems = [stem for stem, _ in split]
    return [
        # x.png and x.jpg in one folder must not go to one file.
        f"{stem if stems.count(stem) == 1 else stem + ending}_stylized"
        + (ending.lower() if _keeps(ending.lower(), dim) else _SUFFIX.get(dim, ".npz"))
        for stem, ending in split
    ]


def _keeps(ending: str, dim: int) -> bool:
    return ending in (".npy", ".npz") or (dim == 1 and io.is_written(ending))
