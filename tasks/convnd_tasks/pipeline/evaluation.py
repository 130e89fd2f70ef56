"""The evaluation of a result, with the same steps for every kind of data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd_tasks.modalities import modality_class
from convnd_tasks.modalities.inputs import TransferInputs
from convnd_tasks.modalities.opening import check_input
from convnd_tasks.pipeline.job_options import make_options
from convnd_tasks.pipeline.job_spec import JobSpec
from convnd_tasks.pipeline.kinds import file_paths, infer_dim, is_video, kind_of
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
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> list[Measure]:
    """Measure what a result keeps of its content and takes from its styles.

    Args:
        content: path of the input that was stylised.
        result: path of the output.
        styles: paths or names of built-in styles.
        dim: number of spatial axes, or None to infer it.
        options: fields of the options of the kind of data that say what is measured.
        settings: fields of `JobSettings` that say how files are read.

    Returns:
        The measures of the kind of data.

    Raises:
        UsageError: the files are of several kinds, or an option has no meaning for them.
        InputFileError: a file cannot be read, or the files cannot be compared.
        DependencyError: a package that is needed is missing.
    """
    for role, name in (
        ("content", content),
        ("result", result),
        *(("style", name) for name in styles),
    ):
        check_input(name, role, dim)
    videos = is_video(content, dim) or (Path(content).is_dir() and is_video(result, dim))
    # A folder that holds no video is a DICOM series.
    volumes = videos or Path(content).is_dir()
    axes = 3 if volumes else infer_dim(file_paths([content, result, *styles]), dim)
    kind = kind_of(axes, content, videos=videos)
    settings = settings or {}
    spec = JobSpec(modality=kind, dim=axes, contents=(content,), styles=(), outputs=())
    transfer_options = make_options(spec, options or {}, settings)
    modality = modality_class(kind)(transfer_options, JobSettings(**settings), axes)
    content_data: Any = modality.open(content, "content")
    result_data: Any = modality.open(result, "content", content_data)
    inputs = TransferInputs(
        content=content_data,
        styles=[modality.open(name, "style", content_data) for name in styles],
        names=[content, *styles],
        rate_given="rate" in settings,
    )
    return modality.metrics(inputs, result_data)
