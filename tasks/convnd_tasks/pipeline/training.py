"""The job of ``convnd train``: from names of inputs to the file of a network."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from convnd import __version__
from convnd.backbones import choose_device
from convnd.errors import UsageError
from convnd.feedforward.network_file import StyleNetwork, write_network
from convnd.feedforward.network_shape import NetworkShape
from convnd.feedforward.transform_net import TransformNet
from convnd.io.atomic import atomic_path, check_target
from convnd.transfer.objective import TransferObjective
from convnd.transfer.training import TrainingPlan, train_network
from convnd_tasks.modalities import modality_class, options_class
from convnd_tasks.modalities.style_network import is_network, stored_style
from convnd_tasks.pipeline.kinds import infer_kind
from convnd_tasks.pipeline.provenance import input_entry, versions
from convnd_tasks.pipeline.training_contents import ContentPool, list_data
from convnd_tasks.pipeline.training_options import TrainingOptions
from convnd_tasks.runtime.checkpoints import Checkpointer, RunLog
from convnd_tasks.runtime.settings import JobSettings
from convnd_tasks.samples import head, phantom

if TYPE_CHECKING:
    from convnd.grid import Grid
    from convnd.transfer.progress import Progress
    from convnd_tasks.modalities.base import Modality
    from convnd_tasks.modalities.inputs import PreparedInputs

__all__ = ["TrainingJob", "TrainingResult", "make_modality", "open_job"]

_DEFAULTS: dict[int, dict[str, int]] = {
    1: {"steps": 600, "crop": 8192, "batch": 1, "size": 0},
    # 1400 steps take 15 minutes on two cores with AVX2.
    # With the weight of `stylize` a network for pictures gives up the content for the style.
    2: {"steps": 1400, "crop": 256, "batch": 1, "size": 512, "style_weight": 6, "motion_weight": 1},
    3: {"steps": 800, "crop": 32, "batch": 1, "size": 0},
}
_DEFAULTS_ABOVE = {"steps": 200, "crop": 16, "batch": 1, "size": 0}


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A trained network and the course of its training.

    Args:
        trained: the network with its styles and its record.
        losses: the objective ("total") and its weighted terms at every step.
        seconds: wall time of the training.
        stopped: the signal that ended it early, or None.
    """

    trained: StyleNetwork
    losses: Mapping[str, Sequence[float]]
    seconds: float
    stopped: BaseException | None = None


class TrainingJob:
    """Trains a network for one set of styles.

    Args:
        modality: the kind of data with the options of the objective, see `make_modality`.
        styles: the styles, at least one.
        names: paths or sample names of the styles.
        contents: paths of files, or grids; empty takes the built-in contents.
        options: options of the training.
    """

    def __init__(
        self,
        modality: Modality,
        styles: Sequence[Grid],
        names: Sequence[str],
        contents: Sequence[str | Grid],
        options: TrainingOptions,
    ) -> None:
        self.kind, self.dim, self.options = modality.name, modality.spatial_dims, options
        self.styles, self.names, self.modality, self.contents = styles, names, modality, contents
        self.pool = ContentPool.of(modality, styles, names, contents)
        defaults = _DEFAULTS.get(self.dim, _DEFAULTS_ABOVE)
        self.plan = TrainingPlan(
            steps=options.steps or defaults["steps"],
            crop=options.crop or defaults["crop"],
            batch=options.batch or defaults["batch"],
            learning_rate=options.learning_rate,
            motion_weight=defaults.get("motion_weight", 0)
            if options.motion_weight is None
            else options.motion_weight,
            tolerance=options.tolerance,
            seed=options.seed,
        )

    def run(
        self,
        output: Path | None,
        *,
        overwrite: bool = False,
        on_progress: Callable[[Progress], None] | None = None,
        on_message: Callable[[str], None] | None = None,
    ) -> TrainingResult:
        """Train the network, and write its file.

        Args:
            output: path of the file; None writes nothing.
            overwrite: whether an existing file may be replaced.
            on_progress: is called with every step.
            on_message: is called with lines for users.

        Raises:
            OutputExistsError: the file exists and may not be replaced.
            InputFileError: no content can be read, or they do not fit the styles.
            NumericalError: a loss is not finite.
        """
        started = time.monotonic()
        if output is not None:
            check_target(output, overwrite=overwrite or self.options.resume)
        self.pool.on_message = on_message or self.pool.on_message
        example = self.pool.example()
        network = self._make_network(example)
        objective = self._make_objective(example)
        network.to(objective.device)
        every = self.options.checkpoint_every if output is not None else 0
        checkpointer = Checkpointer(output or Path("network"), every)
        state = checkpointer.open(
            self.options,
            [self.kind, self.dim, *self.pool.fingerprint(), *example.styles],
            resume=self.options.resume,
        )
        log = RunLog()

        def on_step(progress: Progress) -> None:
            if on_progress is not None:
                on_progress(progress)
            if output is not None:
                self._preview(network, output, progress, log.losses)

        steps = train_network(network, self.pool.draw, objective, self.plan, resume=state)
        log.follow(_until(steps, started, 60 * self.options.minutes), checkpointer, on_step)
        seconds = time.monotonic() - started
        trained = StyleNetwork(
            network=network.cpu().eval().requires_grad_(requires_grad=False),
            kind=self.kind,
            styles=[stored_style(style) for style in self.styles],
            record=self._record(log),
        )
        if output is not None:
            write_network(output, trained, overwrite=overwrite or self.options.resume)
            if log.stopped is None:
                checkpointer.close()
        return TrainingResult(
            trained=trained, losses=log.losses, seconds=seconds, stopped=log.stopped
        )

    def _make_network(self, example: PreparedInputs) -> TransformNet:
        shape = NetworkShape.for_rank(self.dim, channels=example.styles[0].shape[1])
        sizes = {name: getattr(self.options, name) for name in ("width", "levels", "blocks")}
        typed = {name: value for name, value in sizes.items() if value is not None}
        network = TransformNet(dataclasses.replace(shape, **typed))
        network.initialize(self.options.seed)
        network.set_style(example.styles)
        return network

    def _make_objective(self, example: PreparedInputs) -> TransferObjective:
        more: dict[str, Any] = {}
        if self.kind == "volumes":
            from convnd_tasks.modalities.volumes.paint_transfer import square_planes

            more["planes"] = tuple(square_planes(example.size, example.spacing))
        return TransferObjective(
            self.modality.options,
            spatial_dims=self.dim,
            in_channels=example.styles[0].shape[1],
            **more,
        )

    def _preview(
        self,
        network: TransformNet,
        output: Path,
        progress: Progress,
        losses: Mapping[str, Sequence[float]],
    ) -> None:
        """Write the network's result for the first content and the losses so far, if due."""
        from convnd_tasks.modalities.figures import draw_comparison
        from convnd_tasks.runtime.plots import loss_curve

        every = self.options.preview_every
        if not every or progress.step % every:
            return
        example = self.pool.example()
        content = example.content
        assert content is not None
        with torch.no_grad():
            source = content if example.initial is None else example.initial(content)
            device = progress.values.device
            result = example.decode(network(source.to(device)).cpu())
        pictures = {
            "preview.png": draw_comparison(example.decode(content), self.styles, result),
            "losses.svg": loss_curve({name: _averages(part) for name, part in losses.items()}),
        }
        for name, picture in pictures.items():
            path = output.with_name(f"{output.stem}-{name}")
            with atomic_path(path, overwrite=True) as temporary:
                temporary.write_bytes(picture)

    def _record(self, log: RunLog) -> dict[str, str]:
        """The record of the training, which the file holds."""
        losses, stopped = log.losses, log.stopped
        last = {name: sum(part := values[-50:]) / len(part) for name, values in losses.items()}
        shown = {
            name: [round(value, 5) for value in _means(values, 100)]
            for name, values in losses.items()
        }
        data = [name for name in self.contents if isinstance(name, str)]
        return {
            "Software": f"convnd {__version__}",
            "convnd:styles": json.dumps([input_entry(name) for name in self.names]),
            "convnd:data": f"{len(self.contents)} files" if data else "built-in",
            "convnd:versions": json.dumps(versions()),
            **{f"convnd:{name}": text for name, text in self.options.record().items()},
            "convnd:modality": self.kind,
            "convnd:dim": str(self.dim),
            "convnd:plan": json.dumps(dataclasses.asdict(self.plan)),
            "convnd:steps_taken": str(len(losses.get("total", ()))),
            "convnd:losses": json.dumps({name: round(value, 6) for name, value in last.items()}),
            "convnd:loss_course": json.dumps(shown),
            **({} if stopped is None else {"convnd:stopped": type(stopped).__name__}),
        }


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
    defaults = _DEFAULTS.get(dim, _DEFAULTS_ABOVE)
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


def _until(steps: Iterable[Progress], started: float, limit: float) -> Iterator[Progress]:
    """Yield the steps of a training up to a limit of time; time counts as work that is done.

    Args:
        steps: the steps.
        started: when the training began, by the monotonic clock.
        limit: seconds after which the training ends; 0 is no limit.
    """
    for progress in steps:
        share = (time.monotonic() - started) / limit if limit else 0.0
        done = max(progress.fraction_done, min(1.0, share))
        yield dataclasses.replace(progress, fraction_done=done)
        if limit and time.monotonic() - started >= limit:
            return


def _means(values: Sequence[float], count: int) -> list[float]:
    """Average the values of each of at most ``count`` equal parts of a sequence."""
    size = -(-len(values) // count)
    parts = [values[start : start + size] for start in range(0, len(values), max(1, size))]
    return [sum(part) / len(part) for part in parts]


def _averages(values: Sequence[float]) -> list[float]:
    """Average each value with at most 49 before it; crops differ much."""
    sums = [0.0, *itertools.accumulate(values)]
    spans = [(max(0, end - 50), end) for end in range(1, len(sums))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in spans]


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
    return TrainingJob(modality, grids, styles, contents, options)
