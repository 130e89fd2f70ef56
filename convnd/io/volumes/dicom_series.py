"""Finds the files of one DICOM series in a folder, or in folders below it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from convnd.errors import InputFileError
from convnd.io.volumes.dicom_dataset import is_dicom, read_header

__all__ = ["SeriesFile", "all_series", "series_files"]

_MAX_FILES = 20_000
_START = 256  # bytes that tell whether a file is a DICOM file
_DICOM_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_LISTED = 8


class SeriesFile(NamedTuple):
    """A file with its data set, without pixels."""

    path: Path
    header: Any


def series_files(folder: Path, series: str = "") -> list[SeriesFile]:
    """List the images of one series.

    Args:
        folder: where to look, see `all_series`.
        series: UID, number or (a part of the) description of the series; "" if there is only one.

    Raises:
        InputFileError: several series to choose from, none of that name, or see `all_series`.
        DependencyError: pydicom is not installed.
    """
    return _chosen(folder, all_series(folder), series)


def all_series(folder: Path) -> dict[str, list[SeriesFile]]:
    """List the images of every series in a folder, by the UID of the series.

    Files that are no images are left out. Folders below are searched if the folder itself has no
    images.

    Args:
        folder: where to look.

    Raises:
        InputFileError: no image, or a file that looks like a damaged slice.
        DependencyError: pydicom is not installed.
    """
    files = _images(folder, (file for file in folder.iterdir()))
    if not files:
        files = _images(folder, folder.rglob("*"))
    if not files:
        raise InputFileError(
            f"read {folder}",
            expected="a folder of DICOM images",
            got="none in it or below",
            remedy=(
                "name a file in it, or the folder of a series, or search folders "
                "for scans (--recursive)"
            ),
        )
    groups: dict[str, list[SeriesFile]] = {}
    for file in files:
        groups.setdefault(str(file.header.SeriesInstanceUID), []).append(file)
    return groups


def _images(folder: Path, paths: Iterable[Path]) -> list[SeriesFile]:
    candidates = []
    for path in paths:
        if path.is_file() and not path.name.startswith("."):
            candidates.append(path)
        if len(candidates) > _MAX_FILES:
            raise InputFileError(
                f"read {folder}",
                expected=f"at most {_MAX_FILES} files",
                got="more",
                remedy="give the folder of one series",
            )
    images, unreadable = [], []
    for path in sorted(candidates):
        _check_link(folder, path)
        with path.open("rb") as stream:
            start = stream.read(_START)
        header = read_header(folder, path) if is_dicom(start) else {}
        if "Rows" in header and "SeriesInstanceUID" in header:
            images.append(SeriesFile(path, header))
        elif not header:
            unreadable.append(path)
    _check_damage(folder, images, unreadable)
    return images


def _check_link(folder: Path, path: Path) -> None:
    """Refuse a link that leads out of the folder: what it leads to would be part of the result."""
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise InputFileError(
            f"read {folder}",
            expected="files in this folder",
            got=f"{path.name}, a link that leads out of it",
            remedy="copy the files themselves (cp -rL), or take the link out",
        )


def _check_damage(folder: Path, images: Sequence[SeriesFile], unreadable: Sequence[Path]) -> None:
    """Refuse a file without DICOM content that is named as the slices are."""
    patterns = {(file.path.parent, _pattern(file.path.name)) for file in images}
    for path in unreadable:
        alike = (path.parent, _pattern(path.name)) in patterns
        if images and (alike or path.suffix.lower() in _DICOM_SUFFIXES):
            content = "an empty file" if path.stat().st_size == 0 else "other content"
            raise InputFileError(
                f"read {folder}",
                expected="a DICOM file under each name like those of the slices",
                got=f"{content} in {path.name}",
                remedy="restore it, or take it out if it is no slice",
            )


def _pattern(name: str) -> str:
    """A name with its numbers taken out."""
    return re.sub("[0-9]+", "#", name.lower())


def _chosen(folder: Path, groups: dict[str, list[SeriesFile]], series: str) -> list[SeriesFile]:
    matching = [uid for uid in groups if not series or series in _names(groups[uid])]
    if not matching and not series.isdigit():  # digits are a number, not a part of a text
        matching = [
            uid for uid in groups if series.lower() in _text(groups[uid], "SeriesDescription")
        ]
    if len(matching) == 1:
        return groups[matching[0]]
    numbers = Counter(_text(files, "SeriesNumber") for files in groups.values())
    listed = [
        f"{number if numbers[number := _text(files, 'SeriesNumber')] == 1 else uid} "
        f"({_text(files, 'SeriesDescription') or 'no description'}, {len(files)} files)"
        for uid, files in groups.items()
        if uid in matching or not matching
    ]
    ending = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    series_text = f" called {series!r}" if series else ""
    count = f"{len(matching)} mixed" if matching else "none of these"
    raise InputFileError(
        f"read {folder}",
        expected=f"one series{series_text}",
        got=f"{count}: {', '.join(listed[:_LISTED])}{ending}",
        remedy="choose one by number, description or UID (--series)",
    )


def _names(files: Sequence[SeriesFile]) -> tuple[str, ...]:
    header = files[0].header
    return tuple(str(header.get(name, "")) for name in ("SeriesInstanceUID", "SeriesNumber"))


def _text(files: Sequence[SeriesFile], name: str) -> str:
    value = files[0].header.get(name)
    return "" if value is None else " ".join(str(value).lower().split())[:60]
