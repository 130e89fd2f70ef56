"""Folders of several DICOM series: a folder for each of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd_tasks.view.folder import plain_name

if TYPE_CHECKING:
    from convnd.io.volumes.dicom_series import SeriesFile

__all__ = ["split_series"]

_LONGEST = 60


def split_series(folder: Path) -> list[dict[str, Any]]:
    """Move the files of each series into a folder of its own, if there are several.

    Args:
        folder: a folder that the page has stored. It is removed when its files have moved.

    Returns:
        For each series its folder, its description, its modality and its number of slices.

    Raises:
        InputFileError: it holds no images, or a damaged one.
    """
    from convnd import io
    from convnd.io.volumes.dicom_series import all_series

    groups = sorted(all_series(folder).values(), key=_order)
    if len(groups) == 1:
        return [_describe(folder, groups[0])]
    series = []
    for files in groups:
        name = plain_name(f"{folder.name} - {_title(files)}".replace("/", "_"))
        target = io.next_free_path(folder.parent / name)
        target.mkdir()
        for file in files:
            file.path.rename(target / file.path.name)
        series.append(_describe(target, files))
    shutil.rmtree(folder)
    return series


def _describe(folder: Path, files: Sequence[SeriesFile]) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "text": _title(files),
        "modality": _text(files, "Modality"),
        "slices": sum(int(file.header.get("NumberOfFrames") or 1) for file in files),
    }


def _title(files: Sequence[SeriesFile]) -> str:
    number = _text(files, "SeriesNumber")
    return _text(files, "SeriesDescription") or f"series {number}".rstrip()


def _order(files: Sequence[SeriesFile]) -> tuple[int, str]:
    number = _text(files, "SeriesNumber")
    return (int(number) if number.isascii() and number.isdigit() else 10**9, str(files[0].path))


def _text(files: Sequence[SeriesFile], name: str) -> str:
    value = files[0].header.get(name)
    return "" if value is None else " ".join(str(value).split())[:_LONGEST]
