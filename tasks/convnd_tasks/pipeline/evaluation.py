"""Evaluation of a result: the same steps for every kind of data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.io.reading import check_path
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.modalities.base import TransferInputs
from convnd_tasks.pipeline.resolve import file_paths, infer_dim, is_video, kind_of
from convnd_tasks.runtime.settings import JobSettings

if TYPE_CHECKING:
    from convnd_tasks.modalities.metrics import Measure

__all__ = ["evaluate_files"]


def evaluate_files(
    content: str,
    result: str,
    styles: Sequence[str] = (),
    *,
    dim: int | None = None,
    rate: str | None = None,
    series: str = "",
) -> list[Measure]:
    """Measure what a result keeps of its content and takes from its styles.

    Args:
        content: path of what was stylised.
        result: path of what came out.
        styles: paths or names of built-in styles.
        dim: number of spatial axes, or None to infer it.
        rate: samples per second of signals whose files do not hold it.
        series: name of the content in a folder of several DICOM series.

    Raises:
        UsageError: the files do not agree.
        InputFileError: a file cannot be read, or the grids cannot be compared.
        DependencyError: a package that is needed is missing.
    """
    for name in (content, result, *styles):
        check_path(name)
    videos = is_video(content, dim) or (Path(content).is_dir() and is_video(result, dim))
    # A folder that holds no video is a DICOM series.
    volumes = videos or Path(content).is_dir()
    axes = 3 if volumes else infer_dim(file_paths([content, result, *styles]), dim)
    kind = kind_of(axes, content, videos=videos)
    options = options_class(kind).for_dim(axes)
    modality = modality_class(kind)(options, JobSettings(rate=rate, series=series), axes)
    before: Any = modality.open(content, "content")
    after: Any = modality.open(result, "content", before)
    inputs = TransferInputs(
        content=before,
        styles=[modality.open(name, "style", before) for name in styles],
        names=[content, *styles],
        rate_given=rate is not None,
    )
    return modality.metrics(inputs, after)
