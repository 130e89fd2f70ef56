"""`convnd.train`: the training of a network as a function, for files and data in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convnd.options import flags_of
from convnd.registry import unknown_name
from convnd_tasks.pipeline.in_memory import as_input, is_name, kind_of_grid
from convnd_tasks.pipeline.training_options import TrainingOptions

if TYPE_CHECKING:
    from convnd.feedforward.look_net import LookNet
    from convnd.feedforward.transform_net import TransformNet
    from convnd.transfer.progress import Progress
    from convnd_tasks.pipeline.api import Data
    from convnd_tasks.pipeline.training import TrainingJob

__all__ = ["train"]


def train(
    style: Data | Sequence[Data],
    *,
    dim: int | None = None,
    data: str | os.PathLike[str] | Sequence[Data] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
    **options: Any,
) -> TransformNet | LookNet:
    """Train a network that gives contents one style in a single pass, over any number of axes.

    The network minimises the objective of style transfer over many contents (Johnson et al., 2016),
    see `convnd.transfer.training.train_network`.

    Args:
        style: one style or several, of the types that `convnd.stylize` takes.
        dim: number of spatial axes, for names, tensors or arrays that do not tell.
        data: path of a folder of contents, or contents in memory; None takes the built-in ones.
        out: path of the network's file, for ``convnd stylize FILE style.safetensors``; None writes
            none.
        overwrite: whether an existing file may be replaced.
        on_progress: is called with every step.
        on_message: is called with lines for users.
        options: options of ``convnd train``, with underscores: fields of `TrainingOptions`.

    Returns:
        The network, a ``torch.nn.Module`` from values ``(B, C, *S)`` of about ``[0, 1]`` to values
        of the same shape. Pictures have three channels. Other data have one; each of their channels
        is an item of the batch.

    Raises:
        UsageError: an option does not exist, does not apply, or is out of range.
        InputFileError: a style or content cannot be read, or does not fit.
        NumericalError: a loss is not finite.

    >>> import torch
    >>> wave = torch.linspace(0, 99, 400).sin()
    >>> net = train(wave, dim=1, data=[wave.abs()], steps=1, width=4, levels=1, blocks=1)
    >>> tuple(net(torch.zeros(2, 1, 100)).shape)
    (2, 1, 100)
    """
    import torch

    names = flags_of(TrainingOptions)
    for name in options:
        if name not in names:
            raise unknown_name("option", name, sorted(names))
    styles = list(style) if isinstance(style, list | tuple) else [style]
    target = None if out is None else Path(out)
    with torch.inference_mode(mode=False), torch.enable_grad():  # whatever the caller chose
        job = _open_job(styles, data, dim, TrainingOptions(**options), target)
        result = job.run(
            target, overwrite=overwrite, on_progress=on_progress, on_message=on_message
        )
    if result.stopped is not None:
        raise result.stopped
    return result.trained.network


def _open_job(
    styles: Sequence[Any], data: Any, dim: int | None, options: TrainingOptions, output: Path | None
) -> TrainingJob:
    """Open the styles and the contents of a training, which are files or in memory."""
    from convnd_tasks.pipeline.training_contents import list_data
    from convnd_tasks.pipeline.training_job import job_class, make_modality, open_job

    folder = os.fspath(data) if is_name(data) else None
    contents = [] if data is None or folder is not None else list(data)
    if all(map(is_name, styles)) and not contents:
        return open_job([os.fspath(name) for name in styles], dim, folder, options, output)
    grids = [as_input(style, dim, "style", None) for style in styles]
    rank, kind = grids[0].ndim, kind_of_grid(grids[0])
    names = [f"style {number}" for number in range(1, len(grids) + 1)]
    if folder is None:
        contents = [as_input(content, rank, "content", None) for content in contents]
    else:
        contents = list_data(folder, kind, rank)
    make_job = job_class(kind, grids, options)
    return make_job(make_modality(kind, rank, options), grids, names, contents, options)
