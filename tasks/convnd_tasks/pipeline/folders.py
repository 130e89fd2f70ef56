"""Folders of contents: the files that are stylised, and the names of their results."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from convnd import io
from convnd.errors import ConvndError, InputFileError
from convnd.io.registry import find_format, known_suffix, may_hold
from convnd_tasks.pipeline.distinct_names import distinct_names

__all__ = [
    "ARRAY_SUFFIXES",
    "DEFAULT_SUFFIXES",
    "Listing",
    "has_record",
    "list_contents",
    "list_files",
    "list_scans",
    "listed_suffixes",
    "result_name",
    "result_names",
    "typical_file",
]

ARRAY_SUFFIXES = (".npy", ".npz")
"""Suffixes of arrays, which may hold any number of axes."""

DEFAULT_SUFFIXES = {1: ".csv", 2: ".png", 3: ".nii.gz"}
"""The usual suffix of a result by number of spatial axes; ``.npz`` for more."""

# Files with these suffixes are read where users name them; in a folder they are mostly notes.
_NAMED_ONLY = (".txt",)

_WORD = "stylized"
# Names after the Brain Imaging Data Structure: entities, then the kind of image.
_BIDS = re.compile(
    r"(?P<entities>sub-[0-9A-Za-z]+(_(?!desc-)[a-z]+-[0-9A-Za-z+]+)*)(?P<desc>_desc-[0-9A-Za-z+]+)?"
    r"_(?P<suffix>[0-9A-Za-z]+)"
)


class Listing(NamedTuple):
    """The contents of a folder.

    Args:
        files: paths of the contents, sorted.
        left_out: one line about the other files, or "".
    """

    files: list[Path]
    left_out: str


def typical_file(folder: Path, dim: int | None) -> str | None:
    """Return the path of a file of the most common kind in a folder.

    Args:
        folder: the folder.
        dim: number of spatial axes as typed, or None.

    Returns:
        The path; None where no file has the suffix of a known format, or the folder cannot be
        listed.
    """
    with contextlib.suppress(OSError):
        names = sorted(str(path) for path in folder.iterdir() if _is_content(path))
        ranks = {name: io.spatial_dims(name) for name in names}
        fitting = [name for name in names if dim is None or may_hold(name, dim)]
        counts = Counter(ranks[name] for name in fitting)
        for name in fitting:
            if counts[ranks[name]] == max(counts.values()):
                return name
    return None


def list_contents(folder: Path, kind: str, dim: int, *, recursive: bool = False) -> Listing:
    """List the files of a folder that a job stylises.

    Hidden files, files of other kinds and results of this program are left out.

    Args:
        folder: the folder.
        kind: name of the kind of data, see `convnd_tasks.modalities`.
        dim: number of spatial axes.
        recursive: whether to search the folders in it, too.

    Raises:
        InputFileError: the folder cannot be listed, or has no such file.
    """
    suffixes = io.VIDEO_SUFFIXES if kind == "videos" else listed_suffixes()
    rank = None if kind == "videos" else dim
    if kind == "volumes":
        fitting = list_scans(folder, recursive=recursive)
    else:
        fitting = list_files(folder, suffixes, dim=rank, recursive=recursive)
    marks = (f"_{_WORD}", f"{_WORD}_")
    files = [
        path
        for path in fitting
        if not (any(mark in path.name for mark in marks) and has_record(path))
    ]
    parts = {part for path in fitting for part in io.files_read(path)}
    left_out: Counter[str] = Counter()
    for path in folder.rglob("*") if recursive else folder.iterdir():
        if path.is_dir() and not recursive:
            left_out["folders"] += 1
        elif path.is_file() and path not in parts and path.parent not in parts:
            left_out[path.suffix.lower() or "files without a suffix"] += 1
    if len(fitting) > len(files):
        left_out["results of convnd"] = len(fitting) - len(files)
    if not files:
        raise InputFileError(
            folder.as_posix(),
            expected=f"{kind} that are not results of convnd",
            got="none",
            remedy="give another folder",
        )
    text = ", ".join(f"{name} ({count})" for name, count in sorted(left_out.items()))
    text += "; --recursive searches folders" if "folders" in left_out else ""
    return Listing(files, f"not stylised: {text}" if text else "")


def listed_suffixes() -> list[str]:
    """List the suffixes of files that count as contents of a folder: all but ``.txt``.

    >>> ".csv" in listed_suffixes(), ".txt" in listed_suffixes()
    (True, False)
    """
    return [suffix for suffix in io.suffixes() if suffix not in _NAMED_ONLY]


def list_scans(folder: Path, *, recursive: bool = False) -> list[Path]:
    """List the scans in a folder, sorted: files of one scan each, and folders of DICOM series.

    Args:
        folder: the folder.
        recursive: whether to search the folders in it, too.

    Raises:
        InputFileError: the folder cannot be listed, or has no scan.
    """
    files = _visible_files(folder, recursive=recursive)
    formats = {path: find_format(path) for path in files}
    scans, parts = set[Path](), set[Path]()
    for path in files:
        entry = formats[path]
        if entry is None or path in parts or path.name.endswith(".json"):
            continue
        if entry.name == "DICOM":
            if recursive and io.spatial_dims(path) == 3:
                scans.add(path.parent)
        elif entry.spatial_dims in (None, 3):
            scans.add(path)
            parts.update(io.files_read(path)[1:])
    if not scans:
        raise InputFileError(
            str(folder),
            expected="scans, one in each file",
            got="none",
            remedy="give another folder, or search the folders in it (--recursive)",
        )
    return sorted(scans)


def list_files(
    folder: Path, suffixes: Sequence[str], *, dim: int | None = None, recursive: bool = False
) -> list[Path]:
    """List the files of some formats in a folder, sorted, without hidden ones.

    Args:
        folder: the folder.
        suffixes: suffixes of the formats.
        dim: number of spatial axes that the format of a file must allow, or None.
        recursive: whether to search the folders in it, too.

    Raises:
        InputFileError: the folder cannot be listed, or has no such file.
    """
    endings = tuple(suffixes)
    files = [
        path
        for path in _visible_files(folder, recursive=recursive)
        if path.name.lower().endswith(endings) and (dim is None or may_hold(path, dim))
    ]
    if not files:
        axes = "" if dim is None else f" with {dim} spatial axes"
        raise InputFileError(
            str(folder),
            expected=f"files of a known kind{axes} ({_few_suffixes(suffixes, dim)})",
            got="none",
            remedy="give another folder",
        )
    return files


def _visible_files(folder: Path, *, recursive: bool) -> list[Path]:
    """The files of a folder, sorted, without hidden ones.

    Raises:
        InputFileError: the folder cannot be listed.
    """
    try:
        paths = sorted(folder.rglob("*") if recursive else folder.iterdir())
    except OSError as error:
        raise InputFileError(
            str(folder),
            expected="a folder that can be listed",
            got=error.strerror,
            remedy="check its permissions",
        ) from error
    return [path for path in paths if not path.name.startswith(".") and path.is_file()]


def _few_suffixes(suffixes: Sequence[str], dim: int | None) -> str:
    """The first suffixes that hold a number of axes, for a message."""
    fitting = [end for end in suffixes if dim is None or may_hold(f"x{end}", dim)]
    return ", ".join(fitting[:6]) + (", …" if len(fitting) > 6 else "")


def result_name(content: str, kind: str, dim: int) -> str:
    """Name the result of one content.

    Args:
        content: path of the content.
        kind: name of the kind of data.
        dim: number of spatial axes.

    >>> result_name("scans/a.nii", "volumes", 3), result_name("ecg.edf", "signals", 1)
    ('a_stylized.nii.gz', 'ecg_stylized.edf')
    >>> result_name("sub-01_ses-2_T1w.nii.gz", "volumes", 3)
    'sub-01_ses-2_desc-stylized_T1w.nii.gz'
    """
    stem, suffix = _split_suffix(content)
    return f"{_result_stem(stem, kind)}{_result_suffix(content, suffix.lower(), kind, dim)}"


def result_names(contents: Sequence[str], kind: str, dim: int, folder: Path | None) -> list[str]:
    """Name the results of a folder, each differently.

    The names of folders below the folder come before the name of a file; scans with names after
    BIDS keep their folders. Results that would have the same name keep the suffixes of their
    contents in it, and get numbers if that does not help.

    Args:
        contents: paths of the contents.
        kind: name of the kind of data.
        dim: number of spatial axes.
        folder: the folder that holds all contents; None leaves folders out of the names.

    >>> result_names(["x.png", "x.jpg", "x.png.jpg", "y.png"], "pictures", 2, None)
    ['x.png_stylized.png', 'x.jpg_stylized.png', 'x.png.jpg_stylized.png', 'y_stylized.png']
    """
    prefixes = ["" if folder is None else _folders_below(Path(c), folder, kind) for c in contents]
    split = [_split_suffix(content) for content in contents]
    whole = [False] * len(contents)

    def names() -> list[str]:
        return [
            f"{prefix}{_result_stem(stem + (suffix if full else ''), kind)}"
            f"{_result_suffix(content, suffix.lower(), kind, dim)}"
            for content, prefix, (stem, suffix), full in zip(
                contents, prefixes, split, whole, strict=True
            )
        ]

    while True:
        results = names()
        counts = Counter(name.lower() for name in results)  # some file systems ignore case
        clashing = [counts[name.lower()] > 1 for name in results]
        if not any(clash and not full for clash, full in zip(clashing, whole, strict=True)):
            return distinct_names(results)
        whole = [full or clash for clash, full in zip(clashing, whole, strict=True)]


def _is_content(path: Path) -> bool:
    suffix = known_suffix(path)
    return not path.name.startswith(".") and suffix in listed_suffixes() and path.is_file()


def has_record(path: Path) -> bool:
    """Whether a file or folder holds the record of a result of this program."""
    with contextlib.suppress(ConvndError):
        return bool(io.read_provenance(path))
    return False


def _result_stem(stem: str, kind: str) -> str:
    """The stem of a result; that of a scan named after BIDS is a name after BIDS, too."""
    name = _BIDS.fullmatch(stem) if kind == "volumes" else None
    if name is None:
        return f"{stem}_{_WORD}"
    description = name["desc"] or "_desc-"
    return f"{name['entities']}{description}{_WORD}_{name['suffix']}"


def _folders_below(content: Path, folder: Path, kind: str) -> str:
    if content == folder:
        return ""
    parts = content.parent.relative_to(folder).parts
    mark = "/" if kind == "volumes" and _BIDS.fullmatch(_split_suffix(str(content))[0]) else "-"
    return "".join(f"{part}{mark}" for part in parts)


def _split_suffix(content: str) -> tuple[str, str]:
    path = Path(content)
    name = path.resolve().name if path.is_dir() else path.name
    length = len(name) - len(known_suffix(name))
    return name[:length], name[length:]


def _result_suffix(content: str, suffix: str, kind: str, dim: int) -> str:
    """The suffix of a result.

    Arrays stay arrays, which hold anything, and signals keep their format, because no other holds
    all that it does. The rest gets the usual format of its kind.
    """
    if kind == "videos":
        if Path(content).is_dir():
            return ""
        from convnd.io.video.codecs import CONTAINERS

        return suffix if suffix in CONTAINERS else ".mp4"
    if kind == "volumes" or (dim == 4 and suffix and suffix not in ARRAY_SUFFIXES):
        return _scan_suffix(content)
    keeps = suffix in ARRAY_SUFFIXES or (dim == 1 and io.is_written(suffix))
    return suffix if keeps else DEFAULT_SUFFIXES.get(dim, ".npz")


def _scan_suffix(content: str) -> str:
    """The suffix of a scan's result: DICOM files become such files again, a series a folder."""
    if Path(content).is_dir():
        return ""
    entry = find_format(content)
    return ".dcm" if entry is not None and entry.name == "DICOM" else DEFAULT_SUFFIXES[3]
