"""Opening of a training: from names of files to the job that learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.backbones import choose_device
from convnd.errors import UsageError
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.modalities.style_network import is_network
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.pipeline.training import DEFAULTS, DEFAULTS_ABOVE, TrainingJob
from convnd_tasks.pipeline.training_contents import list_data
from convnd_tasks.runtime.settings import JobSettings
from convnd_tasks.samples import head, phantom

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.pipeline.training_options import TrainingOptions

__all__ = ["job_class", "make_modality", "open_job"]


def make_modality(kind: str, dim: int, options: TrainingOptions) -> Modality:
    """Make the kind of data with the options of its objective.

    Args:
        kind: name of the kind of data, see `convnd_tasks.modalities`.
        dim: number of spatial axes.
        options: options of the training.

    Raises:
        UsageError: no network can be trained for this kind of data, or an option does not fit.
    """
    if kind == "videos":
        raise UsageError(
            "train",
            expected="pictures, signals, arrays or volumes",
            got="videos",
            remedy="train on pictures (--dim 2); such a network takes videos frame by frame",
        )
    defaults = DEFAULTS.get(dim, DEFAULTS_ABOVE)
    values: dict[str, Any] = {
        "backbone": options.backbone or ("compact-1d" if dim == 1 else "compact"),
        "content_weight": options.content_weight,
        "style_weight": defaults.get("style_weight")
        if options.style_weight is None
        else options.style_weight,
        "style_scale": options.style_scale,
        "tv_weight": options.tv_weight,
        "device": options.device,
        "seed": options.seed,
    }
    size = defaults["size"] if options.size is None else options.size
    values |= {"transfer": "paint"} if kind == "volumes" else {"size": size}
    transfer_options = options_class(kind).for_dim(dim, **values)
    modality = modality_class(kind)(transfer_options, JobSettings(), dim)
    modality.check()
    return modality


def job_class(kind: str, styles: Sequence[Grid], options: TrainingOptions) -> type[TrainingJob]:
    """Choose what a network learns: patterns, or the look of a scan.

    Args:
        kind: name of the kind of data.
        styles: the styles.
        options: options of the training.

    Raises:
        UsageError: ``transfer`` does not fit the data.
    """
    scans = kind == "volumes" and all(style.ndim == 3 for style in styles)
    if options.transfer == "look" and not scans:
        raise UsageError(
            "--transfer",
            expected="a scan as style for look",
            got="pictures" if kind == "volumes" else kind,
            remedy="leave it out",
        )
    if scans and options.transfer != "paint":
        from convnd_tasks.pipeline.look_training import LookTrainingJob

        return LookTrainingJob
    return TrainingJob


def open_job(
    styles: Sequence[str],
    dim: int | None,
    data: str | None,
    options: TrainingOptions,
    output: Path | None,
) -> TrainingJob:
    """Open the files of a training.

    Args:
        styles: paths or names of built-in samples.
        dim: number of spatial axes as typed, or None.
        data: path of the folder of contents; None takes the built-in ones.
        options: options of the training.
        output: path of the network's file, which has to end in ".safetensors"; None writes none.

    Raises:
        UsageError: the files disagree, nothing tells the rank, or an option does not fit.
        InputFileError: a style or the folder cannot be read.
        ResourceError: this machine does not have the device of the options.
    """
    if output is not None and not is_network(output.name):
        raise UsageError(
            "--output",
            expected="a name that ends in .safetensors",
            got=repr(output.name),
            remedy="for example style.safetensors",
        )
    choose_device(options.device)
    rank, kind = infer_kind(styles, dim, None, None, texture=True)
    if kind == "arrays" and styles[0] in (*phantom.STYLES, *head.STYLES):
        kind = "volumes"  # a texture of them is an array, a network for them is for scans
    modality = make_modality(kind, rank, options)
    contents = [] if data is None else list_data(data, kind, rank)
    example = None  # built-in styles of scans have its voxels
    if kind == "volumes":
        example = modality.open(contents[0] if contents else "chest", "content")
    grids = [modality.open(name, "style", example) for name in styles]
    return job_class(kind, grids, options)(modality, grids, styles, contents, options)
